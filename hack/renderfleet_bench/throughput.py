"""How fast do many go through: bare Jobs and renders, by turns, the same number of each, on one plane.

Only such neighbours may be compared. The machine is shared and its speed changes by the minute.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from renderfleet_bench.audit import Account, account
from renderfleet_bench.fleet import Fleet
from renderfleet_bench.load import BareJobs, Batch, Renders, RunnerJobs, refuse_field_owners, remove_all, run_batch
from renderfleet_bench.plane import OPERATOR_USER, make_namespace
from renderfleet_bench.stats import Ratio, quantile, ratio_of_medians
from renderfleet_client.resources import JOBS, NAMESPACES, PODS
from renderfleet_cluster.say import line
from renderfleet_crds import meta

BARE = BareJobs("bare")
RENDERS = Renders(tenant="bench", provider="bench")
NO_TENANTS = "runners-alone"
AUDIT_LAG_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Round:
    """One batch in figures."""

    who: str
    count: int
    per_second: float
    seconds: float
    p50_seconds: float
    p99_seconds: float

    @staticmethod
    def of(who: str, batch: Batch) -> Round:
        latencies = batch.latencies()
        return Round(
            who=who,
            count=len(latencies),
            per_second=batch.per_second,
            seconds=batch.seconds,
            p50_seconds=quantile(latencies, 0.5),
            p99_seconds=quantile(latencies, 0.99),
        )

    def text(self) -> str:
        return (
            f"{self.who:<11} {self.count} in {self.seconds:.1f} s = {self.per_second:.1f}/s,"
            f" p50 {self.p50_seconds:.2f} s, p99 {self.p99_seconds:.2f} s"
        )


@dataclass
class Alternation:
    """Rounds by turns, and what the operator spent on its own."""

    size: int
    bare: list[Round] = field(default_factory=list)
    ours: list[Round] = field(default_factory=list)
    same: list[Round] = field(default_factory=list)
    """Of the runners' Jobs alone, when asked for."""
    cpu_seconds: float = 0.0
    writes: Counter[str] = field(default_factory=Counter)
    fleet_writes: Counter[str] = field(default_factory=Counter)
    events: int = 0
    refused: int = 0
    settle_seconds: list[float] = field(default_factory=list)
    """From the last end until the last render is archived and let go of, and the last Job has ended."""
    rss_mib: float = 0.0
    cpu_bare: dict[str, float] = field(default_factory=dict)
    cpu_same: dict[str, float] = field(default_factory=dict)
    cpu_ours: dict[str, float] = field(default_factory=dict)
    """Processor seconds of all rounds, by process."""
    pair_seconds: float = 0.0
    """How long the last pair took, with all cleaning up."""

    @property
    def renders(self) -> int:
        return sum(one.count for one in self.ours)

    @property
    def jobs(self) -> int:
        return sum(one.count for one in self.bare)

    @property
    def ratio(self) -> Ratio:
        """Throughput of renders over that of bare Jobs."""
        return ratio_of_medians([one.per_second for one in self.ours], [one.per_second for one in self.bare])

    @property
    def ratio_same(self) -> Ratio | None:
        """Throughput of renders over that of their runners' Jobs alone; None when those were not measured."""
        if not self.same:
            return None
        ours = self.ours[: len(self.same)]
        return ratio_of_medians([one.per_second for one in ours], [one.per_second for one in self.same])

    @property
    def ratio_settled(self) -> float:
        """The same, with the clock stopped only when the last render is archived and let go of."""
        settled = [one.count / (one.seconds + more) for one, more in zip(self.ours, self.settle_seconds, strict=True)]
        return ratio_of_medians(settled, [one.per_second for one in self.bare]).value

    @property
    def ratio_by_cpu(self) -> float:
        """Processor time of a bare Job over that of a render, all processes together.

        What the throughput's ratio comes to when both cores are busy with nothing else; other load disturbs it less.
        """
        return self.bare_seconds / (sum(self.cpu_ours.values()) / self.renders)

    @property
    def bare_seconds(self) -> float:
        """Processor time per bare Job, all processes together."""
        return sum(self.cpu_bare.values()) / self.jobs

    @property
    def same_seconds(self) -> float | None:
        """The same per runner's Job alone; None when those were not measured."""
        return sum(self.cpu_same.values()) / sum(one.count for one in self.same) if self.same else None

    def cpu_rows(self) -> list[tuple[str, str]]:
        """Milliseconds per object by process: bare Job, the runner's Job alone where it was measured, render."""
        counted = [(self.cpu_bare, self.bare), (self.cpu_same, self.same), (self.cpu_ours, self.ours)]
        columns = [
            {
                name: 1000 * seconds / sum(one.count for one in rounds)
                for name, seconds in [*spent.items(), ("all", sum(spent.values()))]
            }
            for spent, rounds in counted
            if rounds
        ]
        ours = columns[-1]
        return [
            (name, ", ".join(f"{column.get(name, 0):.1f} ms" for column in columns))
            for name in sorted(ours, key=lambda name: -ours[name])
        ]

    def note(self) -> str:
        """The spread, for beside the ratio."""
        ratio = self.ratio
        bare, ours = ([one.per_second for one in rounds] for rounds in (self.bare, self.ours))
        return (
            f"{quantile(ours, 0.5):.1f}/s against {quantile(bare, 0.5):.1f}/s, {ratio.pairs} pairs:"
            f" {ratio.lowest_pair:.2f} to {ratio.highest_pair:.2f}"
        )

    def raw(self) -> dict[str, Any]:
        """Every round, for the file."""
        return {
            "bare": [vars(one) for one in self.bare],
            "same": [vars(one) for one in self.same],
            "ours": [vars(one) for one in self.ours],
            "ratioSettled": self.ratio_settled,
            "settleSeconds": self.settle_seconds,
            "ratioByCpu": self.ratio_by_cpu,
            "cpuSeconds": self.cpu_seconds,
            "cpuBare": self.cpu_bare,
            "cpuSame": self.cpu_same,
            "cpuOurs": self.cpu_ours,
            "writes": dict(self.writes),
            "fleetWrites": dict(self.fleet_writes),
            "events": self.events,
            "refused": self.refused,
        }


async def warm_up(fleet: Fleet, count: int = 40) -> None:
    """A few of each that nobody counts: first connections, first imports, first pages."""
    line(f"warming up with {count} Jobs and {count} renders")
    names = [f"warm-{number}" for number in range(count)]
    await run_batch(fleet.plane.cluster, BARE, names)
    await run_batch(fleet.plane.cluster, RENDERS, names, alive=fleet.check)
    await clean(fleet)


async def runner_jobs(fleet: Fleet) -> RunnerJobs:
    """Jobs as a render has them, in a namespace that is labelled as a tenant's but no tenant's: no quota, no operator.

    Raises Trouble when they, or the render's own, keep an account of their field owners.
    """
    cluster = fleet.plane.cluster
    labels = (await cluster.get(NAMESPACES, RENDERS.namespace))["metadata"]["labels"]
    await make_namespace(cluster, NO_TENANTS, {key: labels[key] for key in labels if key != meta.TENANT_LABEL})
    await run_batch(cluster, RENDERS, ["model"], alive=fleet.check)
    made = RunnerJobs(NO_TENANTS, model=(await cluster.list(JOBS, RENDERS.namespace)).items[0])
    await run_batch(cluster, made, ["like-the-model"])
    for namespace in (RENDERS.namespace, NO_TENANTS):
        for resource in (JOBS, PODS):
            seen = (await cluster.list(resource, namespace)).items
            refuse_field_owners(f"{resource.plural} in {namespace}", seen)
    await clean(fleet)
    await remove_all(cluster, JOBS, NO_TENANTS)
    return made


async def alternate(
    fleet: Fleet,
    found: Alternation,
    pairs: int,
    go_on: Callable[[Alternation], bool],
    *,
    same: RunnerJobs | None = None,
    same_rounds: int = 0,
    keep_last: bool = False,
) -> None:
    """Add up to so many pairs to `found`, bare first, as long as `go_on` allows another one.

    `same` has a round in between, in the first `same_rounds` of them. `keep_last` leaves the last round's finished renders
    where they are. When it is cut off, what `found` holds is whole rounds; a bare one may be without its neighbour.
    """
    loop = asyncio.get_running_loop()
    size = found.size
    for number in range(pairs):
        begin = loop.time()
        names = [f"n{size}-{number}-{each}" for each in range(size)]
        before = fleet.cpu_seconds()
        batch = await run_batch(fleet.plane.cluster, BARE, names)
        add(found.cpu_bare, before, fleet.cpu_seconds())
        found.bare.append(Round.of("bare Jobs", batch))
        line(found.bare[-1].text())
        removing_seconds = await remove_all(fleet.plane.cluster, JOBS, BARE.namespace)
        if same is not None and number < same_rounds:
            before = fleet.cpu_seconds()
            batch = await run_batch(fleet.plane.cluster, same, names)
            add(found.cpu_same, before, fleet.cpu_seconds())
            found.same.append(Round.of("their Jobs", batch))
            line(found.same[-1].text())
            await remove_all(fleet.plane.cluster, JOBS, same.namespace)
        await _measure_ours(fleet, names, found)
        line(found.ours[-1].text())
        found.pair_seconds = loop.time() - begin + removing_seconds  # renders are yet to be removed, and take as long
        is_last = number == pairs - 1
        if not is_last and not go_on(found):
            line(f"no time for more than {number + 1} pairs of {size}")
            is_last = True
        if not (keep_last and is_last):
            await clean(fleet)
        if is_last:
            break


async def _measure_ours(fleet: Fleet, names: list[str], found: Alternation) -> None:
    operator = fleet.running_operator()
    place, before, all_before = fleet.plane.audit.place(), operator.cost(), fleet.cpu_seconds()
    batch = await run_batch(fleet.plane.cluster, RENDERS, names, alive=fleet.check)
    await fleet.until_jobs_end(RENDERS.namespace)
    settle_seconds = time.monotonic() - max(batch.ended.values())
    after, all_after = operator.cost(), fleet.cpu_seconds()
    await asyncio.sleep(AUDIT_LAG_SECONDS)
    spent = written(fleet, place)
    # From here on nothing waits, so a cut leaves whole rounds only.
    found.ours.append(Round.of("RenderFleet", batch))
    found.settle_seconds.append(settle_seconds)
    add(found.cpu_ours, all_before, all_after)
    found.cpu_seconds += after.cpu_seconds - before.cpu_seconds
    found.rss_mib = max(found.rss_mib, after.peak_rss_mib)
    found.writes += spent.by_what
    found.fleet_writes += spent.fleet
    found.events += spent.events
    found.refused += spent.refused


def add(total: dict[str, float], before: dict[str, float], after: dict[str, float]) -> None:
    """Add the processor seconds between two looks to `total`, by process."""
    for name, seconds in after.items():
        total[name] = total.get(name, 0.0) + max(0.0, seconds - before.get(name, 0.0))


def written(fleet: Fleet, place: int) -> Account:
    """What the operator wrote since a place in the audit log."""
    return account(OPERATOR_USER, fleet.plane.audit.since(place))


async def clean(fleet: Fleet) -> None:
    """Take away all Jobs and renders of the throughput rounds."""
    await remove_all(fleet.plane.cluster, JOBS, BARE.namespace)
    await remove_all(fleet.plane.cluster, RENDERS.resource, RENDERS.namespace)
