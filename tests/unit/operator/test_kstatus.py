"""What kstatus, and by it Flux and Argo CD, make of every phase; and how kubectl wait sees it."""

from typing import Any

import pytest

from renderfleet_crds.conditions import Reason
from renderfleet_crds.phases import FINAL, Phase
from renderfleet_crds.render import RenderStatus
from renderfleet_operator.decide.report import report
from renderfleet_operator.decide.view import Render
from renderfleet_operator.times import whole_seconds

from .builders import NOW, body, render


def kstatus(one: Render) -> str:
    """The rules of kstatus for custom resources, in its order."""
    status = one.status
    if one.is_deleting:
        return "Terminating"
    if status.get("observedGeneration") != one.generation:
        return "InProgress"
    conditions = {entry["type"]: entry["status"] for entry in status.get("conditions") or ()}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current"


EXPECTED = {
    Phase.QUEUED: "InProgress",
    Phase.RUNNING: "InProgress",
    Phase.WAITING: "InProgress",
    Phase.FINALIZING: "InProgress",
    Phase.RETRYING: "InProgress",
    Phase.HELD: "Failed",
    Phase.SUCCEEDED: "Current",
    Phase.FAILED: "Failed",
    Phase.DEAD_LETTERED: "Failed",
    Phase.CANCELLED: "Current",
    Phase.ABORTED: "Current",
}


def conditions_of(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["type"]: one for one in status["conditions"]}


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_has_a_verdict(phase: Phase) -> None:
    one = render()
    status = report(one, NOW, phase, Reason.STARTED, "words")

    assert kstatus(Render({**one.body, "status": status})) == EXPECTED[phase]
    RenderStatus.model_validate(status)


@pytest.mark.parametrize("phase", Phase)
def test_one_wait_serves_all_ends(phase: Phase) -> None:
    found = conditions_of(report(render(), NOW, phase, Reason.STARTED, "words"))

    assert (found["Finished"]["status"] == "True") is (phase in FINAL)
    assert (found["Succeeded"]["status"] == "True") is (phase is Phase.SUCCEEDED)
    assert (found["Succeeded"]["status"] == "Unknown") is (phase not in FINAL)


@pytest.mark.parametrize("phase", Phase)
def test_every_condition_says_why_and_of_which_spec(phase: Phase) -> None:
    for one in report(render(), NOW, phase, Reason.STARTED, "words")["conditions"]:
        assert one["reason"] == "Started"
        assert one["observedGeneration"] == 1


def test_an_edit_that_is_not_taken_up_yet_is_in_progress() -> None:
    made = body(status=report(render(), NOW, Phase.SUCCEEDED, Reason.MEDIA_READY, ""))
    made["metadata"]["generation"] = 2

    assert kstatus(Render(made)) == "InProgress"


def test_a_transition_time_moves_only_with_its_word() -> None:
    first = report(render(), NOW, Phase.QUEUED, Reason.ACCEPTED, "")
    later = report(render(status=first), NOW + 60, Phase.RUNNING, Reason.STARTED, "")

    found = conditions_of(later)
    assert found["Succeeded"]["lastTransitionTime"] == whole_seconds(NOW)
    assert found["Queued"]["lastTransitionTime"] == whole_seconds(NOW + 60)
