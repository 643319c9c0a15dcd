"""How many writes go into telling renders why they wait and how far they are."""

from typing import Any

import pytest

from renderfleet_operator.cache import Key
from renderfleet_operator.reconcile import (
    BUSY,
    BUSY_REPORTS_PER_SECOND,
    REASON_AGAIN_SECONDS,
    SLOW_WORK_SECONDS,
    ReportBudget,
)

from .test_fleet import Clock


class Queue:
    """As busy as a test says."""

    def __init__(self, ready: int = 0, usual_seconds: float = 0.0) -> None:
        self.ready = ready
        self.usual_seconds = usual_seconds

    def __len__(self) -> int:
        return self.ready


def key(name: str) -> Key:
    return Key("AvatarRender", "rf-acme", name)


def make(per_second: float = 10.0, **queue: Any) -> tuple[ReportBudget, Clock]:
    clock = Clock()
    given: Any = Queue(**queue)
    return ReportBudget(clock, given, per_second), clock


def told_in(budget: ReportBudget, clock: Clock, seconds: int, names: list[str]) -> list[str]:
    """Who is told within so many seconds when all have news ten times a second, and are asked as the operator does."""
    told = []
    for _ in range(10 * seconds):
        for name in sorted(names, key=lambda name: budget.told_ago(key(name)), reverse=True):
            if budget.allows(key(name)):
                budget.spent(key(name))
                told.append(name)
        clock.time += 0.1
    return told


def test_one_render_is_not_patched_more_often_than_every_two_seconds() -> None:
    budget, clock = make()

    assert REASON_AGAIN_SECONDS >= 2
    assert len(told_in(budget, clock, 20, ["a"])) <= 20 / REASON_AGAIN_SECONDS + 1


def test_many_renders_share_what_may_be_written() -> None:
    budget, clock = make(per_second=5.0)

    told = told_in(budget, clock, 10, [f"r{n}" for n in range(500)])

    assert len(told) <= 5 * 10 + 5
    assert len(set(told)) == len(told), "nobody is told twice while others were told nothing"


@pytest.mark.parametrize(
    "queue",
    [
        pytest.param({"ready": BUSY + 1}, id="much to do"),
        pytest.param({"usual_seconds": 2 * SLOW_WORK_SECONDS}, id="a slow API server"),
    ],
)
def test_under_load_news_stands_back(queue: dict[str, Any]) -> None:
    budget, clock = make(per_second=5.0, **queue)

    told = told_in(budget, clock, 20, [f"r{n}" for n in range(500)])

    assert len(told) <= 5 + 20 * BUSY_REPORTS_PER_SECOND + 1
