"""A point that others at the vendor kept a run from is tried once more, alone; whatever else is wrong stays told."""

from collections.abc import Sequence
from typing import Any

import pytest

from renderfleet_faults.accounts import Account, Outcome
from renderfleet_faults.money import NEVER_CAME, STORIES, Broken, MoneySweep, Run
from renderfleet_faults.traps import Fault, Point, Starts

POINT = Point("steps of start", 13, Fault.DIE_BEFORE)


class Sweep(MoneySweep):
    """A sweep whose runs end as they are told."""

    def __init__(self, problems: dict[str, list[str]]) -> None:
        self._problems = problems
        self.played: list[Broken] = []

    async def _account(self, run: Run) -> Account:
        problems = self._problems.get(run.trial.subject, [])
        return Account(run.story.name, run.point, run.starts, None, Outcome.ONCE, problems, run.trial.subject)

    async def _play_many(self, points: Sequence[Broken]) -> list[Run]:
        self.played += points
        return [run_of("again")]


def run_of(subject: str) -> Run:
    class Trial:
        pass

    trial: Any = Trial()
    trial.subject = subject
    return Run(STORIES[-1], trial, POINT, Starts.AGAIN)


@pytest.mark.parametrize(
    ("problems", "kept"),
    [
        pytest.param([], ["first"], id="it came there"),
        pytest.param([NEVER_CAME], ["again"], id="it did not"),
        pytest.param([NEVER_CAME, "billed twice"], ["first"], id="and something else was wrong"),
    ],
)
async def test_a_missed_point(problems: list[str], kept: list[str]) -> None:
    sweep = Sweep({"first": problems})

    runs = await sweep._alone_if_missed([run_of("first")])

    assert [run.trial.subject for run in runs] == kept
    assert sweep.played == ([(STORIES[-1], POINT, Starts.AGAIN)] if kept == ["again"] else [])
