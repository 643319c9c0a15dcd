import asyncio
from collections.abc import Sequence

import pytest

from renderfleet_api.together import Together
from renderfleet_store.engine import StoreUnavailable


class Desk:
    """Doubles numbers; a batch is served when the test opens the gate."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.odd: dict[int, Exception] = {}

    async def work(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        await self.gate.wait()
        for number in numbers:
            if number in self.odd:
                raise self.odd[number]
        return [2 * number for number in numbers]


async def started() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def asked_at_once(desk: Desk, *numbers: int) -> list[int | BaseException]:
    """What each of them is told, when all are there before the work begins."""
    together = Together(desk.work)
    asking = [asyncio.create_task(together.add(number)) for number in numbers]
    await started()
    desk.gate.set()
    return await asyncio.gather(*asking, return_exceptions=True)


async def test_who_comes_alone_is_served_at_once():
    desk = Desk()
    desk.gate.set()
    together = Together(desk.work)

    assert [await together.add(number) for number in (1, 2)] == [2, 4]
    assert desk.batches == [[1], [2]]


async def test_who_comes_while_it_is_busy_is_served_together_next():
    desk = Desk()
    together = Together(desk.work)
    first = asyncio.create_task(together.add(1))
    await started()
    others = [asyncio.create_task(together.add(number)) for number in (2, 3, 4)]
    await started()

    desk.gate.set()

    assert await asyncio.gather(first, *others) == [2, 4, 6, 8]
    assert desk.batches == [[1], [2, 3, 4]]


async def test_a_crowd_waits_a_moment_for_those_who_are_about_to_come():
    desk = Desk()
    desk.gate.set()
    together = Together(desk.work, gather_seconds=0.05)
    await asyncio.gather(together.add(1), together.add(2))

    third = asyncio.create_task(together.add(3))
    await started()
    fourth = asyncio.create_task(together.add(4))

    assert await asyncio.gather(third, fourth) == [6, 8]
    assert desk.batches == [[1, 2], [3, 4]]


async def test_one_odd_thing_fails_alone():
    desk = Desk()
    desk.odd = {3: ValueError("odd")}

    told = await asked_at_once(desk, 2, 3, 4)

    assert told[0] == 4
    assert told[2] == 8
    assert isinstance(told[1], ValueError)


async def test_without_the_database_nobody_is_asked_one_by_one():
    desk = Desk()
    desk.odd = {2: StoreUnavailable("away")}

    told = await asked_at_once(desk, 1, 2, 3)

    assert all(isinstance(one, StoreUnavailable) for one in told)
    assert desk.batches == [[1, 2, 3]]


async def test_a_caller_that_gives_up_stops_neither_the_work_nor_the_others():
    desk = Desk()
    together = Together(desk.work)
    gone, stays = (asyncio.create_task(together.add(number)) for number in (1, 2))
    await started()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone

    desk.gate.set()

    assert await stays == 4
    assert await together.add(3) == 6


async def test_when_the_database_goes_away_nobody_waits_for_a_second_try():
    desk = Desk()
    desk.odd = {1: StoreUnavailable("away")}
    together = Together(desk.work)
    first = asyncio.create_task(together.add(1))
    await started()
    behind = [asyncio.create_task(together.add(number)) for number in range(2, 250)]
    await started()
    desk.gate.set()

    told = await asyncio.gather(first, *behind, return_exceptions=True)

    assert all(isinstance(one, StoreUnavailable) for one in told)
    assert desk.batches == [[1]]
    assert await together.add(5) == 10


async def test_nor_when_it_goes_away_while_each_is_tried_for_itself():
    desk = Desk()
    desk.odd = {2: StoreUnavailable("away"), 3: ValueError("odd")}

    told = await asked_at_once(desk, 3, 1, 2, 4)

    assert isinstance(told[0], ValueError)
    assert told[1] == 2
    assert all(isinstance(one, StoreUnavailable) for one in told[2:])
