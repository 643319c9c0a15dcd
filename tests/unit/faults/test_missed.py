"""Which points are tried once more."""

from typing import Any

from renderfleet_faults.crash import Run, missed
from renderfleet_faults.scenarios import SCENARIOS
from renderfleet_faults.traps import WRITES, Fault, Point, Trap

STORY = SCENARIOS[0]
NOBODY: Any = None


def run(number: int, *, sprung: bool) -> Run:
    point = Point(WRITES, number, Fault.DIE_BEFORE)
    return Run(STORY, NOBODY, point, Trap("c0001", point, sprung=sprung))


def test_a_point_that_was_not_reached_is_tried_again_if_each_undisturbed_run_has_it() -> None:
    runs = [run(1, sprung=True), run(2, sprung=False), run(3, sprung=False), Run(STORY, NOBODY)]

    assert missed(runs, {STORY.name: {WRITES: 2}}) == [(STORY, Point(WRITES, 2, Fault.DIE_BEFORE))]
