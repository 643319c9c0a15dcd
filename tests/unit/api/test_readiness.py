"""Asking whether a service answers, which must not make things worse when it does not."""

import asyncio

from renderfleet_api.readiness import Check


async def test_a_service_that_hangs_is_asked_once_and_told_soon() -> None:
    asked, answer = [], asyncio.Event()

    async def hang() -> str:
        asked.append(1)
        await answer.wait()
        return "ok"

    check = Check(hang, patience_seconds=0.05)

    assert await asyncio.gather(*(check.look() for _ in range(20))) == ["does not answer"] * 20
    assert await check.look() == "does not answer"
    answer.set()
    assert await check.look() == "ok"
    assert len(asked) == 1
