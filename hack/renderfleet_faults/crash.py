"""The crash sweep: break the operator at each write and each watch line of each story; the end must be as if nothing had been.

golden   each story three times, undisturbed: how many writes and watch lines it has, and what comes of it
deaths   one after the other, since there is one operator: it is killed at write k (before it is forwarded; or carried out,
         the answer lost), a new one is started and finishes the story. It is the next death's victim
losses   many at a time, since the operator lives on: a write is carried out but answered with 504, or a line is dropped
quiet    for a while nothing at all may be written any more
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from renderfleet_cluster.say import line
from renderfleet_faults.lab import Lab, lab, machine
from renderfleet_faults.manager import RESYNC_SECONDS
from renderfleet_faults.oracle import Finding, Golden, Verdict, judge, judge_golden, must_be_reached
from renderfleet_faults.report import crash_table, troubles
from renderfleet_faults.scenarios import PATIENCE_SECONDS, SCENARIOS, Scenario, Trial, tenant_ready
from renderfleet_faults.traps import WRITES, Fault, Point, Trap

GOLDEN_RUNS = 3
QUIET_SECONDS = 60.0
QUICK_QUIET_SECONDS = 5.0
AT_A_TIME = 6
"""Stories in flight at once while the operator lives."""
RUNNERS_AT_A_TIME = 3
_DEATHS = (Fault.DIE_BEFORE, Fault.DIE_AFTER)
_SETTINGS = {"RENDERFLEET_LOG_LEVEL": "INFO"}


@dataclass
class Run:
    """A story that was played, and how far its judgement has got."""

    scenario: Scenario
    trial: Trial
    trap: Trap | None = None
    seconds: float = 0.0
    over_at: float = 0.0
    """Monotonic; from then on nothing may be written for it."""
    trouble: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """Of the whole suite."""

    goldens: dict[str, Golden]
    verdicts: list[Verdict]
    stray_writes: list[str]
    """Writes in the quiet that belong to no story."""
    faults_of_the_harness: list[str]
    complaints: list[str]
    start_seconds: list[float]

    @property
    def good(self) -> bool:
        return (
            all(one.good for one in self.verdicts)
            and not any(one.problems for one in self.goldens.values())
            and not self.stray_writes
            and not self.faults_of_the_harness
        )


class CrashSweep:
    """See the module."""

    def __init__(self, the_lab: Lab, chosen: Sequence[Scenario], quiet_seconds: float) -> None:
        self._lab = the_lab
        self._chosen = chosen
        self._quiet_seconds = quiet_seconds
        self._goldens: dict[str, Golden] = {}

    async def run(self, *, every: int = 1) -> Result:
        """All of it. `every` takes only each n-th point, for a short run."""
        the_lab = self._lab
        golden_runs = await self._golden_runs()
        deaths = await self._deaths(self._death_points()[::every])
        losses = await self._losses(self._loss_points()[::every])
        line(f"quiet for {self._quiet_seconds:.0f} s: nothing may be written")
        for run in [*golden_runs, *deaths, *losses]:
            run.over_at = max(run.over_at, await the_lab.settled(run.trial.subject))
        began = time.monotonic()
        await asyncio.sleep(self._quiet_seconds)
        for run in golden_runs:
            late = self._late(run)
            if late:
                golden = self._goldens[run.scenario.name]
                more = [*golden.problems, *(f"{what} after the end" for what in late)]
                self._goldens[run.scenario.name] = Golden(golden.state, golden.sure, golden.most, golden.seconds, more)
        verdicts = [await self._verdict(run) for run in [*deaths, *losses]]
        stray = [one.what for one in the_lab.api_proxy.writes(since=began) if one.subject is None]
        the_lab.backends.check()
        the_lab.manager.check()
        return Result(
            self._goldens,
            verdicts,
            stray,
            the_lab.node.faults,
            the_lab.manager.complaints(),
            the_lab.manager.start_seconds,
        )

    # Undisturbed

    async def _golden_runs(self) -> list[Run]:
        line(f"undisturbed: {len(self._chosen)} stories, {GOLDEN_RUNS} times each")
        runs = [await self._new_run(scenario) for scenario in self._chosen for _ in range(GOLDEN_RUNS)]
        await self._play_many(runs)
        for scenario in self._chosen:
            mine = [run for run in runs if run.scenario is scenario]
            if failed := [problem for run in mine for problem in run.trouble]:
                raise RuntimeError(f"{scenario.name} does not come to its end even undisturbed: {failed}")
            for run in mine:
                run.over_at = await self._lab.settled(run.trial.subject)
            found = [await self._lab.finding(run.trial, [], run.seconds) for run in mine]
            steps = [self._lab.traps.counts(run.trial.subject) for run in mine]
            golden = self._goldens[scenario.name] = judge_golden(found, steps, scenario.paid)
            line(
                f"  {scenario.name}: {golden.most.get(WRITES, 0)} writes, {_lines(golden)} lines, {golden.seconds:.1f} s"
            )
        return runs

    # With deaths

    def _death_points(self) -> list[tuple[Scenario, Point]]:
        return [
            (scenario, Point(WRITES, number, fault))
            for scenario in self._chosen
            for number in range(1, self._goldens[scenario.name].most.get(WRITES, 0) + 1)
            for fault in _DEATHS
        ]

    async def _deaths(self, points: Sequence[tuple[Scenario, Point]]) -> list[Run]:
        runs = [await self._new_run(scenario, point) for scenario, point in points]
        for run in runs:
            await self._tenant_is_there(run)
        line(f"deaths: {len(runs)} points, one after the other")
        begin = time.monotonic()
        for number, run in enumerate(runs, start=1):
            await self._die_once(run)
            if number % 10 == 0 or number == len(runs):
                line(f"  {number} of {len(runs)}, {(time.monotonic() - begin) / number:.1f} s each")
        return runs

    async def _die_once(self, run: Run) -> None:
        sprung = self._lab.api_proxy.sprung
        sprung.clear()
        playing = asyncio.create_task(self._play(run))
        falling = asyncio.create_task(sprung.wait())
        await asyncio.wait({playing, falling}, return_when=asyncio.FIRST_COMPLETED)
        if falling.done():
            await self._lab.manager.start()
        falling.cancel()
        await playing

    # With losses

    def _loss_points(self) -> list[tuple[Scenario, Point]]:
        points = []
        for scenario in self._chosen:
            for series, count in sorted(self._goldens[scenario.name].most.items()):
                if series == WRITES:
                    points += [(scenario, Point(series, number, Fault.LOSE_REPLY)) for number in range(1, count + 1)]
                elif series.startswith("lines"):
                    points += [(scenario, Point(series, number, Fault.DROP_LINE)) for number in range(1, count + 1)]
        return points

    async def _losses(self, points: Sequence[tuple[Scenario, Point]]) -> list[Run]:
        line(f"losses: {len(points)} points, {AT_A_TIME} at a time")
        runs = [await self._new_run(scenario, point) for scenario, point in points]
        await self._play_many(runs)
        return runs

    # Playing

    async def _new_run(self, scenario: Scenario, point: Point | None = None) -> Run:
        trial = await self._lab.trial(makes_tenant=scenario.makes_tenant, concurrency=scenario.concurrency)
        return Run(scenario, trial, self._lab.traps.set(trial.subject, point) if point else None)

    async def _play_many(self, runs: Sequence[Run]) -> None:
        room = asyncio.Semaphore(AT_A_TIME)

        async def one(run: Run) -> None:
            async with room:
                await self._tenant_is_there(run)
                await self._play(run)

        await asyncio.gather(*(one(run) for run in runs))

    async def _tenant_is_there(self, run: Run) -> None:
        if not run.scenario.makes_tenant:
            await tenant_ready(run.trial)

    async def _play(self, run: Run) -> None:
        begin = time.monotonic()
        try:
            async with asyncio.timeout(2 * PATIENCE_SECONDS):
                await run.scenario.play(run.trial)
        except TimeoutError as stuck:
            run.trouble.append(f"{stuck or 'never over'}; {self._now(run)}")
        run.seconds = time.monotonic() - begin
        run.over_at = time.monotonic()

    def _now(self, run: Run) -> str:
        seen = []
        for body in self._lab.world.renders(run.trial.subject):
            status = body.get("status") or {}
            held = body["metadata"].get("finalizers", [])
            seen.append(f"{body['kind']} is {status.get('phase')}/{status.get('reason')}, finalizers {held}")
        return "; ".join(seen) or "there are no renders"

    # Judging

    def _late(self, run: Run) -> list[str]:
        writes = self._lab.api_proxy.writes(subject=run.trial.subject, since=run.over_at + 0.001)
        return [one.what for one in writes]

    async def _verdict(self, run: Run) -> Verdict:
        assert run.trap is not None
        golden = self._goldens[run.scenario.name]
        late = self._lab.api_proxy.writes(subject=run.trial.subject, since=run.over_at + 0.001)
        found: Finding = await self._lab.finding(run.trial, late, run.seconds)
        problems = [*run.trouble, *judge(golden, found, run.scenario.paid)]
        point = run.trap.point
        if not run.trap.sprung and must_be_reached(golden, point):
            problems.append("the run never came to this point, which each undisturbed one does")
        limit = golden.seconds * 3 + RESYNC_SECONDS + 10
        if point.fault is Fault.DROP_LINE and run.seconds > limit:
            problems.append(f"took {run.seconds:.1f} s: one resync ({RESYNC_SECONDS} s) should have been enough")
        return Verdict(run.scenario.name, point, run.trap.hit, problems, run.trial.subject, run.seconds)


def _lines(golden: Golden) -> int:
    return sum(count for series, count in golden.most.items() if series != WRITES and series.startswith("lines"))


async def crash_suite(names: Sequence[str], *, quick: bool) -> bool:
    """Run it, print the table, write `out/faults/crash/result.json`; True when all is well."""
    chosen = [one for one in SCENARIOS if not names or one.name in names]
    begin = time.monotonic()
    async with lab("crash", "c", runners_at_a_time=RUNNERS_AT_A_TIME, settings=_SETTINGS) as the_lab:
        sweep = CrashSweep(the_lab, chosen, QUICK_QUIET_SECONDS if quick else QUIET_SECONDS)
        result = await sweep.run()
    report(result, the_lab, time.monotonic() - begin)
    return result.good


def report(result: Result, the_lab: Lab, seconds: float) -> None:
    """Print what was found, the table last; the same as JSON into the suite's folder."""
    for one in troubles(result.goldens, result.verdicts):
        print(one)
    for what in result.stray_writes:
        print(f"written in the quiet, for no story: {what}")
    for what in result.faults_of_the_harness:
        print(f"the harness itself: {what}")
    for what in result.complaints:
        print(f"the operator's log: {what}")
    starts = sorted(result.start_seconds)
    print(
        f"\n{len(result.verdicts)} points in {seconds:.0f} s on {machine()}; "
        f"operator starts: {len(starts)}, median {starts[len(starts) // 2]:.1f} s, slowest {starts[-1]:.1f} s"
    )
    print(crash_table(result.goldens, result.verdicts))
    print(f"\ncrash sweep: {'good' if result.good else 'BAD'}")
    (the_lab.folder / "result.json").write_text(
        json.dumps(
            {
                "good": result.good,
                "goldens": {name: asdict(one) for name, one in result.goldens.items()},
                "verdicts": [asdict(one) for one in result.verdicts],
                "strayWrites": result.stray_writes,
                "complaints": result.complaints,
                "startSeconds": starts,
            },
            indent=2,
        )
    )
