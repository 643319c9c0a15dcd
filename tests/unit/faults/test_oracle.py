"""The oracle finds each thing that a crash can spoil, and nothing else."""

from dataclasses import replace
from typing import Any

import pytest

from renderfleet_crds import meta
from renderfleet_faults.oracle import (
    Finding,
    Golden,
    Verdict,
    differences,
    end_state,
    judge,
    judge_golden,
    must_be_reached,
)
from renderfleet_faults.report import crash_table, troubles
from renderfleet_faults.traps import WRITES, Fault, Point

PAID = {"openai/images.generations": 1}
POINT = Point(WRITES, 2, Fault.DIE_BEFORE)


def render(subject: str = "c0001", **status: Any) -> dict[str, Any]:
    uid = "a0593aa1-3eeb-4336-b025-4ba5e8260a51"
    return {
        "kind": "AvatarRender",
        "metadata": {"name": f"avatar-{subject}", "namespace": f"rf-{subject}", "uid": uid, "generation": 1},
        "status": {
            "observedGeneration": 1,
            "phase": "Succeeded",
            "reason": "MediaReady",
            "attempt": 1,
            "attempts": [{"number": 1, "stage": "generate", "charged": "true", "startedAt": f"at {subject}"}],
            "outputs": [{"name": "image-1", "contentType": "image/png", "key": f"media/rf-{subject}/x.png"}],
            "conditions": [{"type": "Succeeded", "status": "True", "reason": "MediaReady"}],
            **status,
        },
    }


def found(subject: str = "c0001", **changes: Any) -> Finding:
    archive = [{"kind": "AvatarRender", "phase": "Succeeded", "run": 0, "deleted": False, "ends": 1}]
    secrets = [f"secrets/renderfleet-provider-openai-{subject}"]
    state = end_state([render(subject, **changes)], None, archive, secrets)
    return Finding(state=state, jobs={"generate 0-1": 1}, billed=dict(PAID), seconds=4.0)


@pytest.fixture
def golden() -> Golden:
    steps = [{WRITES: 4, "lines of jobs": 5}, {WRITES: 5, "lines of jobs": 5}]
    return judge_golden([found("c0001"), found("c0002")], steps, PAID)


def test_undisturbed_runs_agree_although_names_and_times_differ(golden: Golden) -> None:
    assert golden.problems == []
    assert golden.sure[WRITES] == 4
    assert golden.most[WRITES] == 5


def test_a_run_that_came_out_the_same_is_good(golden: Golden) -> None:
    assert judge(golden, found("c0003"), PAID) == []


@pytest.mark.parametrize(
    ("spoiled", "problem"),
    [
        pytest.param(found(phase="Held", reason="OutcomeUnknown"), "renders[0].phase", id="another end"),
        pytest.param(found(attempt=2), "renders[0].attempt: 1 -> 2", id="one attempt more"),
        pytest.param(found(outputs=[]), "renders[0].outputs", id="outputs missing"),
        pytest.param(found(conditions=[]), "renders[0].conditions.Succeeded", id="a condition missing"),
        pytest.param(replace(found(), jobs={"generate 0-1": 2}), "2 Jobs for generate 0-1", id="two Jobs"),
        pytest.param(
            replace(found(), billed={"openai/images.generations": 2}),
            "openai/images.generations: billed 2 times, not 1",
            id="billed twice",
        ),
        pytest.param(
            replace(found(), billed={}), "openai/images.generations: billed 0 times, not 1", id="not billed at all"
        ),
        pytest.param(
            replace(found(), billed={**PAID, "did/talks.create": 1}),
            "did/talks.create: billed 1 times",
            id="more billed",
        ),
        pytest.param(
            replace(found(), late_writes=["PATCH x", "PATCH x"]), "2 x PATCH x after the end", id="never silent"
        ),
    ],
)
def test_whatever_is_spoiled_is_said(golden: Golden, spoiled: Finding, problem: str) -> None:
    assert any(problem in one for one in judge(golden, spoiled, PAID))


def test_a_finalizer_left_behind_is_a_difference(golden: Golden) -> None:
    held = render()
    held["metadata"]["finalizers"] = [meta.FINALIZER]
    state = {**golden.state, "renders": end_state([held], None, [], [])["renders"]}

    assert judge(golden, replace(found(), state=state), PAID) == ["renders[0].finalized: False -> True"]


def test_undisturbed_runs_that_differ_are_no_measure() -> None:
    golden = judge_golden([found("c0001"), found("c0002", attempt=2)], [{}, {}], PAID)

    assert golden.problems == ["undisturbed runs differ: renders[0].attempt: 1 -> 2"]


def test_only_points_that_every_undisturbed_run_has_must_be_reached(golden: Golden) -> None:
    assert must_be_reached(golden, Point(WRITES, 4, Fault.DIE_AFTER))
    assert not must_be_reached(golden, Point(WRITES, 5, Fault.DIE_AFTER))
    assert not must_be_reached(golden, Point("lines of secrets", 1, Fault.DROP_LINE))


def test_differences_name_the_place() -> None:
    assert differences({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == ["a[1].b: 2 -> 3"]
    assert differences({"a": 1}, {"b": 1}) == ["a: 1 -> None", "b: None -> 1"]
    assert differences([1], [1, 2]) == [": [1] -> [1, 2]"]


def test_the_table_counts_good_among_reached_and_names_the_bad(golden: Golden) -> None:
    verdicts = [
        Verdict("AvatarRender", POINT, "POST jobs", []),
        Verdict("AvatarRender", replace(POINT, number=3), "PATCH status", ["2 Jobs for generate"]),
        Verdict("AvatarRender", replace(POINT, number=5), None, []),
    ]

    shown = crash_table({"AvatarRender": golden}, verdicts)

    assert shown.splitlines()[1].split() == ["AvatarRender", "5", "5", "1/2", "-", "-", "-", "BAD", "(1)"]
    assert troubles({"AvatarRender": golden}, verdicts) == [
        "AvatarRender, dies before writes #3 (PATCH status), :\n    2 Jobs for generate"
    ]
