"""Decide what happens in which order, and what is left out when time runs short. One run, two planes, one report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from renderfleet_bench import ceiling, door, overhead, plane, restart, throughput, waiting
from renderfleet_bench import fleet as fleets
from renderfleet_bench.fleet import Fleet
from renderfleet_bench.load import RunnerJobs
from renderfleet_bench.plan import USUAL_JOBS_PER_SECOND, Plan, another_round_fits, rest_after
from renderfleet_bench.report import Report, by_count
from renderfleet_bench.stats import quantile
from renderfleet_bench.throughput import Alternation
from renderfleet_cluster.say import line
from renderfleet_cluster.shape import ControllerFlags, Shape, processes

DEFAULT_FLAGS = "default-flags"
"""The part that needs a plane of its own."""
WAITING = frozenset({"eta", "fairness"})
"""The parts that use the narrow provider."""
PLANE_SECONDS = 60.0
"""What a second plane is started for at least."""
TEAR_DOWN_SECONDS = 15.0
"""Kept back at the end, for leaving the machine as it was."""


class Run:
    """One run of the bench."""

    def __init__(self, plan: Plan, scratch: Path, logs: Path) -> None:
        self._plan, self._scratch, self._logs = plan, scratch, logs
        self._began = time.monotonic()
        self._jobs_per_second: float | None = None
        self._peak_rss_mib = 0.0
        self._spent: list[Alternation] = []
        self.report = Report(plan.name)

    async def measure(self) -> Report:
        """Everything. What goes wrong in one part is raised: a bench with a hole in it has failed."""
        parts = self._plan.parts
        if set(parts) - {DEFAULT_FLAGS}:
            async with self._fleet(ControllerFlags.TUNED) as fleet:
                await throughput.warm_up(fleet)
                if WAITING & set(parts):
                    await waiting.prepare(fleet)
                await self._part("throughput-500", self._throughput_500, fleet)
                await self._part("ceiling", self._ceiling, fleet)
                await self._part("overhead", self._overhead, fleet)
                await self._part("eta", self._eta, fleet)
                await self._part("throughput-5000", self._throughput_5000, fleet)
                await self._part("restart", self._restart, fleet)
                await self._part("fairness", self._fairness, fleet)
                await self._part("door", self._door, fleet)
        if DEFAULT_FLAGS in parts:
            if self._left() < PLANE_SECONDS:
                self._leave_out(DEFAULT_FLAGS, "no time was left")
            else:
                async with self._fleet(ControllerFlags.DEFAULT) as fleet:
                    await self._part(DEFAULT_FLAGS, self._default_flags, fleet)
        self._sum_up()
        return self.report

    @asynccontextmanager
    async def _fleet(self, flags: ControllerFlags) -> AsyncIterator[Fleet]:
        async with (
            plane.running(flags, self._scratch) as running,
            fleets.running(running, self._logs) as fleet,
        ):
            self.report.sections.setdefault("Flags", []).append((flags.value, client_flags(running.shape)))
            await plane.make_namespace(running.cluster, throughput.BARE.namespace)
            await fleet.add_provider(throughput.RENDERS.provider)
            await fleet.add_tenant(throughput.RENDERS.tenant)
            yield fleet

    async def _part(self, name: str, measure: Callable[[Fleet], Awaitable[None]], fleet: Fleet) -> None:
        if name not in self._plan.parts:
            return
        left = self._left()
        if left <= 0:
            self._leave_out(name, "no time was left")
            return
        begin = time.monotonic()
        try:
            async with asyncio.timeout(left):
                await measure(fleet)
        except TimeoutError:
            if self._left() > 0:  # some other clock ran out: an error like any other
                raise
            self._leave_out(name, f"cut off after {left:.0f} s: no time was left")
        line(
            f"-- {name}: {time.monotonic() - begin:.0f} s, {self._elapsed():.0f} of {self._plan.limit_seconds:.0f} s gone"
        )

    def _leave_out(self, part: str, why: str) -> None:
        line(f"left out: {part}: {why}")
        self.report.sections.setdefault("Left out", []).append((part, why))

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _left(self) -> float:
        return self._plan.limit_seconds - TEAR_DOWN_SECONDS - self._elapsed()

    def _fits(self, part: str, round_seconds: float) -> bool:
        return another_round_fits(
            elapsed_seconds=self._elapsed() + TEAR_DOWN_SECONDS,
            limit_seconds=self._plan.limit_seconds,
            round_seconds=round_seconds,
            rest_seconds=rest_after(self._plan, part, self._jobs_per_second),
        )

    async def _alternate(
        self,
        fleet: Fleet,
        part: str,
        key: str,
        size: int,
        pairs: int,
        *,
        same: RunnerJobs | None = None,
        keep_last: bool = False,
    ) -> None:
        """Rounds by turns; what was measured counts even when the rest was cut off."""
        found = Alternation(size)
        try:
            await throughput.alternate(
                fleet,
                found,
                pairs,
                lambda so_far: self._fits(part, so_far.pair_seconds),
                same=same,
                same_rounds=self._plan.same_500,
                keep_last=keep_last,
            )
        finally:
            if found.ours:
                self._keep(found, key)

    async def _throughput_500(self, fleet: Fleet) -> None:
        same = await throughput.runner_jobs(fleet) if self._plan.same_500 else None
        await self._alternate(fleet, "throughput-500", "ratio_500", 500, self._plan.pairs_500, same=same)

    async def _ceiling(self, fleet: Fleet) -> None:
        found = await ceiling.measure(fleet, self._plan.ceiling)
        report = self.report
        report.sections["Processor time per request on a render: as it is, with the smallest status"] = found.rows()
        report.raw["ceiling"] = found.raw()
        whole, smallest = found.totals
        report.numbers["requests_cpu_ms_per_render"] = 1000 * whole
        report.notes["requests_cpu_ms_per_render"] = f"{1000 * smallest:.1f} with the smallest status"
        rounds = self._spent[0] if self._spent else None
        if rounds is None or rounds.same_seconds is None:
            report.notes["ratio_ceiling"] = (
                "needs rounds of bare Jobs and of the runners' Jobs: throughput-500, long form"
            )
            return
        as_it_is, at_best = found.ceilings(rounds.bare_seconds, rounds.same_seconds)
        report.numbers["ratio_ceiling"] = at_best
        report.notes["ratio_ceiling"] = (
            f"{1000 * rounds.bare_seconds:.1f} ms a bare Job, {1000 * rounds.same_seconds:.1f} ms a runner's Job;"
            f" with the status as it is {as_it_is:.2f}"
        )

    async def _overhead(self, fleet: Fleet) -> None:
        found = await overhead.measure(fleet, self._plan.singles)
        self.report.numbers["overhead_p50_s"] = found.p50_seconds
        self.report.notes["overhead_p50_s"] = found.note()
        self.report.raw["overhead"] = found.raw()

    async def _eta(self, fleet: Fleet) -> None:
        found = await waiting.measure_eta(fleet, self._plan.eta_renders)
        if found is None:
            self.report.notes["eta_error_p50"] = "no render was told when it would start"
            return
        self.report.numbers["eta_error_p50"] = quantile(found.errors, 0.5)
        self.report.notes["eta_error_p50"] = found.note()
        self.report.raw["eta"] = found.raw()

    async def _throughput_5000(self, fleet: Fleet) -> None:
        part = "throughput-5000"
        expected = 5000 * 3 / (self._jobs_per_second or USUAL_JOBS_PER_SECOND) + 60
        if not self._fits(part, expected):
            self.report.notes["ratio_5000"] = f"left out: a pair would take some {expected:.0f} s on this machine now"
            return
        await self._alternate(fleet, part, "ratio_5000", 5000, self._plan.pairs_5000, keep_last=True)

    async def _restart(self, fleet: Fleet) -> None:
        found = await restart.measure(fleet, self._plan.finished, self._plan.live)
        self._peak_rss_mib = max(self._peak_rss_mib, found.peak_rss_mib)
        report = self.report
        report.numbers["restart_ready_s"] = found.ready_seconds
        report.notes["restart_ready_s"] = found.note()
        report.numbers["restart_writes_finished"] = found.writes_finished
        report.notes["restart_writes_finished"] = f"of {sum(found.writes.values())} writes by the new operator"
        report.sections["Restart"] = [
            ("graceful stop", f"{found.stop_seconds:.2f} s"),
            ("memory now, at its peak", f"{found.rss_mib:.0f} MiB, {found.peak_rss_mib:.0f} MiB"),
            *by_count(found.writes, 1 + found.live),
        ]
        report.raw["restart"] = found.raw()

    async def _fairness(self, fleet: Fleet) -> None:
        found = await waiting.measure_fairness(fleet, self._plan.fairness_dump, self._plan.fairness_probes)
        self.report.numbers["fairness"] = found.worst
        self.report.notes["fairness"] = found.note()
        self.report.raw["fairness"] = found.raw()

    async def _door(self, fleet: Fleet) -> None:
        found = await door.measure(fleet, self._plan.door)
        report = self.report
        for key, value, note in (
            ("submit_ratio", found.submits.ratio.value, found.submits.note()),
            ("get_ratio", found.gets.ratio.value, found.gets.note()),
            ("sse_p99_s", found.heard.p99_seconds, found.heard.note()),
            ("api_rss_mib", found.peak_rss_mib, found.rss_note()),
        ):
            report.numbers[key] = value
            report.notes[key] = note
        report.sections["Processor time per bare POST, per submit"] = found.submits.cpu_rows()
        report.sections["Processor time per bare GET, per GET of a job"] = found.gets.cpu_rows()
        report.raw["door"] = found.raw()

    async def _default_flags(self, fleet: Fleet) -> None:
        await throughput.warm_up(fleet, 15)
        plan = self._plan
        await self._alternate(
            fleet, DEFAULT_FLAGS, "ratio_default_flags", plan.default_flags_count, plan.default_flags_pairs
        )

    def _keep(self, found: Alternation, key: str) -> None:
        self.report.numbers[key] = found.ratio.value
        self.report.notes[key] = found.note()
        self.report.raw[key] = found.raw()
        self.report.sections[f"Rounds of {found.size} ({key})"] = [
            *((one.who, one.text()) for one in [*found.bare, *found.same, *found.ours]),
            (
                "until let go of",
                f"ratio {found.ratio_settled:.2f} with the clock stopped when the last one is archived",
            ),
            (
                "operator",
                f"{1000 * found.cpu_seconds / found.renders:.1f} ms per render, {found.rss_mib:.0f} MiB at its peak",
            ),
        ]
        who = "per bare Job, per runner's Job, per render" if found.same else "per bare Job, per render"
        title = f"Processor time {who} ({key}); ratio by it: {found.ratio_by_cpu:.2f}"
        self.report.sections[title] = found.cpu_rows()
        self._peak_rss_mib = max(self._peak_rss_mib, found.rss_mib)
        if found.ratio_same is not None:
            self.report.numbers["ratio_500_same_job"] = found.ratio_same.value
            self.report.notes["ratio_500_same_job"] = "the same pod spec, with no render, record or archive behind it"
        if key == "ratio_500":
            self._jobs_per_second = found.bare[-1].per_second
            self._keep_writes(found)
        if key != "ratio_default_flags":
            self._spent.append(found)

    def _keep_writes(self, found: Alternation) -> None:
        report = self.report
        report.numbers["operator_writes_per_render"] = sum(found.writes.values()) / found.renders
        report.notes["operator_writes_per_render"] = (
            f"over {found.renders} renders, audit log; {found.refused} refused; besides, per render:"
            f" {found.events / found.renders:.2f} Events, {found.fleet_writes.total() / found.renders:.2f} to providers"
            " and tenants; Lease left out"
        )
        report.sections["What the operator wrote"] = by_count(found.writes + found.fleet_writes, found.renders)

    def _sum_up(self) -> None:
        report = self.report
        report.numbers["operator_rss_mib"] = self._peak_rss_mib or None
        report.notes["operator_rss_mib"] = "largest of all parts"
        renders = sum(one.renders for one in self._spent)
        if renders:
            cpu = sum(one.cpu_seconds for one in self._spent)
            report.numbers["operator_cpu_ms_per_render"] = 1000 * cpu / renders
            report.notes["operator_cpu_ms_per_render"] = f"{cpu:.0f} s for {renders} renders"


def client_flags(shape: Shape) -> str:
    """Which client limits the controller manager and the scheduler of a plane run with."""
    said = []
    for process in processes(shape):
        given = [one for one in process.command if one.startswith(("--kube-api-", "--concurrent-"))]
        if process.name in ("kube-controller-manager", "kube-scheduler"):
            said.append(f"{process.name}: {' '.join(given) or 'Kubernetes defaults'}")
    return "; ".join(said)
