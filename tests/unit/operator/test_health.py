"""When the kubelet is told that the process is not well."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from renderfleet_client.cluster import Listing
from renderfleet_operator.health import why_ill, why_not_ready
from renderfleet_operator.http import probes
from renderfleet_operator.intake import SOURCES, Intake
from renderfleet_operator.metrics import Metrics
from renderfleet_operator.queue import WorkQueue

from .builders import body
from .test_fleet import Clock
from .test_intake import make as make_intake

WELL: dict[str, Any] = {
    "is_listed": True,
    "oldest_seconds": 0.0,
    "idle_seconds": 500.0,
    "watch_ages": {"Job": 30.0, "Pod": 500.0},
    "resync_seconds": 120.0,
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({}, None, id="nothing to do for long is well"),
        pytest.param({"oldest_seconds": 300.0, "idle_seconds": 3.0}, None, id="much to do is well"),
        pytest.param({"oldest_seconds": 121.0}, "the queue stands still", id="a ready key that nobody takes is not"),
        pytest.param(
            {"watch_ages": {"Job": 541.0}}, "no watch tells of: Job", id="nor is a watch that missed what lists show"
        ),
        pytest.param({"is_listed": False, "oldest_seconds": 999.0}, None, id="a stand-by replica is well"),
    ],
)
def test_liveness(changes: dict[str, Any], words: str | None) -> None:
    found = why_ill(**{**WELL, **changes})

    assert found is None if words is None else found is not None and words in found


def health_of(queue: WorkQueue, intake: Intake, clock: Clock) -> str | None:
    """As the operator asks."""
    return why_ill(
        is_listed=True,
        oldest_seconds=queue.oldest_seconds(),
        idle_seconds=clock.monotonic() - queue.beat,
        watch_ages=intake.ages(),
        resync_seconds=120.0,
    )


async def test_a_queue_whose_workers_all_hang_is_ill_once_a_key_waits_for_them() -> None:
    intake, _, _ = make_intake()
    clock = Clock()

    async def hang(_: Hashable) -> None:
        await asyncio.sleep(60)

    queue = WorkQueue(hang, clock, workers=2)
    serving = asyncio.create_task(queue.run())
    for key in ("one", "two"):
        queue.put(key)
    await asyncio.sleep(0.01)
    clock.time += 200
    assert health_of(queue, intake, clock) is None, "long work is no standstill while nobody waits"

    queue.put("three")
    clock.time += 200

    assert "the queue stands still" in (health_of(queue, intake, clock) or "")
    serving.cancel()


async def test_a_watch_that_tells_nothing_of_what_lists_show_is_ill() -> None:
    intake, observer, _ = make_intake()
    clock = observer.clock
    intake.alive("VoiceJob")
    queue = WorkQueue(lambda _: asyncio.sleep(0), clock)
    source = next(one for one in SOURCES if one.kind == "VoiceJob")
    for number in range(6):
        clock.time += 120
        made = body("VoiceJob", name=f"v{number}", uid=f"v{number}", version=10 + number)
        await intake.list_one(cluster_with(made), source)

    assert "no watch tells of: VoiceJob" in (health_of(queue, intake, clock) or "")

    await intake.list_one(cluster_with(made), source)
    assert health_of(queue, intake, clock) is None, "a list without news proves that there was nothing to tell"


def cluster_with(*bodies: Any) -> Any:
    """A cluster in which this is all there is."""

    async def pages(*_: Any, **__: Any) -> AsyncIterator[Listing]:
        yield Listing(list(bodies), "99")

    return SimpleNamespace(pages=pages)


@pytest.mark.parametrize(
    ("leads", "is_listed", "ready"), [(False, False, True), (True, False, False), (True, True, True)]
)
def test_readiness(leads: bool, is_listed: bool, ready: bool) -> None:
    assert (why_not_ready(leads=leads, is_listed=is_listed) is None) is ready


@pytest.mark.parametrize(("problem", "status"), [(None, 200), ("the queue stands still", 503)])
async def test_the_kubelet_hears_of_it(problem: str | None, status: int) -> None:
    listener = probes(Metrics(), lambda: problem, lambda: problem)
    await listener.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.port}") as session:
            for path in ("/healthz", "/readyz"):
                async with session.get(path) as answer:
                    assert (answer.status, await answer.text()) == (status, problem or "ok")
    finally:
        await listener.stop()
