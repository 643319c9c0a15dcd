"""Waiting without holding what others need."""

import asyncio
import gc

from renderfleet_api.turns import Turns


async def test_one_at_a_time_per_tenant_and_tenants_side_by_side() -> None:
    turns, inside, most = Turns(), {"a": 0, "b": 0}, {"a": 0, "b": 0}
    both = asyncio.Event()

    async def work(namespace: str) -> None:
        async with turns.of(namespace):
            inside[namespace] += 1
            most[namespace] = max(most[namespace], inside[namespace])
            if all(inside.values()):
                both.set()
            await asyncio.sleep(0)
            await both.wait()
            inside[namespace] -= 1

    async with asyncio.timeout(5):
        await asyncio.gather(*(work(name) for name in "aabb"))

    assert most == {"a": 1, "b": 1}


async def test_nothing_is_kept_of_tenants_that_are_done() -> None:
    turns = Turns()
    for number in range(100):
        async with turns.of(str(number)):
            pass
    gc.collect()

    assert len(turns._locks) == 0
