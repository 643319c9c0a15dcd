"""How long does a new operator need among many objects, and does it leave finished ones alone?

The finished renders are copies of one that the operator finished itself, in the API server and in PostgreSQL; the live ones
are half running, half waiting, and their pods never end.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

from renderfleet_bench.fleet import Fleet
from renderfleet_bench.load import AVATARS, Renders, create_all, in_parallel, run_batch
from renderfleet_bench.plane import OPERATOR_USER
from renderfleet_bench.throughput import RENDERS
from renderfleet_client.cluster import Body
from renderfleet_cluster.say import Trouble, line
from renderfleet_store.engine import make_engine
from renderfleet_store.mirror import Mirror, RenderSeen

LIVE = Renders(tenant="endless", provider="endless")
SETTLE_SECONDS = 15.0
"""Writes are counted this long after readiness: what a new operator sets right, it sets right at once."""
SEEDERS = 40
RUNNING_WITHIN_SECONDS = 120.0


@dataclass(frozen=True)
class Restarted:
    """What a restart took."""

    finished: int
    live: int
    stop_seconds: float
    ready_seconds: float
    first_render_seconds: float
    """A render sent right after readiness, from its request to its end."""
    writes_finished: int
    writes: Counter[str]
    rss_mib: float
    peak_rss_mib: float
    cpu_seconds: float
    """Of the new process, until the writes were counted."""

    def note(self) -> str:
        return (
            f"{self.finished} finished, {self.live} live; the first render after it took {self.first_render_seconds:.2f} s,"
            f" {self.writes.total()} writes in all, {self.cpu_seconds:.1f} s of processor time"
        )

    def raw(self) -> dict[str, Any]:
        return {**vars(self), "writes": dict(self.writes)}


async def measure(fleet: Fleet, finished: int, live: int) -> Restarted:
    """Fill up to these numbers, then stop the operator and start a new one."""
    await _seed_finished(fleet, finished)
    await _seed_live(fleet, live)
    finished_names = {
        item["metadata"]["name"]
        for item in (await fleet.plane.cluster.list(AVATARS, RENDERS.namespace)).items
        if RENDERS.verdict(item) == "done"
    }
    line(f"restarting the operator among {len(finished_names)} finished and {live} live renders")
    await asyncio.sleep(2)
    stop_seconds = await fleet.stop_operator()
    place = fleet.plane.audit.place()
    ready_seconds = await fleet.start_operator()
    operator = fleet.running_operator()
    first = await run_batch(fleet.plane.cluster, RENDERS, ["after-restart"], alive=fleet.check)
    await asyncio.sleep(SETTLE_SECONDS)
    cost = operator.cost()
    seen = [write for write in fleet.plane.audit.since(place) if write.user == OPERATOR_USER]
    to_renders = [write for write in seen if write.namespace == RENDERS.namespace and write.resource == AVATARS.plural]
    return Restarted(
        finished=len(finished_names),
        live=live,
        stop_seconds=stop_seconds,
        ready_seconds=ready_seconds,
        first_render_seconds=first.seconds,
        writes_finished=sum(1 for write in to_renders if write.name in finished_names),
        writes=Counter(write.what for write in seen),
        rss_mib=cost.rss_mib,
        peak_rss_mib=cost.peak_rss_mib,
        cpu_seconds=cost.cpu_seconds,
    )


async def _seed_finished(fleet: Fleet, wanted: int) -> None:
    """Copies of a finished render, until there are `wanted`."""
    cluster = fleet.plane.cluster
    there = [item for item in (await cluster.list(AVATARS, RENDERS.namespace)).items if RENDERS.verdict(item) == "done"]
    if not there:
        await run_batch(cluster, RENDERS, ["pattern"], alive=fleet.check)
        there = (await cluster.list(AVATARS, RENDERS.namespace)).items
    missing = max(0, wanted - len(there))
    if not missing:
        return
    line(f"adding {missing} finished renders to the {len(there)} that are there")
    pattern = there[0]
    made: list[Body] = []
    # Stopped meanwhile: it must meet them as finished ones, not half made.
    await fleet.stop_operator()

    async def seed(name: str) -> None:
        body = RENDERS.body(name)
        del body["metadata"]["finalizers"]
        body["metadata"]["annotations"] = pattern["metadata"]["annotations"]  # archived, as the stamp says
        await cluster.create(AVATARS, body, RENDERS.namespace)
        status = {"status": pattern["status"]}
        made.append(await cluster.patch(AVATARS, name, status, RENDERS.namespace, subresource="status"))

    await in_parallel(seed, [f"seed-{number}" for number in range(missing)], SEEDERS)
    engine = make_engine(fleet.database_url, pooled=True)
    mirror = Mirror(engine)
    stored: set[str] = set()
    for at in range(0, len(made), 500):
        stored |= await mirror.record([RenderSeen(body) for body in made[at : at + 500]])
    await engine.dispose()
    if len(stored) != missing:
        raise Trouble(
            f"PostgreSQL has {len(stored)} of {missing} seeded renders", "see the operator's log in out/bench"
        )
    await fleet.start_operator()


async def _seed_live(fleet: Fleet, live: int) -> None:
    """Half of them running, without end, the other half waiting."""
    await fleet.add_provider(LIVE.provider, in_flight=live // 2)
    await fleet.add_tenant(LIVE.tenant)
    await create_all(fleet.plane.cluster, LIVE, [f"live-{number}" for number in range(live)], {})
    async with asyncio.timeout(RUNNING_WITHIN_SECONDS):
        while True:
            fleet.check()
            items = (await fleet.plane.cluster.list(AVATARS, LIVE.namespace)).items
            running = sum(1 for item in items if item.get("status", {}).get("phase") == "Running")
            if running >= live // 2:
                return
            await asyncio.sleep(1)
