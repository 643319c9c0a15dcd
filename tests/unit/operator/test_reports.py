"""How many writes go into telling renders why they wait and how far they are, and finished ones what keeps them."""

from typing import Any

import pytest

from renderfleet_operator.archive import LATE_SECONDS
from renderfleet_operator.cache import Key
from renderfleet_operator.decide.actions import Action, ChangeFinalizer, WriteStatus
from renderfleet_operator.intake import PLACES
from renderfleet_operator.reconcile import (
    BUSY,
    BUSY_REPORTS_PER_SECOND,
    REASON_AGAIN_SECONDS,
    SLOW_WORK_SECONDS,
    Reconciler,
    ReportBudget,
)

from .builders import body, ended
from .test_fleet import Clock
from .test_observe import make as make_observer


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


def test_what_had_to_be_written_all_the_same_does_not_silence_news_for_long() -> None:
    """A thousand renders cancelled at once are told that their pods are ending, whatever the budget says."""
    budget, clock = make(per_second=5.0)
    assert budget.tokens() == 5
    for number in range(1000):
        budget.spent(key(f"cancelled{number}"))

    clock.time += 2

    assert budget.allows(key("waiting"))


class Outage:
    """An operator whose renders have all finished while PostgreSQL is away; writes go straight to the cache."""

    def __init__(self, renders: int, per_second: float) -> None:
        observer, self.archive, self.clock = make_observer()
        self.archive.clock = self.clock
        self.cache = observer.cache
        self.cache.on_render = lambda key, old, new: self.archive.offer(new)
        self.due: list[Key] = []
        self.written: list[WriteStatus | ChangeFinalizer] = []
        self.version = 10
        given: Any = Queue()
        given.put = lambda key, **_: self.due.append(key)
        hand: Any = self
        nobody: Any = None
        budget = ReportBudget(self.clock, given, per_second)
        observer.may_report = budget.allows
        self.reconciler = Reconciler(
            cache=self.cache,
            fleet=observer.fleet,
            queue=given,
            observer=observer,
            executor=hand,
            archive=self.archive,
            tenants=nobody,
            providers=nobody,
            budget=budget,
            metrics=nobody,
            clock=self.clock,
        )
        for number in range(renders):
            self.cache.put_render(body(status=ended(), name=f"r{number}", uid=f"u{number}"))

    async def run(self, key: Key, todo: list[Action], seen: Any) -> None:
        """As the executor does."""
        for action in todo:
            if isinstance(action, WriteStatus):
                self.written.append(action)
                known = self.cache.render(key)
                assert known is not None
                self.version += 1
                about = {**known["metadata"], "resourceVersion": str(self.version)}
                self.cache.put_render({**known, "metadata": about, "status": action.status})
            elif isinstance(action, ChangeFinalizer):
                self.written.append(action)

    async def seconds(self, count: int) -> None:
        """Let the operator tell its news ten times a second."""
        for _ in range(10 * count):
            await self.reconciler(PLACES)
            due, self.due = self.due, []
            for one in due:
                if one != PLACES:
                    await self.reconciler(one)
            self.clock.time += 0.1


async def test_an_outage_of_the_archive_is_told_to_all_it_keeps_once_each_and_no_faster_than_other_news() -> None:
    outage = Outage(renders=120, per_second=5.0)
    await outage.seconds(1)
    assert outage.written == [], "an archive may take a minute"

    outage.clock.time += LATE_SECONDS
    await outage.seconds(10)
    assert 5 * 10 - 5 <= len(outage.written) <= 5 * 10 + 5

    await outage.seconds(20)
    assert len(outage.written) == 120
    assert outage.archive.late() == []
