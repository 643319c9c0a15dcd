"""Is waiting told right, and shared fairly? Here a provider takes ten at a time and each works for two seconds.

ETA: one tenant queues a batch; what each render was told about its start is held against its real start.
Fairness: one tenant dumps thousands; how long does another one's single render wait for its start?
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from renderfleet_bench.fleet import Fleet
from renderfleet_bench.load import Renders, Watcher, create_all
from renderfleet_bench.stats import eta_errors, quantile
from renderfleet_client.cluster import Body
from renderfleet_cluster.say import Trouble, line

PROVIDER = "timed"
IN_FLIGHT = 10
FIRST = Renders(tenant="timed-a", provider=PROVIDER)
SECOND = Renders(tenant="timed-b", provider=PROVIDER)
NOTHING_FOR_SECONDS = 90.0


@dataclass
class Lives:
    """What is seen of the renders of one namespace. Times by our own clock."""

    predictions: list[tuple[str, float, float]] = field(default_factory=list)
    """(render, when it was said, seconds to its start it said)."""
    started: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def see(self, change: str, seen: Body) -> None:
        """Take note of one state of one render."""
        now, name, status = time.monotonic(), seen["metadata"]["name"], seen.get("status") or {}
        if change == "DELETED":
            return
        eta = (status.get("queue") or {}).get("etaSeconds")
        if status.get("phase") == "Queued" and eta is not None:
            self.predictions.append((name, now, float(eta)))
        if status.get("startedAt") and name not in self.started:
            self.started[name] = now
            self.changed.set()
        if status.get("phase") == "Succeeded" and name not in self.ended:
            self.ended[name] = now
            self.changed.set()

    async def until(self, fleet: Fleet, *, started: int = 0, ended: int = 0) -> None:
        """Wait for so many starts and ends. Raises Trouble when nothing moves for long."""
        while len(self.started) < started or len(self.ended) < ended:
            self.changed.clear()
            try:
                await asyncio.wait_for(self.changed.wait(), NOTHING_FOR_SECONDS)
            except TimeoutError:
                fleet.check()
                raise Trouble(
                    f"{len(self.started)} started and {len(self.ended)} ended, then nothing for {NOTHING_FOR_SECONDS:.0f} s",
                    "see the operator's log in out/bench",
                ) from None

    def service_seconds(self) -> float:
        """Median time from start to end."""
        return quantile([self.ended[name] - self.started[name] for name in self.ended if name in self.started], 0.5)


async def prepare(fleet: Fleet) -> None:
    """The narrow provider and the two tenants."""
    await fleet.add_provider(PROVIDER, in_flight=IN_FLIGHT)
    for subject in (FIRST, SECOND):
        await fleet.add_tenant(subject.tenant)


@dataclass(frozen=True)
class EtaFound:
    """How good the predictions were."""

    errors: list[float]
    renders: int
    told: int
    """Renders that were told anything at all."""
    said_seconds_p50: float

    def note(self) -> str:
        return (
            f"{len(self.errors)} predictions for {self.told} of {self.renders} renders,"
            f" p90 {quantile(self.errors, 0.9):.2f}, median prediction {self.said_seconds_p50:.0f} s ahead"
        )

    def raw(self) -> dict[str, Any]:
        return {"errors": self.errors, "renders": self.renders, "told": self.told}


async def measure_eta(fleet: Fleet, count: int) -> EtaFound | None:
    """Queue a batch and watch it drain; None when not a single render was told when it would start."""
    line(f"{count} renders, {IN_FLIGHT} at a time: what are they told about their start, and when do they start?")
    lives = Lives()
    async with Watcher(fleet.plane.cluster, FIRST.resource, FIRST.namespace, lives.see):
        await create_all(fleet.plane.cluster, FIRST, [f"eta-{number}" for number in range(count)], {})
        await lives.until(fleet, ended=count)
    errors = eta_errors(lives.predictions, lives.started)
    if not errors:
        return None
    said = quantile([seconds for _, _, seconds in lives.predictions], 0.5)
    return EtaFound(errors, count, len({name for name, _, _ in lives.predictions}), said)


@dataclass(frozen=True)
class FairnessFound:
    """How long single renders waited beside a dump."""

    dump: int
    alone_seconds: float
    waits_seconds: list[float]
    service_seconds: float

    @property
    def worst(self) -> float:
        """Longest delay against the same render alone, in service times."""
        return max(0.0, max(self.waits_seconds) - self.alone_seconds) / self.service_seconds

    def note(self) -> str:
        return (
            f"{len(self.waits_seconds)} renders waited {quantile(self.waits_seconds, 0.5):.2f} s (median) behind {self.dump},"
            f" alone {self.alone_seconds:.2f} s; one service time is {self.service_seconds:.2f} s"
        )

    def raw(self) -> dict[str, Any]:
        return vars(self)


async def measure_fairness(fleet: Fleet, dump: int, probes: int) -> FairnessFound:
    """One tenant dumps, another one asks for a single render, several times."""
    cluster = fleet.plane.cluster
    crowd, single = Lives(), Lives()

    async def probe(name: str) -> float:
        sent: dict[str, float] = {}
        before = len(single.ended)
        await create_all(cluster, SECOND, [name], sent)
        await single.until(fleet, started=before + 1)
        wait = single.started[name] - sent[name]
        await single.until(fleet, ended=before + 1)
        return wait

    async with (
        Watcher(cluster, FIRST.resource, FIRST.namespace, crowd.see),
        Watcher(cluster, SECOND.resource, SECOND.namespace, single.see),
    ):
        alone = await probe("alone")
        line(f"one tenant dumps {dump} renders, another one asks for a single one, {probes} times")
        await create_all(cluster, FIRST, [f"dump-{number}" for number in range(dump)], {})
        await crowd.until(fleet, ended=2 * IN_FLIGHT)
        waits = [await probe(f"single-{number}") for number in range(probes)]
    return FairnessFound(dump, alone, waits, crowd.service_seconds())
