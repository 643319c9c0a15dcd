"""Providers in trouble, budgets, deadlines: seen from outside, as an administrator sees them."""

import re
from typing import Any

from tests.support.node import Ended, PodRun, broke, succeed

from .conftest import PROVIDERS, TENANTS, Fleet, eventually


async def _status(fleet: Fleet, vendor: str) -> dict[str, Any]:
    found = await fleet.cluster.get(PROVIDERS, fleet.providers[vendor])
    return dict(found.get("status") or {})


async def test_a_vendor_that_keeps_failing_is_left_alone_then_probed_then_used_again(fleet: Fleet) -> None:
    is_down = True

    async def work(pod: PodRun) -> Ended:
        return broke("outage", message="down") if is_down else await succeed(pod)

    fleet.node.program = work
    await fleet.start()
    await fleet.edit_provider(
        "openai", breaker={"minCalls": 3, "failurePercent": 50, "openSeconds": 8, "halfOpenProbes": 1}
    )
    names = [f"face{n}" for n in range(4)]
    for name in names:
        await fleet.apply(
            "AvatarRender", name, retryPolicy={"maxAttempts": 10, "backoffSeconds": 1, "maxBackoffSeconds": 1}
        )

    async def is_open() -> bool:
        return (await _status(fleet, "openai")).get("circuit") == "Open"

    await eventually(is_open, 30)
    started = len(fleet.node.runs)
    await fleet.apply("VoiceJob", "other")
    is_down = False
    await fleet.until("VoiceJob", "other", "Succeeded", 20)
    for name in names:
        await fleet.until("AvatarRender", name, "Succeeded", 60)

    async def is_closed() -> bool:
        return (await _status(fleet, "openai")).get("circuit") == "Closed"

    await eventually(is_closed, 15)
    assert len(fleet.node.runs) - started <= 1 + len(names) + 2


async def test_a_circuit_stays_open_over_a_restart(fleet: Fleet) -> None:
    async def fail(_: PodRun) -> Ended:
        return broke("outage", message="down")

    fleet.node.program = fail
    await fleet.start()
    await fleet.edit_provider("openai", breaker={"minCalls": 1, "failurePercent": 1, "openSeconds": 300})
    await fleet.apply("AvatarRender", "face")

    async def is_open() -> bool:
        return (await _status(fleet, "openai")).get("circuit") == "Open"

    await eventually(is_open, 20)
    started = len(fleet.node.runs)
    await fleet.stop()

    await fleet.start()
    await fleet.apply("AvatarRender", "another")

    await fleet.until("AvatarRender", "another", lambda one: (one.get("status") or {}).get("reason") == "CircuitOpen")
    assert len(fleet.node.runs) == started


async def test_a_budget_stops_what_it_does_not_cover_and_tells_what_was_spent(fleet: Fleet) -> None:
    await fleet.start()
    await fleet.cluster.patch(TENANTS, fleet.tenant, {"spec": {"monthlyBudgetMicros": 50_000}})

    async def has_a_budget() -> bool:
        assert fleet.operator is not None
        return bool(fleet.operator.cache.tenants[fleet.tenant]["spec"].get("monthlyBudgetMicros"))

    await eventually(has_a_budget)
    await fleet.apply("AvatarRender", "first", count=1)
    await fleet.until("AvatarRender", "first", "Succeeded")
    await fleet.apply("AvatarRender", "second", count=1)

    await fleet.until(
        "AvatarRender", "second", lambda one: (one.get("status") or {}).get("reason") == "BudgetExhausted"
    )

    async def spent() -> Any:
        return ((await fleet.cluster.get(TENANTS, fleet.tenant)).get("status") or {}).get("spentMicros")

    assert await eventually(spent, 20) == 40_000 + 10 * 30, "one image and ten characters, by the price list"
    assert fleet.operator is not None
    labels = f'currency="USD",kind="AvatarRender",provider="{fleet.providers["openai"]}"'
    assert f"renderfleet_cost_total{{{labels}}} 0.0403" in fleet.operator.metrics.text().decode()
    await fleet.cluster.patch(TENANTS, fleet.tenant, {"spec": {"monthlyBudgetMicros": None}})
    await fleet.until("AvatarRender", "second", "Succeeded")


async def test_deadlines_end_what_waits_and_what_runs(fleet: Fleet) -> None:
    async def work_for_ever(_: PodRun) -> None:
        return None

    fleet.node.program = work_for_ever
    await fleet.start()
    await fleet.apply("VoiceJob", "waits", suspend=True, queueDeadlineSeconds=2)
    await fleet.apply("VoiceJob", "runs", runDeadlineSeconds=3)

    waits = await fleet.until("VoiceJob", "waits", "Failed")
    runs = await fleet.until("VoiceJob", "runs", "Failed", 20)

    assert waits["status"]["reason"] == "QueueDeadlineExceeded"
    assert runs["status"]["reason"] == "RunDeadlineExceeded"
    assert await fleet.jobs(runs["metadata"]["uid"]) == []


async def test_cancelling_a_video_at_its_vendor_tells_the_vendor(fleet: Fleet) -> None:
    await fleet.start()
    await fleet.apply("AvatarRender", "face")
    await fleet.apply("VoiceJob", "voice")
    await fleet.until("AvatarRender", "face", "Succeeded")
    await fleet.until("VoiceJob", "voice", "Succeeded")
    await fleet.apply("VideoRender", "talk", avatarRef={"name": "face"}, voiceRef={"name": "voice"})
    await fleet.until("VideoRender", "talk", "Waiting")

    await fleet.edit("VideoRender", "talk", cancel=True)

    one = await fleet.until("VideoRender", "talk", "Cancelled")
    assert one["status"]["attempts"][-1]["charged"] == "true"
    # It may be done with it by then, without our having looked.
    assert re.search("; the vendor (has dropped|will not stop) its job", one["status"]["message"])
