"""The main job, through the door and through kubectl, with the operator killed in the middle."""

import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from renderfleet_cluster.places import REPOSITORY
from renderfleet_demo import deploy, story

from .conftest import Fleet, Tenant


def test_the_story_of_the_demo(fleet: Fleet, tmp_path: Path) -> None:
    video = story.tell(fleet.api_url, deploy.admin_key(fleet.tools), tmp_path)

    assert video.stat().st_size > 10_000


def test_operator_killed_again_and_again_changes_nothing_and_pays_nothing_twice(
    fleet: Fleet, tenant: Tenant, tmp_path: Path
) -> None:
    """A face, a voice from a prompt, a video: four paid calls, with the operator's pod deleted in between, four times."""
    over = threading.Event()

    def kill_the_operator() -> None:
        # Once without a word, so that its Lease must run out; then again and again as an admin would.
        delete_operator("--grace-period=0", "--force")
        for _ in range(3):
            if not over.wait(12):
                delete_operator()

    def delete_operator(*how: str) -> None:
        component = "app.kubernetes.io/component=operator"
        fleet.kubectl("-n", deploy.SYSTEM_NAMESPACE, "delete", "pod", "-l", component, "--wait=false", *how)

    killer = threading.Thread(target=kill_the_operator, daemon=True)
    before = len(fleet.billed())
    client = tenant.client
    killer.start()
    try:
        face = client.call("POST", "/avatars/previews", {"prompt": "A patient lighthouse keeper", "count": 1})
        voice = client.call("POST", "/voice", {"prompt": "Two calm sentences about the sea", "voiceId": story.VOICE_ID})
        # Neither is finished: the video waits for both.
        video = client.call("POST", "/videos", {"avatarJobId": face["id"], "avatarIndex": 1, "voiceJobId": voice["id"]})
        ended = client.watch(video)
    finally:
        over.set()
        killer.join()

    story.download(ended["resultUrl"], tmp_path / "video.mp4")
    speech = client.call("GET", f"/jobs/{voice['id']}")["outputs"][0]
    story.check(tmp_path / "video.mp4", speech["durationSeconds"])
    paid = fleet.billed()[before:]
    assert sorted((one["vendor"], one["operation"]) for one in paid) == [
        ("did", "talks.create"),
        ("elevenlabs", "text-to-speech"),
        ("openai", "images.generations"),
        ("openai", "responses"),
    ]


def test_manifests_of_the_readme(fleet: Fleet, tenant: Tenant) -> None:
    manifests = [*yaml.safe_load_all((REPOSITORY / "docs/examples/talking-video.yaml").read_text())]
    kinds = [one["kind"] for one in manifests]
    assert kinds == ["AvatarRender", "VoiceJob", "VideoRender"]

    fleet.kubectl("-n", tenant.namespace, "apply", "-f", "-", stdin=yaml.safe_dump_all(manifests))
    fleet.kubectl("-n", tenant.namespace, "wait", "--for=condition=Finished", "--timeout=120s", "videorender/welcome")

    shown = json.loads(fleet.kubectl("-n", tenant.namespace, "get", "vr", "welcome", "-o", "json"))
    assert shown["status"]["phase"] == "Succeeded"
    assert {one["name"] for one in shown["status"]["outputs"]} == {"video", "poster"}
    table = fleet.kubectl("-n", tenant.namespace, "get", "vr", "-o", "wide")
    assert "Succeeded" in table and "did" in table
    story_told = fleet.kubectl("-n", tenant.namespace, "describe", "videorender", "welcome")
    assert "Events:" in story_told
    listed = tenant.client.call("GET", "/jobs")["items"]
    assert {one["name"] for one in listed} >= {"welcome"}, "renders made with kubectl are in the API too"


REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("unknown field", "/avatars/previews", {"prompt": "a sailor", "promt": "x"}, "promt"),
    ("short prompt", "/avatars/previews", {"prompt": "ab"}, "prompt"),
    ("two sources of a voice", "/voice", {"text": "hi", "prompt": "greet them", "voiceId": "v"}, "text and prompt"),
    (
        "two sources of audio",
        "/videos",
        {"avatarKey": "a.png", "audioKey": "b.mp3", "script": "hi", "voiceId": "v"},
        "audioKey",
    ),
]


@pytest.mark.parametrize(("path", "body", "named"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED])
def test_rest_refuses_and_names_the_field(tenant: Tenant, path: str, body: dict[str, Any], named: str) -> None:
    answer = tenant.client.http.post(path, json=body)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert named in json.dumps(answer.json())


def test_quota_is_a_wait_and_never_a_failure(fleet: Fleet) -> None:
    """One pod at a time for this tenant: the others queue, say why, and all succeed."""
    small = fleet.tenant(concurrency=1)
    jobs = [
        small.client.call("POST", "/voice", {"text": f"Number {number}.", "voiceId": story.VOICE_ID})
        for number in range(3)
    ]
    most, reasons = 0, set()
    until = time.monotonic() + 90
    while time.monotonic() < until:
        pods = json.loads(fleet.kubectl("-n", small.namespace, "get", "pods", "-o", "json"))["items"]
        most = max(most, sum(one["status"].get("phase") in {"Pending", "Running"} for one in pods))
        now = [small.client.call("GET", f"/jobs/{job['id']}") for job in jobs]
        reasons |= {one["reason"] for one in now if one["status"] == "Queued"}
        if all(one.get("finishedAt") for one in now):
            break
        time.sleep(0.3)

    assert [one["status"] for one in now] == ["Succeeded"] * 3
    assert [one["attempts"] for one in now] == [1] * 3
    assert most == 1
    assert "QuotaExhausted" in reasons


def test_runner_pods_hold_no_credentials_of_the_cluster(fleet: Fleet, tenant: Tenant) -> None:
    job = tenant.client.watch(tenant.client.call("POST", "/voice", {"text": "Safe.", "voiceId": story.VOICE_ID}))

    jobs = json.loads(fleet.kubectl("-n", tenant.namespace, "get", "jobs", "-o", "json"))["items"]
    pod = jobs[0]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    storage = yaml.safe_load((REPOSITORY / "charts/renderfleet-demo/renderfleet-values.yaml").read_text())["storage"]
    assert storage["secretAccessKey"] not in json.dumps(jobs), "presigned links only"
    assert job["outputs"][0]["name"] == "speech"


def test_tenants_user_may_manage_renders_and_nothing_else(fleet: Fleet, tenant: Tenant) -> None:
    fleet.kubectl(
        "patch",
        "rendertenant",
        tenant.name,
        "--type=merge",
        "-p",
        '{"spec":{"members":[{"kind":"User","name":"ann"}]}}',
    )

    def ann_may(*what: str) -> bool:
        command = [fleet.tools.path("kubectl"), "auth", "can-i", "--as=ann", "-n", tenant.namespace, *what]
        return subprocess.run(command, env=fleet.tools.environment, capture_output=True, check=False).returncode == 0

    until = time.monotonic() + 15
    while not ann_may("create", "videorenders.renderfleet.dev") and time.monotonic() < until:
        time.sleep(0.3)
    assert ann_may("create", "videorenders.renderfleet.dev")
    assert not ann_may("patch", "videorenders.renderfleet.dev", "--subresource=status")
    assert not ann_may("get", "secrets")
    assert not ann_may("create", "pods")
    assert not ann_may("create", "jobs.batch")
