"""Phases, conditions and the runner contract: small rules that everything else leans on."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from renderfleet_crds import meta, phases
from renderfleet_crds.conditions import ConditionType, Reason, find_condition, set_condition
from renderfleet_crds.contract import (
    TERMINATION_MESSAGE_LIMIT_BYTES,
    Charged,
    ErrorCategory,
    Output,
    StageResult,
)
from renderfleet_crds.phases import MAY_FOLLOW, Phase

NOON, LATER = "2026-11-24T12:00:00Z", "2026-11-24T12:00:05Z"


def test_an_end_leads_only_to_a_new_run() -> None:
    assert {follower for end in phases.FINAL for follower in MAY_FOLLOW[end]} == {Phase.QUEUED}


def test_every_phase_can_be_reached_and_left() -> None:
    reachable = set().union(*MAY_FOLLOW.values())

    assert set(MAY_FOLLOW) == set(Phase)
    assert reachable == set(Phase)


def test_transition_time_moves_only_with_the_status() -> None:
    first = set_condition([], ConditionType.SUCCEEDED, "Unknown", Reason.STARTED, generation=1, now=NOON)
    same = set_condition(first, ConditionType.SUCCEEDED, "Unknown", Reason.BACKING_OFF, generation=1, now=LATER)
    changed = set_condition(same, ConditionType.SUCCEEDED, True, Reason.MEDIA_READY, generation=2, now=LATER)

    assert same[0]["lastTransitionTime"] == NOON
    assert same[0]["reason"] == "BackingOff"
    assert changed[0]["lastTransitionTime"] == LATER
    assert first[0]["reason"] == "Started", "the old list is left alone"


@given(st.lists(st.tuples(st.sampled_from(list(ConditionType)), st.booleans()), max_size=20))
def test_conditions_stay_a_map_by_type(said: list[tuple[ConditionType, bool]]) -> None:
    conditions: list[dict[str, object]] = []
    for kind, status in said:
        conditions = set_condition(conditions, kind, status, Reason.ACCEPTED, generation=1, now=NOON)

    types = [one["type"] for one in conditions]
    assert len(types) == len(set(types)) == len({kind for kind, _ in said})
    for kind, status in dict(said).items():
        found = find_condition(conditions, kind)
        assert found is not None and found["status"] == str(status)


def output(number: int) -> Output:
    return Output(
        name=f"image-{number}",
        key=meta.media_prefix("rf-demo") + f"avatarrender/{'u' * 36}/image-{number}.png",
        content_type="image/png",
        bytes=1_000_000,
        sha256="a" * 64,
        width_px=1024,
        height_px=1024,
    )


@given(st.integers(0, 40))
def test_termination_message_always_fits_and_says_what_it_left_out(count: int) -> None:
    result = StageResult(outcome="done", outputs=[output(number) for number in range(count)], charged=Charged.YES)

    message = result.to_termination_message()
    read = StageResult.model_validate_json(message)

    assert len(message.encode()) <= TERMINATION_MESSAGE_LIMIT_BYTES
    assert read.outputs == result.outputs or (read.outputs_in_record and read.outputs == [])
    assert read.charged is Charged.YES


def test_a_failure_without_a_category_is_not_a_result() -> None:
    with pytest.raises(ValueError, match="category"):
        StageResult(outcome="broke")
    assert json.loads(StageResult(outcome="broke", category=ErrorCategory.OUTAGE).to_termination_message()) == {
        "outcome": "broke",
        "category": "outage",
    }


def test_run_record_never_shares_a_place_between_attempts() -> None:
    places = {meta.run_prefix("uid", "start", run, attempt) for run in range(12) for attempt in range(12)}

    assert len(places) == 144
