"""Every command that goes by the cluster, from the words that are typed to what is in the API server afterwards."""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.command_line import CommandLine

from renderfleet_cli.cluster import ClusterDoor
from renderfleet_cli.door import Target
from renderfleet_cli.errors import Failed
from renderfleet_cli.views import Named
from renderfleet_client import Resource, resources
from renderfleet_cluster import programs
from renderfleet_cluster.places import REPOSITORY
from renderfleet_crds import kinds, meta

from .conftest import World
from .wire_cutter import wire_to

VOICE = ("submit", "voice", "--text", "Welcome aboard.", "--voice-id", "v1")
DEAD = {"phase": "DeadLettered", "reason": "AttemptsExhausted", "run": 0, "finishedAt": "2026-11-24T00:00:00Z"}


def names(out: str) -> list[str]:
    return [line.rpartition("/")[2] for line in out.splitlines()]


# submit


def test_submit_makes_the_object_that_the_flags_describe(run: CommandLine, world: World) -> None:
    ran = run(*VOICE, "--name", "greeting", "-l", "campaign=spring", "--stability", "0.5", "-n", world.namespace)

    assert ran.code == 0, ran.err
    made = world.get("VoiceJob", "greeting")
    assert made["spec"]["settings"] == {"stability": 0.5}
    assert made["spec"]["retryPolicy"]["maxAttempts"] == 3, "what is not given is left to the cluster's defaults"
    assert made["metadata"]["labels"] == {"campaign": "spring"}
    assert made["metadata"]["finalizers"] == [meta.FINALIZER], "which spares the operator a write"


def test_submit_makes_up_a_name(run: CommandLine, world: World) -> None:
    first = run(*VOICE, "-n", world.namespace, "-o", "json")
    second = run(*VOICE, "-n", world.namespace, "-o", "name")

    assert json.loads(first.out)["metadata"]["name"].startswith("vj-")
    assert second.out.startswith("voicejob.renderfleet.dev/vj-")


def test_the_example_manifest_once_and_once_more(run: CommandLine, world: World) -> None:
    example = str(REPOSITORY / "docs/examples/talking-video.yaml")

    first = run("submit", "-f", example, "-n", world.namespace)
    second = run("submit", "-f", example, "-n", world.namespace)

    assert first.code == 0, first.err
    assert world.get("VideoRender", "welcome")["spec"]["voiceRef"] == {"name": "greeting"}
    assert second.code == 1
    assert "already exists" in second.err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("voice", "--voice-id", "v1"), "give exactly one of text and prompt"),
        (("voice", "--text", "x"), "--voice-id: Required value"),
        (("avatar", "--prompt", "ab"), "--prompt: "),
        (("video", "--voice-ref", "v"), "give exactly one of avatarKey and avatarRef"),
        (("avatar", "--prompt", "a sailor", "--count", "11"), "--count: "),
        (("video", "--voice-ref", "v", "--avatar-id", "a1"), "--avatar-id names an avatar saved over REST"),
    ],
)
def test_what_the_crd_refuses_is_wrong_usage(
    run: CommandLine, world: World, words: tuple[str, ...], named: str
) -> None:
    ran = run("submit", *words, "-n", world.namespace)

    assert ran.code == 2
    assert named in ran.err
    assert "some validation rules were not checked" not in ran.err


def test_a_namespace_that_there_is_not(run: CommandLine, crds_installed: Path) -> None:
    ran = run(*VOICE, "-n", "rf-nobody")

    assert ran.code == 1
    assert "rf-nobody" in ran.err and "kubectl get rendertenants" in ran.err


# look


def test_list_by_kind_phase_label_provider_and_namespace(run: CommandLine, world: World) -> None:
    world.voice("new", labels={"campaign": "spring"})
    world.voice("failed", {"phase": "Failed", "reason": "Moderated"}, spec={"provider": "other"})
    here = ("-n", world.namespace, "-o", "name")

    assert sorted(names(run("list", *here).out)) == ["failed", "new"]
    assert names(run("list", *here, "--phase", "queued").out) == ["new"], "an object without a status is queued"
    assert names(run("list", *here, "--phase", "Failed").out) == ["failed"]
    assert names(run("list", *here, "--phase", "Failed", "--phase", "DeadLettered").out) == ["failed"]
    assert names(run("list", *here, "-l", "campaign in (spring,fall)").out) == ["new"], "all that kubectl takes"
    assert names(run("list", *here, "--provider", "other").out) == ["failed"]
    assert run("list", *here, "--kind", "video").out == ""
    assert "failed" in names(run("list", "-A", "-o", "name", "--provider", "other").out)
    table = run("list", "-n", world.namespace, "-o", "wide").out
    assert table.splitlines()[0].split()[:3] == ["KIND", "NAME", "PHASE"]


def test_what_is_printed_can_be_submitted_elsewhere(run: CommandLine, world: World) -> None:
    world.voice("greeting", {"phase": "Succeeded", "reason": "MediaReady"})
    printed = run("get", "greeting", "-n", world.namespace, "-o", "yaml").out
    moved = printed.replace("name: greeting", "name: again")

    ran = run("submit", "-f", "-", "-n", world.namespace, stdin=moved)

    assert ran.code == 0, ran.err
    assert world.get("VoiceJob", "again").get("status") is None


def test_one_name_of_two_kinds(run: CommandLine, world: World) -> None:
    world.voice("welcome")
    video = {
        "apiVersion": meta.API_VERSION, "kind": "VideoRender", "metadata": {"name": "welcome"},
        "spec": {"avatarRef": {"name": "a"}, "voiceRef": {"name": "welcome"}},
    }  # fmt: skip
    world.make(Resource.of(kinds.VIDEO_RENDER), video)

    both = run("get", "welcome", "-n", world.namespace, "-o", "name")
    refused = run("cancel", "welcome", "-n", world.namespace)
    one = run("cancel", "vr/welcome", "-n", world.namespace)

    assert both.out.splitlines() == ["voicejob.renderfleet.dev/welcome", "videorender.renderfleet.dev/welcome"]
    assert refused.code == 2
    assert "may mean voicejob/welcome or videorender/welcome" in refused.err
    assert one.code == 0, one.err
    assert world.get("VideoRender", "welcome")["spec"]["cancel"] is True
    assert world.get("VoiceJob", "welcome")["spec"].get("cancel") is False


def test_the_plugin_takes_the_flags_of_kubectl(run: CommandLine, world: World) -> None:
    world.voice("greeting")
    plugin = {"called": "/usr/local/bin/kubectl-renders"}

    assert run("list", "-n", world.namespace, "-o", "name", **plugin).out == "voicejob.renderfleet.dev/greeting\n"
    assert run("-n", world.namespace, "list", "-o", "name", **plugin).out == "voicejob.renderfleet.dev/greeting\n"
    assert run("list", "--kubeconfig", str(world.kubeconfig), "-n", world.namespace, **plugin).code == 0
    assert run("list", "--context", "nowhere", **plugin).code == 2
    assert "kubectl renders doctor" in run("why", "greeting", "-n", world.namespace, **plugin).text


def test_kubectl_itself_finds_the_plugin(world: World) -> None:
    world.voice("greeting")
    programs.ensure([programs.KUBECTL])
    installed = Path(sys.executable).parent
    command = [programs.KUBECTL.path("kubectl"), "renders", "list", "-n", world.namespace, "-o", "name"]

    ran = subprocess.run(
        command,
        env={**os.environ, "PATH": f"{installed}:{os.environ['PATH']}", "KUBECONFIG": str(world.kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.returncode, ran.stdout) == (0, "voicejob.renderfleet.dev/greeting\n"), ran.stderr


# watch


def beside(run: CommandLine, *steps: Callable[[], Any]) -> threading.Thread:
    """Do these one after the other, with a breath before each, once the program has said something."""
    run.has_spoken.clear()

    def work() -> None:
        assert run.has_spoken.wait(30)
        for step in steps:
            time.sleep(0.4)
            step()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_watch_shows_each_change_until_all_is_over(run: CommandLine, world: World) -> None:
    world.voice("one")
    world.voice("two", {"phase": "Running", "reason": "Started", "progress": 10})
    hands = World(world.kubeconfig, world.namespace)
    other = beside(
        run,
        lambda: hands.status("VoiceJob", "one", {"phase": "Running", "reason": "Started", "progress": 40}),
        lambda: hands.status("VoiceJob", "one", {"phase": "Succeeded", "reason": "MediaReady", "progress": 100}),
        lambda: hands.status("VoiceJob", "two", {"phase": "Failed", "reason": "Moderated", "message": "not this text"}),
    )

    ran = run("watch", "-n", world.namespace, "--timeout", "30")
    other.join()
    hands.close()

    assert ran.code == 1
    assert "voicejob/two ended as Failed: not this text (1 of 2)" in ran.err
    of_one = [line.split("voicejob/one  ", 1)[1] for line in ran.out.splitlines() if "voicejob/one" in line]
    assert of_one == ["Queued  0 %", "Running  40 %  Started", "Succeeded  100 %  MediaReady"]


def test_submit_and_wait(run: CommandLine, world: World) -> None:
    hands = World(world.kubeconfig, world.namespace)
    output = {
        "name": "speech",
        "key": "media/x/speech.mp3",
        "contentType": "audio/mpeg",
        "bytes": 1,
        "sha256": "0" * 64,
    }
    other = beside(
        run,
        lambda: None,
        lambda: hands.status(
            "VoiceJob", "greeting", {"phase": "Succeeded", "reason": "MediaReady", "outputs": [output]}
        ),
    )

    ran = run(*VOICE, "--name", "greeting", "-n", world.namespace, "--wait", "--timeout", "30")
    other.join()
    hands.close()

    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1] == "voicejob/greeting: media/x/speech.mp3"


def test_a_render_that_is_deleted_under_the_watch(run: CommandLine, world: World) -> None:
    world.voice("greeting")
    hands = World(world.kubeconfig, world.namespace)
    other = beside(run, lambda: hands.delete(Resource.of(kinds.VOICE_JOB), "greeting"))

    ran = run("watch", "greeting", "-n", world.namespace, "--timeout", "30")
    other.join()
    hands.close()

    assert ran.code == 1
    assert "deleted" in ran.out


def test_watch_goes_on_after_the_connection_broke(run: CommandLine, world: World, tmp_path: Path) -> None:
    """What happened while nobody listened is not missed: after a break the list is read anew."""
    world.voice("greeting")
    hands = World(world.kubeconfig, world.namespace)
    config = yaml.safe_load(world.kubeconfig.read_text())
    (entry,) = [one["cluster"] for one in config["clusters"]]
    with wire_to(entry["server"]) as wire:
        entry |= {"server": wire.url, "insecure-skip-tls-verify": True}
        entry.pop("certificate-authority-data", None)
        entry.pop("certificate-authority", None)
        file = tmp_path / "wired"
        file.write_text(yaml.safe_dump(config))
        other = beside(
            run,
            lambda: hands.status("VoiceJob", "greeting", {"phase": "Running", "reason": "Started", "progress": 20}),
            wire.cut,
            lambda: hands.status(
                "VoiceJob", "greeting", {"phase": "Succeeded", "reason": "MediaReady", "progress": 100}
            ),
        )

        ran = run("watch", "greeting", "-n", world.namespace, "--kubeconfig", str(file), "--timeout", "30")
        other.join()
        hands.close()

    assert ran.code == 0, ran.err
    assert wire.connections >= 2
    assert ran.out.splitlines()[-1].endswith("Succeeded  100 %  MediaReady")


def test_watching_can_be_given_up(run: CommandLine, world: World) -> None:
    world.voice("greeting")

    ran = run("watch", "greeting", "-n", world.namespace, "--timeout", "0.5")

    assert ran.code == 1
    assert "voicejob/greeting not over in time" in ran.err


# change


def test_retry_raises_redrive_once_however_often_it_is_asked(run: CommandLine, world: World) -> None:
    world.voice("dead", DEAD, spec={"cancel": True})

    assert run("retry", "dead", "-n", world.namespace).code == 0
    assert run("retry", "dead", "-n", world.namespace).code == 0

    spec = world.get("VoiceJob", "dead")["spec"]
    assert (spec["redrive"], spec["cancel"]) == (1, False)
    assert "retry asked" in run("list", "-n", world.namespace).out


def test_retry_and_cancel_of_what_they_are_not_for(run: CommandLine, world: World) -> None:
    world.voice("running", {"phase": "Running"})
    world.voice("over", {"phase": "Succeeded", "reason": "MediaReady"})

    retried, cancelled = run("retry", "running", "-n", world.namespace), run("cancel", "over", "-n", world.namespace)

    assert retried.code == 1
    assert "only what ended badly or is held can be tried again" in retried.err
    assert cancelled.code == 1
    assert "is over: Succeeded" in cancelled.err


def test_another_object_of_the_same_name_is_left_alone(world: World) -> None:
    """Between looking and changing, somebody deleted the render and made a new one of that name."""
    door = ClusterDoor(Target(kubeconfig=str(world.kubeconfig), namespace=world.namespace))
    try:
        world.voice("dead", DEAD)
        (seen,) = door.find(Named("dead"))
        world.delete(Resource.of(kinds.VOICE_JOB), "dead")
        world.voice("dead", DEAD)

        with pytest.raises(Failed, match="changed or replaced"):
            door.retry(seen)
    finally:
        door.close()
    assert world.get("VoiceJob", "dead")["spec"]["redrive"] == 0


def test_redrive_by_selector(run: CommandLine, world: World) -> None:
    world.voice("a", DEAD, labels={"campaign": "spring"})
    world.voice("b", DEAD)
    world.voice("c", {"phase": "Failed", "reason": "Moderated"}, labels={"campaign": "spring"})
    here = ("-l", "campaign=spring", "-n", world.namespace)

    looked = run("redrive", *here, "--dry-run")
    unasked = run("redrive", *here)
    done = run("redrive", *here, "--yes")
    again = run("redrive", *here, "--yes")

    assert looked.code == 0
    assert [line.split()[1] for line in looked.out.splitlines()] == ["NAME", "a"]
    assert unasked.code == 2
    assert done.out.splitlines()[-1] == "voicejob.renderfleet.dev/a is tried again"
    assert [world.get("VoiceJob", name)["spec"]["redrive"] for name in "abc"] == [1, 0, 0]
    assert "No dead-lettered render fits." in again.err, "what is on its way already is not asked again"


def test_redrive_all_of_one_tenant(run: CommandLine, world: World) -> None:
    tenant = world.namespace.removeprefix("rf-")
    world.cluster_object("RenderTenant", tenant, {}, {"namespace": world.namespace})
    world.voice("a", DEAD)

    ran = run("redrive", "--all-dead", "--tenant", tenant, "--yes")

    assert ran.code == 0, ran.err
    assert world.get("VoiceJob", "a")["spec"]["redrive"] == 1


# explain


def test_why_knows_quota_provider_and_budget(run: CommandLine, world: World) -> None:
    tenant = world.namespace.removeprefix("rf-")
    provider = f"p-{uuid.uuid4().hex[:6]}"
    world.cluster_object(
        "RenderProvider",
        provider,
        {"vendor": "elevenlabs", "baseUrl": "https://x.test", "secretRef": {"name": "s"}},
        {"circuit": "Open", "circuitUntil": "2099-01-01T00:00:00Z", "lastError": "503 overloaded"},
    )
    world.cluster_object(
        "RenderTenant",
        tenant,
        {"monthlyBudgetMicros": 1_000_000},
        {"namespace": world.namespace, "spentMicros": 999_000},
    )
    world.make(resources.RESOURCE_QUOTAS, {"metadata": {"name": meta.QUOTA_NAME}, "spec": {"hard": {"pods": "3"}}})
    waiting = {"phase": "Queued", "queue": {"since": "2026-11-24T00:00:00Z", "position": 2}}
    world.voice("circuit", {**waiting, "reason": "CircuitOpen"}, spec={"provider": provider})
    world.voice("budget", {**waiting, "reason": "BudgetExhausted"})
    world.voice("quota", {**waiting, "reason": "QuotaExhausted"})
    here = ("-n", world.namespace)

    assert "its last error was: 503 overloaded" in run("why", "circuit", *here).text
    assert "used up (0.999 USD of 1.00 USD)" in run("why", "budget", *here).text
    assert "of the 3 runner pods it may have at a time" in run("why", "quota", *here).text
    assert "It is number 2 in the line" in run("why", "quota", *here).text


def test_cost_and_top_name_tenants(run: CommandLine, world: World) -> None:
    tenant = world.namespace.removeprefix("rf-")
    world.cluster_object(
        "RenderTenant",
        tenant,
        {"weight": 250, "monthlyBudgetMicros": 5_000_000},
        {"namespace": world.namespace, "spentMicros": 231_500, "budgetMonth": "2026-11"},
    )
    world.voice("done", {"phase": "Succeeded", "reason": "MediaReady", "cost": {"actualMicros": 31_500}})
    world.voice("waits", {"phase": "Queued", "reason": "QuotaExhausted", "cost": {"estimatedMicros": 20}})
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j", "labels": {meta.KIND_LABEL: "VoiceJob", meta.POOL_LABEL: "postprocess"}},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "r", "image": "x"}]}}},
    }
    world.make(resources.JOBS, job)

    cost, top = run("cost", "-n", world.namespace), run("top")

    assert f"{tenant}   VoiceJob         2           1   0.0315 USD   0.00002 USD" in cost.out
    assert f"{tenant}   2026-11   0.2315 USD   5.00 USD" in cost.out
    line = next(one for one in top.out.splitlines() if one.startswith(tenant))
    assert "250" in line and "QuotaExhausted" in line


def test_logs_of_pods_that_are_gone(run: CommandLine, world: World) -> None:
    attempt = {
        "number": 1, "stage": "synthesize", "startedAt": "2026-11-24T00:00:00Z", "endedAt": "2026-11-24T00:00:09Z",
        "category": "outage", "code": "503", "message": "overloaded", "charged": "false",
    }  # fmt: skip
    world.voice("failed", {"phase": "DeadLettered", "attempts": [attempt]})
    world.voice("new")

    gone, early = run("logs", "failed", "-n", world.namespace), run("logs", "new", "-n", world.namespace)

    assert gone.code == early.code == 1
    assert "no runner pod of voicejob/failed is there any more" in gone.err
    assert "synthesize         1   9s     outage      503   false     overloaded" in gone.err
    assert "yet" in early.err and "`why`" in early.err


# rights


RENDERS_ONLY = [
    {
        "apiGroups": [meta.GROUP],
        "resources": ["avatarrenders", "voicejobs", "videorenders"],
        "verbs": ["get", "list", "watch", "create", "patch", "update", "delete"],
    }
]


def test_a_tenants_user_gets_along_with_rights_on_renders_alone(run: CommandLine, world: World, tmp_path: Path) -> None:
    ann = str(world.login_of("ann", RENDERS_ONLY, tmp_path / "ann"))
    mine = ("--kubeconfig", ann, "-n", world.namespace)
    world.voice("greeting", {"phase": "Queued", "reason": "QuotaExhausted"})

    assert run("list", *mine, "-o", "name").out == "voicejob.renderfleet.dev/greeting\n"
    assert "as many runner pods as it may have" in run("why", "greeting", *mine).text
    assert run("top", "--one-namespace", *mine).code == 0
    assert run("cost", *mine).code == 0
    assert run("cancel", "greeting", *mine).code == 0
    everywhere = run("list", "-A", *mine)
    assert everywhere.code == 1
    assert "cannot list resource" in everywhere.err and "kubectl auth can-i" in everywhere.err
    logs = run("logs", "greeting", *mine)
    assert logs.code == 1
    assert "pods" in logs.err
    doctor = run("doctor", *mine, "-o", "json")
    found = {one["what"]: one["verdict"] for one in json.loads(doctor.out)["findings"]}
    assert found["cluster"] == "ok"
    assert found["kinds"] == "skip", "what may not be looked at is said to be so, not called broken"
    assert doctor.code == 0


def test_credentials_that_are_refused(run: CommandLine, world: World, tmp_path: Path) -> None:
    config = yaml.safe_load(world.kubeconfig.read_text())
    config["users"] = [{"name": one["name"], "user": {"token": "made-up"}} for one in config["users"]]
    file = tmp_path / "stranger"
    file.write_text(yaml.safe_dump(config))

    ran = run("list", "--kubeconfig", str(file))

    assert ran.code == 2
    assert "does not accept these credentials" in ran.err


def test_a_cluster_that_is_not_there(run: CommandLine, world: World, tmp_path: Path) -> None:
    config = yaml.safe_load(world.kubeconfig.read_text())
    for one in config["clusters"]:
        one["cluster"]["server"] = "https://127.0.0.1:1"
    file = tmp_path / "nowhere"
    file.write_text(yaml.safe_dump(config))

    listed, examined = run("list", "--kubeconfig", str(file)), run("doctor", "--kubeconfig", str(file))

    assert listed.code == examined.code == 3
    assert "does not answer" in listed.err


# doctor


def test_doctor_knows_every_kind_that_was_installed(run: CommandLine, world: World) -> None:
    found = {one["what"]: one for one in json.loads(run("doctor", "-o", "json").out)["findings"]}

    for kind in kinds.ALL:
        assert found[f"kind {kind.kind}"]["verdict"] == "ok", found[f"kind {kind.kind}"]
    assert found["cluster"]["detail"].startswith("Kubernetes v1.")


def operator_deployment(world: World, account: str) -> None:
    labels = {"app.kubernetes.io/name": "renderfleet", "app.kubernetes.io/component": "operator"}
    world.make(
        resources.DEPLOYMENTS,
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "renderfleet-operator", "labels": labels},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"serviceAccountName": account, "containers": [{"name": "operator", "image": "x"}]},
                },
            },
        },
    )


def test_doctor_finds_what_is_broken_and_says_what_to_do(run: CommandLine, world: World) -> None:
    operator_deployment(world, "operator")
    provider = f"p-{uuid.uuid4().hex[:6]}"
    world.cluster_object(
        "RenderProvider",
        provider,
        {"vendor": "did", "baseUrl": "https://x.test", "secretRef": {"name": "vendor-x"}},
        {"circuit": "Closed"},
    )
    try:
        before = {one["what"]: one for one in json.loads(run("doctor", "-o", "json").out)["findings"]}
        world.make(resources.SECRETS, {"metadata": {"name": "vendor-x"}, "stringData": {"api-key": "very-secret"}})
        ran = run("doctor", "-o", "json")
        after = {one["what"]: one for one in json.loads(ran.out)["findings"]}
        printed = run("doctor")
    finally:
        world.delete(resources.DEPLOYMENTS, "renderfleet-operator")
        world.delete(Resource.of(kinds.RENDER_PROVIDER), provider)

    assert before["operator"]["verdict"] == "fail"
    assert before["operator's rights"]["verdict"] == "fail"
    assert "system:serviceaccount:" in before["operator's rights"]["detail"]
    assert before[f"provider {provider}"]["verdict"] == "fail"
    assert before[f"provider {provider}"]["cure"].startswith(
        f"kubectl -n {world.namespace} create secret generic vendor-x"
    )
    assert after[f"provider {provider}"]["verdict"] == "ok"
    assert printed.code == 1
    assert "very-secret" not in ran.out + printed.out
    assert "FAIL  operator's rights" in printed.out and "fix: helm upgrade" in printed.out


def test_doctor_is_content_with_an_operator_that_may_do_its_work(run: CommandLine, world: World) -> None:
    from renderfleet_cli.checkup import OPERATOR_RIGHTS

    operator_deployment(world, "operator")
    name = f"operator-{uuid.uuid4().hex[:6]}"
    rbac = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [one.group], "resources": [one.resource], "verbs": [one.verb]} for one in OPERATOR_RIGHTS]
    world.make(
        Resource(rbac, "v1", "clusterroles", namespaced=False),
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
    )
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": world.namespace}],
    }
    world.make(Resource(rbac, "v1", "clusterrolebindings", namespaced=False), binding)
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "renderfleet-operator"},
        "spec": {"holderIdentity": "pod-1", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"},
    }
    world.make(resources.LEASES, lease)
    try:
        found = {one["what"]: one for one in json.loads(run("doctor", "-o", "json").out)["findings"]}
    finally:
        world.delete(resources.DEPLOYMENTS, "renderfleet-operator")
        world.delete(resources.LEASES, "renderfleet-operator")

    assert found["operator's rights"]["verdict"] == "ok"
    assert found["operator's lease"]["verdict"] == "fail", "it has not been heard of since January"


def test_doctor_finds_an_object_that_cannot_go(run: CommandLine, world: World) -> None:
    world.voice("kept", {"phase": "Succeeded", "finishedAt": "2026-01-01T00:00:00Z"}, finalizers=[meta.FINALIZER])

    found = {one["what"]: one for one in json.loads(run("doctor", "-o", "json").out)["findings"]}

    assert found["finalizers"]["verdict"] == "fail"
    assert "kubectl -n rf-" in found["finalizers"]["cure"]


# ask first, and the line


def test_a_dry_run_is_checked_by_the_api_server_and_priced(run: CommandLine, world: World) -> None:
    name = f"eleven-{world.namespace}"
    prices = [{"unit": "characters", "micros": 30}]
    spec = {"vendor": "elevenlabs", "baseUrl": "https://v.example", "secretRef": {"name": "s"}, "prices": prices}
    world.cluster_object("RenderProvider", name, spec)

    told = run(*VOICE, "--provider", name, "--name", "greeting", "--dry-run", "-n", world.namespace)
    unknown = run(*VOICE, "--provider", "nobody", "--dry-run", "-n", world.namespace)
    wrong = run("submit", "avatar", "--prompt", "a sailor", "--count", "11", "--dry-run", "-n", world.namespace)

    assert told.out == "voicejob.renderfleet.dev/greeting is valid: about 0.00045 USD\n", told.err
    assert "cost not known" in unknown.out
    assert (wrong.code, "count" in wrong.err) == (2, True)
    assert run("list", "-n", world.namespace, "-o", "name").out == ""


def test_a_provider_is_held_and_released(run: CommandLine, world: World) -> None:
    name = f"did-{world.namespace}"
    spec = {"vendor": "did", "baseUrl": "https://v.example", "secretRef": {"name": "s"}}
    world.cluster_object("RenderProvider", name, spec)

    held = run("hold", name, "-n", world.namespace)
    assert held.out == f"renderprovider.renderfleet.dev/{name} held\n", held.err
    assert world.do(lambda c: c.get(Resource.of(kinds.RENDER_PROVIDER), name))["spec"]["hold"] is True
    assert run("release", name, "-n", world.namespace).code == 0
    spec = world.do(lambda c: c.get(Resource.of(kinds.RENDER_PROVIDER), name))["spec"]
    assert spec["hold"] is False
    assert spec["releasedAt"]
    assert run("hold", "nobody-at-all", "-n", world.namespace).code == 1


def test_a_priority_moves_what_waits(run: CommandLine, world: World) -> None:
    world.voice("waits", {"phase": "Queued", "reason": "BehindOthers"})
    world.voice("over", {"phase": "Succeeded", "reason": "MediaReady", "finishedAt": "2026-11-24T00:00:00Z"})

    assert run("priority", "500", "waits", "-n", world.namespace).code == 0
    assert world.get("VoiceJob", "waits")["spec"]["priority"] == 500
    assert run("priority", "500", "over", "-n", world.namespace).code == 1
    assert run("priority", "1001", "waits", "-n", world.namespace).code == 2
