"""Each finding of `doctor`: what is well, what is not, and that what is not comes with a cure."""

import copy
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from renderfleet_cli import checkup
from renderfleet_cli.checkup import Finding
from renderfleet_cli.views import Provider, Tenant
from renderfleet_crds import kinds, meta, openapi
from renderfleet_crds.phases import Phase

from .builders import NOW, ago, render, stamp

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ({"major": "1", "minor": "37", "gitVersion": "v1.37.2"}, "ok"),
        ({"major": "1", "minor": "31+", "gitVersion": "v1.31.9-gke"}, "ok"),
        ({"major": "1", "minor": "30", "gitVersion": "v1.30.1"}, "fail"),
        ({}, "warn"),
    ],
)
def test_version_of_kubernetes(answer: dict[str, str], verdict: str) -> None:
    assert checkup.kubernetes_version(answer).verdict == verdict


def test_the_chart_asks_for_the_same_kubernetes() -> None:
    chart = yaml.safe_load((REPOSITORY / "charts/renderfleet/Chart.yaml").read_text())

    assert chart["kubeVersion"].startswith(">=" + ".".join(map(str, checkup.OLDEST_KUBERNETES)))


def installed(kind: kinds.ResourceKind) -> dict[str, Any]:
    body = copy.deepcopy(openapi.crd(kind))
    body["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
    return body


@pytest.mark.parametrize("kind", kinds.ALL, ids=lambda kind: kind.kind)
def test_a_kind_as_this_program_knows_it(kind: kinds.ResourceKind) -> None:
    assert checkup.crd("x", installed(kind), openapi.crd(kind)).verdict == "ok"


def test_a_kind_that_is_not_there_is_older_or_is_not_served() -> None:
    wanted = openapi.crd(kinds.VOICE_JOB)
    older = installed(kinds.VOICE_JOB)
    del older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["seed"]
    unserved = installed(kinds.VOICE_JOB)
    unserved["spec"]["versions"][0]["served"] = False
    fresh = installed(kinds.VOICE_JOB)
    fresh["status"] = {}

    assert checkup.crd("voicejobs.renderfleet.dev", None, wanted) == Finding(
        "fail",
        "kind VoiceJob",
        "voicejobs.renderfleet.dev is not installed",
        "helm upgrade with this version's chart, or: kubectl apply --server-side -f crds/manifests/",
    )
    assert checkup.crd("x", older, wanted).detail == "is of another version than this program: spec.seed"
    assert checkup.crd("x", older, wanted).verdict == "warn"
    assert checkup.crd("x", unserved, wanted).verdict == "fail"
    assert checkup.crd("x", fresh, wanted).verdict == "fail"


def deployment(ready: int | None, wanted: int) -> dict[str, Any]:
    return {
        "metadata": {"name": "renderfleet-operator", "namespace": "renderfleet-system"},
        "spec": {"replicas": wanted, "template": {"spec": {"containers": [{"image": "renderfleet/operator:dev"}]}}},
        "status": {} if ready is None else {"readyReplicas": ready},
    }


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([], "warn"),
        ([deployment(1, 1)], "ok"),
        ([deployment(1, 2)], "warn"),
        ([deployment(None, 1)], "fail"),
        ([deployment(None, 0)], "fail"),
    ],
)
def test_deployments(found: list[dict[str, Any]], verdict: str) -> None:
    judged = checkup.deployment("operator", found, "kubectl -n {namespace} logs deployment/{name}")

    assert judged.verdict == verdict
    assert bool(judged.cure) == (verdict != "ok")


def lease(age_seconds: float, holder: str | None = "pod-1") -> dict[str, Any]:
    spec = {"holderIdentity": holder, "renewTime": stamp(ago(age_seconds)), "leaseDurationSeconds": 15}
    return {"metadata": {"name": "renderfleet-operator", "namespace": "renderfleet-system"}, "spec": spec}


@pytest.mark.parametrize(
    ("leases", "verdict"),
    [
        ([], "fail"),
        ([lease(3)], "ok"),
        ([lease(46)], "fail"),
        ([lease(3, None)], "fail"),
        ([lease(900), lease(2)], "ok"),
    ],
)
def test_somebody_leads(leases: list[dict[str, Any]], verdict: str) -> None:
    assert checkup.lease(leases, NOW).verdict == verdict


def test_rights_that_lack_are_named_as_kubectl_takes_them() -> None:
    denied = [one for one in checkup.OPERATOR_RIGHTS if one.verb == "patch"]

    judged = checkup.rights("system:serviceaccount:s:o", denied)

    assert judged.verdict == "fail"
    assert "may not patch avatarrenders.renderfleet.dev, " in judged.detail
    assert judged.detail.endswith(f"and {len(denied) - 4} more")
    assert checkup.rights("x", []).verdict == "ok"


def test_the_chart_grants_every_right_that_doctor_asks_for() -> None:
    """Else doctor would find fault with an operator that was installed as it should be."""
    text = (REPOSITORY / "charts/renderfleet/templates/operator-rbac.yaml").read_text()
    lines = [line for line in text.splitlines() if not re.match(r"\s*(labels: )?\{\{", line)]
    documents = yaml.safe_load_all(re.sub(r"\{\{[^}]*\}\}", "x", "\n".join(lines)))
    rules = {one["kind"]: one["rules"] for one in documents if one and "rules" in one}

    def grants(rule: dict[str, Any], right: checkup.Right) -> bool:
        resources = rule["resources"]
        return (
            right.group in rule["apiGroups"]
            and (right.resource in resources or "*" in resources)
            and right.verb in rule["verbs"]
        )

    def granted(right: checkup.Right) -> bool:
        scopes = ["Role", "ClusterRole"] if right.at_home_only else ["ClusterRole"]
        return any(grants(rule, right) for scope in scopes for rule in rules[scope])

    assert [one.words for one in checkup.OPERATOR_RIGHTS if not granted(one)] == []


@pytest.mark.parametrize(
    ("status", "body", "judged"),
    [
        (200, {"database": "ok", "kubernetes": "ok", "storage": "ok"}, {"database": "ok", "storage": "ok"}),
        (200, {"database": "ok", "kubernetes": "ok", "storage": "away"}, {"database": "ok", "storage": "fail"}),
        (503, {"database": "does not answer", "storage": "ok"}, {"database": "fail", "storage": "ok"}),
        (200, {"database": "ok", "kubernetes": "answers 403"}, {"database": "ok", "kubernetes": "fail"}),
    ],
)
def test_readiness_of_what_the_api_stands_on(status: int, body: dict[str, str], judged: dict[str, str]) -> None:
    findings = checkup.readiness(status, {"ready": status == 200, "parts": body})

    assert {one.what: one.verdict for one in findings} == judged
    assert all(one.cure for one in findings if one.verdict == "fail")


@pytest.mark.parametrize("body", ["<html>bad gateway</html>", {"detail": "Not yet."}])
def test_readiness_of_what_is_not_the_api(body: Any) -> None:
    [judged] = checkup.readiness(502, body)

    assert (judged.verdict, judged.what) == ("fail", "API")


SOUND = Provider("did", circuit="Closed", secret_name="vendor-did", secret_key="api-key", waiting=2)


@pytest.mark.parametrize(
    ("one", "secret", "verdict", "said"),
    [
        pytest.param(SOUND, True, "ok", "its key is there, 2 waiting", id="well"),
        pytest.param(SOUND, None, "ok", "its key was not looked at", id="its secret may not be read"),
        pytest.param(SOUND, False, "fail", "the Secret vendor-did has no key api-key", id="no key"),
        pytest.param(
            Provider("did", circuit="Closed", trouble="Secret vendor-did: no key api-key"),
            None,
            "fail",
            "no key api-key",
            id="no key, as the operator says",
        ),
        pytest.param(
            Provider("did", circuit="Closed", hold=True, held=True), True, "warn", "held by hand", id="held by hand"
        ),
        pytest.param(
            Provider("did", circuit="Closed", held=True, held_reason="402 no credits"),
            True,
            "fail",
            "refused: 402 no credits",
            id="no credit",
        ),
        pytest.param(
            Provider("did", circuit="Open", circuit_until=NOW + timedelta(seconds=30), last_error="503"),
            True,
            "warn",
            "its circuit is Open, tried again in 30s: 503",
            id="down",
        ),
        pytest.param(Provider("did"), True, "warn", "has not looked at it yet", id="new"),
    ],
)
def test_providers(one: Provider, secret: bool | None, verdict: str, said: str) -> None:
    judged = checkup.provider(one, secret, NOW)

    assert judged.verdict == verdict
    assert said in judged.detail
    assert bool(judged.cure) == (verdict != "ok")


def test_tenants() -> None:
    ready = Tenant("acme", "rf-acme", ready=True)
    broken = Tenant("blue", "rf-blue", trouble="namespace rf-blue is somebody else's")

    assert checkup.tenants([ready]).verdict == "ok"
    assert checkup.tenants([]).verdict == "warn"
    assert "1 of 2 are not ready: blue: namespace rf-blue" in checkup.tenants([ready, broken]).detail


HELD_BY_US = {"finalizers": (meta.FINALIZER,)}


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        pytest.param(render(phase=Phase.SUCCEEDED, finished_at=ago(5), **HELD_BY_US), "ok", id="just finished"),
        pytest.param(render(phase=Phase.SUCCEEDED, finished_at=ago(9000)), "ok", id="let go of"),
        pytest.param(render(phase=Phase.QUEUED, created_at=ago(9000), **HELD_BY_US), "ok", id="still at it"),
        pytest.param(render(phase=Phase.SUCCEEDED, finished_at=ago(601), **HELD_BY_US), "fail", id="not archived"),
        pytest.param(render(phase=Phase.RUNNING, deleting_since=ago(601), **HELD_BY_US), "fail", id="cannot go"),
        pytest.param(render(phase=Phase.RUNNING, deleting_since=ago(20), **HELD_BY_US), "ok", id="going"),
    ],
)
def test_stuck_finalizers(one: Any, verdict: str) -> None:
    judged = checkup.finalizers([one], NOW)

    assert judged.verdict == verdict
    if verdict == "fail":
        assert "kubectl -n rf-acme patch voicejob greeting" in judged.cure


def test_held_renders_are_for_a_person() -> None:
    judged = checkup.held([render(phase=Phase.HELD, reason="OutcomeUnknown"), render()], "kubectl renders")

    assert judged.verdict == "warn"
    assert judged.cure == "kubectl renders why voicejob/greeting"
    assert checkup.held([render()], "renderfleet").verdict == "ok"


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [([], "skip"), (["skip", "ok"], "ok"), (["ok", "warn", "skip"], "warn"), (["warn", "fail", "ok"], "fail")],
)
def test_the_worst_one_decides(verdicts: list[Any], worst: str) -> None:
    assert checkup.worst([Finding(one, "x", "y") for one in verdicts]) == worst
