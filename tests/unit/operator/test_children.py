"""The objects we make: golden copies for reviewers, and the rules they must keep."""

import json
import os
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from renderfleet_crds import meta
from renderfleet_crds.contract import TASK_ENV, TERMINATION_MESSAGE_PATH, ExitCode, Stage, Task, unpack_task
from renderfleet_operator.children import names, tenant
from renderfleet_operator.children.job import Shape, build_job, is_ours
from renderfleet_operator.children.task import Sources, build_task
from renderfleet_operator.decide.view import Render

from .builders import UID, render, running, waiting

EXPECTED = Path(__file__).parents[2] / "data" / "expected" / "operator"
PROVIDERS: dict[str, dict[str, Any]] = {
    "openai": {"vendor": "openai", "baseUrl": "https://openai.test/v1", "options": {"model": "m"}},
    "elevenlabs": {"vendor": "elevenlabs", "baseUrl": "https://eleven.test", "callTimeoutSeconds": 60},
    "did": {"vendor": "did", "baseUrl": "https://did.test"},
}


class PlainSign:
    """Addresses that show what was signed."""

    def put(self, key: str, content_type: str | None = None, *, once: bool = False) -> str:
        return f"https://s3.test/{key}?put{'&once' if once else ''}"

    def get(self, key: str, audience: Literal["internal", "vendor"] = "internal") -> str:
        return f"https://s3.test/{key}?{audience}"


CASES: dict[str, tuple[Render, Stage, Sources]] = {
    "generate": (render(status=running()), Stage.GENERATE, Sources(PROVIDERS)),
    "synthesize-prompt": (
        render(
            "VoiceJob", running("VoiceJob"), spec={"text": None, "prompt": "about boats", "scriptProvider": "openai"}
        ),
        Stage.SYNTHESIZE,
        Sources(PROVIDERS),
    ),
    "start": (
        render("VideoRender", running("VideoRender", avatarKey="media/rf-acme/a.png", audioKey="media/rf-acme/a.mp3")),
        Stage.START,
        Sources(PROVIDERS),
    ),
    "finalize": (
        render("VideoRender", waiting(audioSeconds=2.5)),
        Stage.FINALIZE,
        Sources(PROVIDERS, result_url="https://vendor.test/v.mp4"),
    ),
}
SHAPE = Shape(
    image="renderfleet/runner:1",
    pools={
        "video-gen": {
            "nodeSelector": {"gpu": "no"},
            "resources": {"requests": {"cpu": "100m"}},
            "priorityClassName": "low",
        }
    },
)


def job_of(case: str) -> dict[str, Any]:
    one, stage, sources = CASES[case]
    task = build_task(one, stage, 1, sources, PlainSign())
    return build_job(one, stage, 1, task=task, shape=SHAPE)


def _compare(name: str, made: Any) -> None:
    """UPDATE_DATA=1 rewrites the golden copies; review them like code."""
    file = EXPECTED / f"{name}.yaml"
    text = yaml.safe_dump(made, sort_keys=False, width=120)
    if os.environ.get("UPDATE_DATA"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize("case", CASES)
def test_the_job_is_as_it_was(case: str) -> None:
    job = job_of(case)
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["env"][0]["value"] = json.loads(unpack_task(container["env"][0]["value"]))

    _compare(f"job-{case}", job)


@pytest.mark.parametrize("case", CASES)
def test_the_task_is_what_the_contract_says(case: str) -> None:
    one, stage, sources = CASES[case]

    task = Task.model_validate(build_task(one, stage, 1, sources, PlainSign()))

    assert task.stage is stage
    assert (task.uid, task.attempt) == (UID, 1)
    assert len({slot.name for slot in task.outputs}) == len(task.outputs)


@pytest.mark.parametrize("case", CASES)
def test_the_pod_is_restricted_and_carries_no_credentials_of_kubernetes(case: str) -> None:
    pod = job_of(case)["spec"]["template"]["spec"]
    container = pod["containers"][0]

    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["terminationMessagePath"] == TERMINATION_MESSAGE_PATH
    assert [one["name"] for one in container["env"]] == [TASK_ENV]


@pytest.mark.parametrize(
    ("case", "keys"),
    [("generate", ["openai"]), ("synthesize-prompt", ["elevenlabs", "openai"]), ("start", ["did"]), ("finalize", [])],
)
def test_a_key_is_mounted_only_where_its_vendor_is_called(case: str, keys: list[str]) -> None:
    volumes = job_of(case)["spec"]["template"]["spec"]["volumes"]

    mounted = [
        source["secret"]["items"][0]["path"]
        for volume in volumes
        for source in (volume.get("projected") or {}).get("sources", ())
    ]
    assert mounted == keys


def test_a_script_that_was_paid_for_is_spoken_and_not_written_again() -> None:
    spec = {"text": None, "prompt": "about boats", "scriptProvider": "openai"}
    one = render("VoiceJob", running("VoiceJob", script="Boats are fine."), spec=spec)

    params = build_task(one, Stage.SYNTHESIZE, 2, Sources(PROVIDERS), PlainSign())["params"]

    assert (params["text"], params.get("prompt")) == ("Boats are fine.", None)


def test_a_job_is_one_attempt() -> None:
    spec = job_of("generate")["spec"]

    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed")
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    by_action = {rule["action"]: rule for rule in spec["podFailurePolicy"]["rules"]}
    assert by_action["FailJob"]["onExitCodes"]["values"] == [ExitCode.REFUSED, ExitCode.CLAIM_LOST]
    assert by_action["Ignore"]["onPodConditions"][0]["type"] == "DisruptionTarget"


def test_another_pool_may_be_chosen_for_a_stage() -> None:
    one, stage, sources = CASES["generate"]
    shape = Shape(image="x", pools=SHAPE.pools, stage_pools={"generate": "video-gen"})

    job = build_job(one, stage, 1, task=build_task(one, stage, 1, sources, PlainSign()), shape=shape)

    assert job["metadata"]["labels"][meta.POOL_LABEL] == "video-gen"
    assert job["spec"]["template"]["spec"]["nodeSelector"] == {"gpu": "no"}


def test_a_job_is_ours_by_owner_stage_and_attempt_not_by_its_name() -> None:
    one, stage, _ = CASES["generate"]
    job = job_of("generate")
    assert is_ours(job, one, stage, 1)

    assert not is_ours(job, one, stage, 2)
    assert not is_ours(job, one, Stage.FINALIZE, 1)
    assert not is_ours({"metadata": {**job["metadata"], "ownerReferences": [{"uid": "other"}]}}, one, stage, 1)


object_names = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,250}[a-z0-9])?", fullmatch=True)


@given(object_names, st.integers(0, 1000), st.integers(1, 1000))
def test_job_names_fit_and_tell_everything_apart(name: str, run: int, number: int) -> None:
    def made(uid: str = UID, **changes: Any) -> str:
        return names.job_name(
            "VoiceJob", name, uid, **{"stage": "synthesize", "run": run, "attempt": number, **changes}
        )

    assert len(made()) <= 63
    assert names.label_safe(made())
    assert made() == made()
    others = {made(), made("another-uid"), made(run=run + 1), made(attempt=number + 1), made(stage="start")}
    assert len(others) == 5


@given(object_names)
def test_the_name_of_an_owned_voice_fits(name: str) -> None:
    assert len(names.voice_child(name, UID)) <= 63
    assert names.label_safe(names.voice_child(name, UID))


TENANT: dict[str, Any] = {
    "apiVersion": meta.API_VERSION,
    "kind": "RenderTenant",
    "metadata": {"name": "acme", "uid": "t1"},
    "spec": {
        "concurrency": 3,
        "maxObjectsPerKind": 100,
        "members": [{"kind": "User", "name": "ann"}, {"kind": "ServiceAccount", "name": "ci"}],
    },
}


def test_what_a_tenant_gets_is_as_it_was() -> None:
    made = [
        tenant.namespace(TENANT),
        tenant.quota(TENANT, with_concurrency=True),
        tenant.limit_range(TENANT),
        tenant.network_policy(TENANT),
        tenant.role(TENANT),
        tenant.role_binding(TENANT),
    ]

    _compare("tenant", made)


def test_members_reach_neither_secrets_nor_pods_nor_a_status() -> None:
    resources = {one for rule in tenant.role(TENANT)["rules"] for one in rule["resources"]}

    assert not {one for one in resources if "/" in one or one in ("secrets", "pods", "jobs", "*")}


@pytest.mark.parametrize(
    ("count", "written"), [(0, "0"), (4, "4"), (1000, "1k"), (1500, "1500"), (5000, "5k"), (2_000_000, "2M")]
)
def test_numbers_are_spelled_as_the_api_server_spells_them(count: int, written: str) -> None:
    assert tenant.quantity(count) == written
    assert tenant.count_of(written) == count


def test_an_edited_quota_is_left_alone() -> None:
    assert "pods" not in tenant.quota(TENANT, with_concurrency=False)["spec"]["hard"]


@pytest.mark.parametrize(
    ("actual", "wanted", "expected"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": [{"x": 1, "y": 2}]}, {"a": [{"x": 1}]}, True),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({}, {"a": {}}, False),
    ],
)
def test_covering_means_that_nothing_wanted_is_missing(actual: Any, wanted: Any, expected: bool) -> None:
    assert tenant.covers(actual, wanted) is expected
