"""The work queue under a clock that the test turns."""

import asyncio
from collections.abc import Hashable

import pytest

from renderfleet_operator.errors import NotYet
from renderfleet_operator.queue import WorkQueue


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Served:
    """Work that notes what it was given, and may stop at a gate or fail."""

    def __init__(self) -> None:
        self.keys: list[Hashable] = []
        self.gate: asyncio.Event | None = None
        self.failures: list[Exception] = []
        self.live = 0
        self.most_live = 0

    async def __call__(self, key: Hashable) -> None:
        self.live += 1
        self.most_live = max(self.most_live, self.live)
        self.keys.append(key)
        try:
            if self.gate:
                await self.gate.wait()
            if self.failures:
                raise self.failures.pop(0)
        finally:
            self.live -= 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def served() -> Served:
    return Served()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_key_is_in_it_once(clock: Clock, served: Served) -> None:
    queue = WorkQueue(served, clock, workers=1)
    for _ in range(5):
        queue.put("a")
    running = asyncio.create_task(queue.run())
    await settle()

    assert served.keys == ["a"]
    running.cancel()


async def test_a_key_is_at_one_worker_at_a_time_and_comes_again_if_it_was_put_meanwhile(
    clock: Clock, served: Served
) -> None:
    served.gate = asyncio.Event()
    queue = WorkQueue(served, clock, workers=4)
    running = asyncio.create_task(queue.run())
    queue.put("a")
    await settle()
    queue.put("a")
    queue.put("a")
    await settle()
    assert served.keys == ["a"]

    served.gate.set()
    await settle()

    assert served.keys == ["a", "a"]
    assert served.most_live == 1
    running.cancel()


async def test_urgent_work_goes_first_even_when_it_was_queued_before(clock: Clock, served: Served) -> None:
    queue = WorkQueue(served, clock, workers=1)
    for key in ("a", "b", "c"):
        queue.put(key)
    queue.put("c", urgent=True)
    queue.put("z", urgent=True)
    running = asyncio.create_task(queue.run())
    await settle()

    assert served.keys == ["c", "z", "a", "b"]
    running.cancel()


async def test_a_key_for_later_comes_when_it_is_due_and_the_earlier_time_wins(clock: Clock, served: Served) -> None:
    queue = WorkQueue(served, clock, workers=1)
    running = asyncio.create_task(queue.run())
    queue.put("a", after=10)
    queue.put("a", after=5)
    queue.put("a", after=20)
    clock.time += 4.9
    queue.wake()
    await settle()
    assert served.keys == []

    clock.time += 0.2
    queue.wake()
    await settle()
    clock.time += 60
    queue.wake()
    await settle()

    assert served.keys == ["a"]
    running.cancel()


async def test_failed_work_comes_back_later_and_later(clock: Clock, served: Served) -> None:
    served.failures = [ValueError("x")] * 3
    queue = WorkQueue(served, clock, workers=1)
    running = asyncio.create_task(queue.run())
    queue.put("a")
    await settle()
    for expected, pause in ((2, 0.1), (3, 0.2), (4, 0.4)):
        clock.time += pause * 0.9
        queue.wake()
        await settle()
        assert len(served.keys) == expected - 1
        clock.time += pause * 0.11 + 0.01
        queue.wake()
        await settle()
        assert len(served.keys) == expected

    clock.time += 60
    queue.wake()
    await settle()
    assert len(served.keys) == 4
    running.cancel()


async def test_what_is_only_not_ready_yet_comes_back_when_it_said(clock: Clock, served: Served) -> None:
    served.failures = [NotYet("soon", 2.0)]
    queue = WorkQueue(served, clock, workers=1)
    running = asyncio.create_task(queue.run())
    queue.put("a")
    await settle()
    clock.time += 1.9
    queue.wake()
    await settle()
    assert len(served.keys) == 1

    clock.time += 0.2
    queue.wake()
    await settle()

    assert len(served.keys) == 2
    running.cancel()


async def test_draining_waits_for_work_in_hand_and_takes_no_more(clock: Clock, served: Served) -> None:
    served.gate = asyncio.Event()
    queue = WorkQueue(served, clock, workers=1)
    running = asyncio.create_task(queue.run())
    queue.put("a")
    await settle()
    queue.put("b")
    draining = asyncio.create_task(queue.drain())
    await settle()
    assert not draining.done()

    served.gate.set()
    await settle()

    assert draining.done()
    assert served.keys == ["a"]
    running.cancel()


async def test_how_long_the_oldest_has_been_waiting(clock: Clock, served: Served) -> None:
    queue = WorkQueue(served, clock)
    queue.put("a")
    clock.time += 7
    queue.put("b")

    assert queue.oldest_seconds() == 7
    assert len(queue) == 2
