"""The crash sweep: break the operator at each write and each watch line of each story; the end must be as if nothing had been.

golden   each story three times, undisturbed: how many writes and watch lines it has, and what comes of it
deaths   the operator is killed at write k (before it is forwarded; or carried out, the answer lost), a new one is started
         and finishes the story. It is the next death's victim: the next story begins as soon as it is ready, so a story
         whose point is past may see others' deaths, too, and must not mind
losses   many at a time, since the operator lives on: a write is carried out but answered with 504, or a line is dropped
quiet    no slot of a provider is still taken; the operator is started once more, as for an upgrade, and for a while nothing
         at all may be written any more

Several stories are run side by side, each on a control plane of its own; see sidebyside.py and, for what is kept, found.py.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from renderfleet_cluster.say import Trouble, line
from renderfleet_faults.found import Found
from renderfleet_faults.lab import Lab, lab, machine
from renderfleet_faults.manager import RESYNC_SECONDS
from renderfleet_faults.oracle import Finding, Golden, Verdict, judge, judge_golden, must_be_reached
from renderfleet_faults.report import crash_table, troubles
from renderfleet_faults.scenarios import PATIENCE_SECONDS, SCENARIOS, Scenario, Trial, tenant_ready
from renderfleet_faults.sidebyside import side_by_side
from renderfleet_faults.traps import WRITES, Fault, Point, Trap

GOLDEN_RUNS = 3
QUIET_SECONDS = 60.0
QUICK_QUIET_SECONDS = 5.0
AT_REST_SECONDS = RESYNC_SECONDS + 2.0
"""An operator that wrote nothing for longer than a round of its own has nothing left to do."""
BOOKS_CLOSED_SECONDS = 35.0
"""A provider's tokens are full again, and said to be, within half a minute; a tenant's spending is told sooner."""
SPENDING_TOLD_SECONDS = 15.0
"""A tenant's spending is told ten seconds after an end, and no end of the last three seconds is in it."""
AT_A_TIME = 6
"""Stories in flight at once while the operator lives."""
RUNNERS_AT_A_TIME = 3
_SAY_EVERY_SECONDS = 10.0
_LOOK_SECONDS = 0.02
_DEATHS = (Fault.DIE_BEFORE, Fault.DIE_AFTER)


@dataclass
class Run:
    """A story that was played."""

    scenario: Scenario
    trial: Trial
    point: Point | None = None
    trap: Trap | None = None
    steps: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    slots_taken: int = 0
    """Of its providers, after its end."""
    trouble: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """Of the whole suite."""

    goldens: dict[str, Golden]
    verdicts: list[Verdict]
    stray_writes: list[str]
    """Writes in the quiet that belong to no story."""
    faults_of_the_harness: list[str]
    falls: list[str]
    """How the operator ended when nobody had killed it."""
    lost_leases: int
    complaints: list[str]
    start_seconds: list[float]

    @property
    def good(self) -> bool:
        return (
            all(one.good for one in self.verdicts)
            and not any(one.problems for one in self.goldens.values())
            and not self.stray_writes
            and not self.faults_of_the_harness
            and not self.falls
        )


@dataclass
class Progress:
    """Says now and then how far it is, and at once what is stuck."""

    total: int
    _begin: float = field(default_factory=time.monotonic)
    _said: float = field(default_factory=time.monotonic)
    _count: int = 0

    def done(self, run: Run) -> None:
        self._count += 1
        now = time.monotonic()
        if run.trouble:
            line(f"  stuck: {run.scenario.name}, {run.point}, {run.trial.subject}: {'; '.join(run.trouble)}")
        if now - self._said > _SAY_EVERY_SECONDS or self._count == self.total:
            self._said = now
            each = (now - self._begin) / self._count
            line(f"  {self._count} of {self.total}, {each:.1f} s each, {each * (self.total - self._count):.0f} s to go")


class CrashSweep:
    """See the module."""

    def __init__(self, the_lab: Lab, chosen: Sequence[Scenario], *, quick: bool, points: Sequence[str] = ()) -> None:
        self._lab = the_lab
        self._chosen = chosen
        self._quick = quick
        self._points = points
        """Only points in whose words one of these is; none: all points."""

    async def run(self, *, every: int = 1) -> Result:
        """All of it. `every` takes only each n-th point, for a short run."""
        golden_runs = await self._undisturbed()
        most = {scenario.name: _most(golden_runs, scenario) for scenario in self._chosen}
        sure = {scenario.name: _least(golden_runs, scenario) for scenario in self._chosen}
        deaths = await self._each(self._deaths, self._wanted(_death_points(self._chosen, most))[::every], sure)
        losses = await self._each(self._losses, self._wanted(_loss_points(self._chosen, most))[::every], sure)
        began = await self._quiet([*golden_runs, *deaths, *losses])
        goldens = {scenario.name: await self._golden(golden_runs, scenario, began) for scenario in self._chosen}
        reached = {(run.scenario.name, run.point) for run in [*deaths, *losses] if run.trap and run.trap.sprung}
        verdicts = [
            await self._verdict(run, goldens[run.scenario.name], began, (run.scenario.name, run.point) in reached)
            for run in [*deaths, *losses]
        ]
        return Result(
            goldens=goldens,
            verdicts=verdicts,
            stray_writes=[one.what for one in self._lab.api_proxy.writes(since=began) if one.subject is None],
            faults_of_the_harness=self._lab.node.faults,
            falls=self._lab.manager.falls,
            lost_leases=self._lab.manager.lost_leases,
            complaints=self._lab.manager.complaints(),
            start_seconds=self._lab.manager.start_seconds,
        )

    def _wanted(self, points: list[tuple[Scenario, Point]]) -> list[tuple[Scenario, Point]]:
        return [one for one in points if not self._points or any(words in str(one[1]) for words in self._points)]

    async def _undisturbed(self) -> list[Run]:
        line(f"undisturbed: {len(self._chosen)} stories, {GOLDEN_RUNS} times each")
        runs = await self._prepared([(scenario, None) for scenario in self._chosen for _ in range(GOLDEN_RUNS)])
        await self._play_many(runs)
        if stuck := {run.scenario.name: run.trouble for run in runs if run.trouble}:
            raise RuntimeError(f"stories do not come to their ends even undisturbed: {stuck}")
        rest = AT_REST_SECONDS if self._quick else BOOKS_CLOSED_SECONDS
        await self._lab.settled([run.trial.subject for run in runs], rest)
        for run in runs:
            run.steps = self._lab.traps.counts(run.trial.subject)
        for scenario in self._chosen:
            steps = _most(runs, scenario)
            seconds = max(run.seconds for run in runs if run.scenario is scenario)
            line(f"  {scenario.name}: {steps.get(WRITES, 0)} writes, {_line_count(steps)} lines, {seconds:.1f} s")
        return runs

    async def _each(
        self,
        broken: Callable[[Sequence[tuple[Scenario, Point]]], Awaitable[list[Run]]],
        points: Sequence[tuple[Scenario, Point]],
        sure: Mapping[str, Mapping[str, int]],
    ) -> list[Run]:
        """One run at each point; once more, alone, for those that others' deaths or delays have kept from their point."""
        runs = await broken(points)
        for scenario, point in missed(runs, sure):
            line(f"  never came to its point, once more: {scenario.name}, {point}")
            runs += await broken([(scenario, point)])
        return runs

    async def _deaths(self, points: Sequence[tuple[Scenario, Point]]) -> list[Run]:
        runs = await self._prepared(points)
        line(f"deaths: {len(runs)} points, one after the other")
        progress = Progress(len(runs))
        going: set[asyncio.Task[None]] = set()
        for run in runs:
            if len(going) >= AT_A_TIME:
                await self._revive_until(asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED))
                going = {one for one in going if not one.done()}
            playing = asyncio.create_task(self._play(run))
            playing.add_done_callback(lambda _, run=run: progress.done(run))  # type: ignore[misc]
            going.add(playing)
            await self._die_once(run, playing)
        await self._revive_until(asyncio.gather(*going))
        await self._late(runs)
        return runs

    async def _die_once(self, run: Run, playing: asyncio.Task[None]) -> None:
        """Come back when the operator has died at the run's point and lives again, or when the run is over without."""

        async def fell() -> None:
            while run.trap is None or not run.trap.carried_out:
                await asyncio.sleep(_LOOK_SECONDS)

        falling = asyncio.create_task(fell())
        await self._revive_until(asyncio.wait({playing, falling}, return_when=asyncio.FIRST_COMPLETED))
        falling.cancel()
        await self._revive()

    async def _late(self, runs: Sequence[Run]) -> None:
        """Some reports come a while after the end: wait for those whose points are still ahead, then for no more of them."""
        traps = [run.trap for run in runs if run.trap]

        async def all_over() -> None:
            until = time.monotonic() + BOOKS_CLOSED_SECONDS
            while not all(trap.carried_out for trap in traps):
                is_falling = any(trap.sprung and not trap.carried_out for trap in traps)
                if time.monotonic() > until and not is_falling:
                    break
                await asyncio.sleep(_LOOK_SECONDS)

        await self._revive_until(all_over())
        for trap in traps:
            self._lab.traps.disarm(trap)

    async def _revive_until(self, over: Awaitable[object]) -> None:
        """Start the operator again whenever it dies, until that is over."""
        waiting = asyncio.ensure_future(over)
        killed = self._lab.api_proxy.killed
        while not waiting.done():
            falling = asyncio.create_task(killed.wait())
            await asyncio.wait({waiting, falling}, return_when=asyncio.FIRST_COMPLETED)
            falling.cancel()
            await self._revive()
        waiting.result()

    async def _revive(self) -> None:
        """Start the operator again if it has died; it may die again while it starts."""
        killed = self._lab.api_proxy.killed
        while killed.is_set():
            killed.clear()
            try:
                await self._lab.manager.start()
            except RuntimeError:
                if not killed.is_set():
                    raise

    async def _losses(self, points: Sequence[tuple[Scenario, Point]]) -> list[Run]:
        line(f"losses: {len(points)} points, {AT_A_TIME} at a time")
        runs = await self._prepared(points)
        await self._play_many(runs, Progress(len(runs)))
        await self._late(runs)
        return runs

    async def _quiet(self, runs: Sequence[Run]) -> float:
        """Let everything come to rest, start the operator anew, watch the silence; the monotonic time it began at."""
        subjects = [run.trial.subject for run in runs]
        await self._lab.settled(subjects, AT_REST_SECONDS if self._quick else BOOKS_CLOSED_SECONDS)
        for run in runs:
            run.slots_taken = await self._lab.slots_taken(run.trial, run.scenario.vendors)
        if self._quick:
            # The next operator closes a provider's books at once, and a tenant's a while after it has read them.
            await self._restart()
            await asyncio.sleep(SPENDING_TOLD_SECONDS)
            await self._lab.settled(subjects, AT_REST_SECONDS)
        began = time.monotonic()
        await self._restart()
        seconds = QUICK_QUIET_SECONDS if self._quick else QUIET_SECONDS
        line(f"quiet for {seconds:.0f} s: nothing may be written")
        await asyncio.sleep(seconds)
        self._lab.backends.check()
        return began

    async def _restart(self) -> None:
        await self._lab.manager.stop()
        await self._lab.manager.start()

    # Playing

    async def _prepared(self, wanted: Sequence[tuple[Scenario, Point | None]]) -> list[Run]:
        """Subjects for all of these, with tenants that are ready and an operator that has nothing more to say of them."""
        runs = []
        for scenario, point in wanted:
            trial = await self._lab.trial(
                scenario.vendors, makes_tenant=scenario.makes_tenant, concurrency=scenario.concurrency
            )
            runs.append(Run(scenario, trial, point))
        for run in runs:
            if not run.scenario.makes_tenant:
                await tenant_ready(run.trial)
        await self._lab.settled([run.trial.subject for run in runs], AT_REST_SECONDS)
        return runs

    async def _play_many(self, runs: Sequence[Run], progress: "Progress | None" = None) -> None:
        room = asyncio.Semaphore(AT_A_TIME)

        async def one(run: Run) -> None:
            async with room:
                await self._play(run)
            if progress:
                progress.done(run)

        await asyncio.gather(*(one(run) for run in runs))

    async def _play(self, run: Run) -> None:
        begin = time.monotonic()
        run.trap = self._lab.traps.begin(run.trial.subject, run.point)
        try:
            async with asyncio.timeout(2 * PATIENCE_SECONDS):
                await run.scenario.play(run.trial)
        except TimeoutError as stuck:
            run.trouble.append(f"{stuck or 'never over'}; {self._now(run)}")
        run.seconds = time.monotonic() - begin

    def _now(self, run: Run) -> str:
        seen = []
        for body in self._lab.world.renders(run.trial.subject):
            status = body.get("status") or {}
            held = body["metadata"].get("finalizers", [])
            seen.append(f"{body['kind']} is {status.get('phase')}/{status.get('reason')}, finalizers {held}")
        return "; ".join(seen) or "there are no renders"

    # Judging

    async def _golden(self, runs: Sequence[Run], scenario: Scenario, quiet_since: float) -> Golden:
        mine = [run for run in runs if run.scenario is scenario]
        found = [await self._finding(run, quiet_since) for run in mine]
        return judge_golden(found, [run.steps for run in mine], scenario.paid)

    async def _verdict(self, run: Run, golden: Golden, quiet_since: float, is_reached: bool) -> Verdict:
        assert run.trap is not None
        point = run.trap.point
        problems = [*run.trouble, *judge(golden, await self._finding(run, quiet_since), run.scenario.paid)]
        if not is_reached and must_be_reached(golden, point):
            problems.append("no run ever came to this point, which each undisturbed one does")
        if run.slots_taken:
            problems.append(f"{run.slots_taken} slots of its provider were still taken after the end")
        limit = golden.seconds * AT_A_TIME + RESYNC_SECONDS + 10
        if point.fault is Fault.DROP_LINE and run.seconds > limit:
            problems.append(f"took {run.seconds:.1f} s: one resync ({RESYNC_SECONDS} s) should have been enough")
        return Verdict(run.scenario.name, point, run.trap.hit, problems, run.trial.subject, run.seconds)

    async def _finding(self, run: Run, quiet_since: float) -> Finding:
        late = self._lab.api_proxy.writes(subject=run.trial.subject, since=quiet_since)
        return await self._lab.finding(run.trial, [one.what for one in late], run.seconds)


def missed(runs: Sequence[Run], sure: Mapping[str, Mapping[str, int]]) -> list[tuple[Scenario, Point]]:
    """Points that a run never came to, although each undisturbed run of its story does."""
    return [
        (run.scenario, run.point)
        for run in runs
        if run.point
        and not (run.trap and run.trap.sprung)
        and run.point.number <= sure[run.scenario.name].get(run.point.series, 0)
    ]


def _most(runs: Sequence[Run], scenario: Scenario) -> dict[str, int]:
    mine = [run.steps for run in runs if run.scenario is scenario]
    return {series: max(steps.get(series, 0) for steps in mine) for series in sorted(set().union(*mine))}


def _least(runs: Sequence[Run], scenario: Scenario) -> dict[str, int]:
    mine = [run.steps for run in runs if run.scenario is scenario]
    return {series: min(steps.get(series, 0) for steps in mine) for series in set().union(*mine)}


def _line_count(steps: dict[str, int]) -> int:
    return sum(count for series, count in steps.items() if series.startswith("lines"))


def _death_points(chosen: Sequence[Scenario], most: dict[str, dict[str, int]]) -> list[tuple[Scenario, Point]]:
    return [
        (scenario, Point(WRITES, number, fault))
        for scenario in chosen
        for number in range(1, most[scenario.name].get(WRITES, 0) + 1)
        for fault in _DEATHS
    ]


def _loss_points(chosen: Sequence[Scenario], most: dict[str, dict[str, int]]) -> list[tuple[Scenario, Point]]:
    points = []
    for scenario in chosen:
        for series, count in most[scenario.name].items():
            if series == WRITES:
                points += [(scenario, Point(series, number, Fault.LOSE_REPLY)) for number in range(1, count + 1)]
            elif series.startswith("lines"):
                points += [(scenario, Point(series, number, Fault.DROP_LINE)) for number in range(1, count + 1)]
    return points


async def crash_suite(names: Sequence[str], points: Sequence[str], *, quick: bool, at_a_time: int) -> bool:
    """Run it, print the table, keep what was found below out/faults; True when all is well.

    Some points, or a single story, are tried here; several stories side by side. Raises Trouble for a name of no story.
    """
    if unknown := set(names) - {one.name for one in SCENARIOS}:
        raise Trouble(f"there is no story {', '.join(sorted(unknown))}", "--list names them all")
    chosen = [one for one in SCENARIOS if not names or one.name in names]
    if points or len(chosen) == 1:
        return await _sweep(chosen, points, quick=quick)
    begin = time.monotonic()
    found = Found()
    for scenario in chosen:
        found.forget(scenario.name)
    codes = await side_by_side(chosen, quick=quick, at_a_time=at_a_time)
    for scenario in chosen:
        print(f"{scenario.name}: {found.told(scenario.name) or 'nothing came of it'}")
    is_good = not any(codes.values())
    print(f"{found.table()}\n\ncrash sweep: {'good' if is_good else 'BAD'} after {time.monotonic() - begin:.0f} s")
    return is_good


async def _sweep(chosen: Sequence[Scenario], points: Sequence[str], *, quick: bool) -> bool:
    begin = time.monotonic()
    async with lab("crash", "c", runners_at_a_time=RUNNERS_AT_A_TIME, settings={}) as the_lab:
        result = await CrashSweep(the_lab, chosen, quick=quick, points=points).run()
    told = report(result, time.monotonic() - begin)
    print(told)
    if points:  # some points of a story are no account of it
        print(crash_table(result.goldens, result.verdicts))
    else:
        found = Found()
        for name, golden in result.goldens.items():
            found.keep(golden, [one for one in result.verdicts if one.scenario == name], name, told)
        print(found.table())
    print(f"\ncrash sweep: {'good' if result.good else 'BAD'}")
    return result.good


def report(result: Result, seconds: float) -> str:
    """What was found, in words; the table is apart."""
    starts = sorted(result.start_seconds)
    return "\n".join(
        [
            *troubles(result.goldens, result.verdicts),
            *(f"written in the quiet, for no story: {what}" for what in result.stray_writes),
            *(f"the harness itself: {what}" for what in result.faults_of_the_harness),
            *(f"ended by itself: {what}" for what in result.falls),
            *(f"the operator's log: {what}" for what in result.complaints),
            f"{len(result.verdicts)} points in {seconds:.0f} s on {machine()}; "
            f"operator starts: {len(starts)}, median {starts[len(starts) // 2]:.1f} s, slowest {starts[-1]:.1f} s; leases lost: {result.lost_leases}",
        ]
    )
