"""When the kubelet is told that the process is not well."""

from typing import Any

import aiohttp
import pytest

from renderfleet_operator.health import why_ill, why_not_ready
from renderfleet_operator.http import probes
from renderfleet_operator.metrics import Metrics

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
