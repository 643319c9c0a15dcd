"""What would be reached if the operator cost nothing? A render's own requests, made alone, with nobody who reads them.

Beside its runner's Job a render is a few requests on a custom resource: the client's POST, the fence, the end, the
finalizer. They are replayed as a real render made them, with the operator stopped, and once more with the smallest status
that says anything. No operator, whatever it is written in, can save Job and requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from renderfleet_bench.fleet import Fleet
from renderfleet_bench.load import AVATARS, Watcher, in_parallel, remove_all, run_batch
from renderfleet_bench.proc import cpu_seconds_of_tree
from renderfleet_bench.throughput import RENDERS
from renderfleet_client.cluster import Body
from renderfleet_cluster.say import Trouble, line
from renderfleet_operator.execute import merge_patch

CONCURRENCY = 8
LAG_SECONDS = 0.5
"""Within which watchers have been told of the last write."""
IDLE_SECONDS = 4.0
SMALLEST = ({"phase": "Running"}, {"phase": "Succeeded"})


@dataclass(frozen=True)
class Requests:
    """Processor seconds of the whole control plane per render, by request, for statuses as they are and as small as can be."""

    count: int
    whole: dict[str, float]
    smallest: dict[str, float]

    @property
    def totals(self) -> tuple[float, float]:
        """Of all requests: (as they are, with the smallest status)."""
        return sum(self.whole.values()), sum(self.smallest.values())

    def rows(self) -> list[tuple[str, str]]:
        """Milliseconds by request: as it is, with the smallest status."""
        totals = [("all", *self.totals)]
        each = [(name, seconds, self.smallest[name]) for name, seconds in self.whole.items()]
        return [(name, f"{1000 * whole:.1f} ms, {1000 * least:.1f} ms") for name, whole, least in [*each, *totals]]

    def ceilings(self, bare_seconds: float, job_seconds: float) -> tuple[float, float]:
        """(as it is, with the smallest status): processor time of a bare Job over a runner's Job and the requests."""
        whole, least = self.totals
        return bare_seconds / (job_seconds + whole), bare_seconds / (job_seconds + least)

    def raw(self) -> dict[str, Any]:
        return vars(self)


async def measure(fleet: Fleet, count: int) -> Requests:
    """Replay the requests of one render `count` times, each kind of request for itself."""
    fence, end, let_go = await _one_render(fleet)
    line(f"replaying the requests of {count} renders, with no operator")
    await fleet.stop_operator()
    idle = await _idle(fleet)
    whole = await _replay(fleet, count, (fence["status"], end["status"]), let_go["metadata"]["annotations"], idle)
    smallest = await _replay(fleet, count, SMALLEST, let_go["metadata"]["annotations"], idle)
    await fleet.start_operator()
    return Requests(count, whole, smallest)


async def _one_render(fleet: Fleet) -> tuple[Body, Body, Body]:
    """A render after each of the operator's writes to it: the fence, the end, and without its finalizer."""
    versions: dict[str, Body] = {}
    name = "replayed"

    def see(_: str, seen: Body) -> None:
        if seen["metadata"]["name"] == name:
            versions[seen["metadata"]["resourceVersion"]] = seen

    async with Watcher(fleet.plane.cluster, AVATARS, RENDERS.namespace, see):
        await run_batch(fleet.plane.cluster, RENDERS, [name], alive=fleet.check)
        await asyncio.sleep(LAG_SECONDS)
    await remove_all(fleet.plane.cluster, AVATARS, RENDERS.namespace)
    written = [seen for seen in versions.values() if seen.get("status") and "deletionTimestamp" not in seen["metadata"]]
    if len(written) != 3:
        raise Trouble(f"the operator wrote a render's object {len(written)} times, not 3", "was it told its place?")
    return written[0], written[1], written[2]


async def _replay(
    fleet: Fleet, count: int, statuses: tuple[Body, Body], annotations: Body, idle: float
) -> dict[str, float]:
    """Processor seconds per render, by request."""
    cluster, namespace = fleet.plane.cluster, RENDERS.namespace
    names = [f"again-{number}" for number in range(count)]
    versions: dict[str, str] = {}

    async def post(name: str) -> None:
        made = await cluster.create(AVATARS, RENDERS.body(name), namespace)
        versions[name] = made["metadata"]["resourceVersion"]

    async def patch(name: str, change: Body, subresource: str | None) -> None:
        about = {**change.get("metadata", {}), "resourceVersion": versions[name]}
        made = await cluster.patch(
            AVATARS, name, {**change, "metadata": about}, namespace, subresource=subresource, how="merge"
        )
        versions[name] = made["metadata"]["resourceVersion"]

    fence, end = statuses
    change = merge_patch(fence, end)
    steps: dict[str, Callable[[str], Awaitable[None]]] = {
        "POST": post,
        "the fence": lambda name: patch(name, {"status": fence}, "status"),
        "the end": lambda name: patch(name, {"status": change}, "status"),
        "the finalizer": lambda name: patch(name, {"metadata": {"finalizers": [], "annotations": annotations}}, None),
    }
    spent = {what: await _spent(fleet, step, names, idle) / count for what, step in steps.items()}
    await remove_all(cluster, AVATARS, namespace)
    return spent


async def _spent(fleet: Fleet, step: Callable[[str], Awaitable[None]], names: list[str], idle: float) -> float:
    """Processor seconds of the control plane while a step is taken for all names and those who watch are told."""
    begin, before = time.monotonic(), _control_plane(fleet)
    await in_parallel(step, names, CONCURRENCY)
    await asyncio.sleep(LAG_SECONDS)
    return _control_plane(fleet) - before - idle * (time.monotonic() - begin)


async def _idle(fleet: Fleet) -> float:
    """Processor seconds that the control plane takes per second with nothing to do."""
    begin, before = time.monotonic(), _control_plane(fleet)
    await asyncio.sleep(IDLE_SECONDS)
    return (_control_plane(fleet) - before) / (time.monotonic() - begin)


def _control_plane(fleet: Fleet) -> float:
    return sum(cpu_seconds_of_tree(pid) for pid in fleet.plane.pids().values())
