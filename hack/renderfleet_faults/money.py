"""The money sweep: break real runners at each request that they make; no paid call may happen twice, none may get lost.

undisturbed   each story once: which requests its runners make, stage by stage
killed        SIGKILL before request k leaves; SIGKILL after it was carried out, before the answer is read
again         killed as above, and the program is started once more with the same task, as Kubernetes may do
deleted       the pod is deleted at request k: SIGTERM, and the usual grace
no answer     request k is carried out and answered with 504
twins         two processes with one task at the same time, several times; either's end is the pod's

The operator is real too and decides what happens next, so what is judged is the whole: runner, record, operator, vendor.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from renderfleet_cluster.say import line
from renderfleet_crds import kinds, meta
from renderfleet_crds.phases import Phase
from renderfleet_faults import scenarios
from renderfleet_faults.accounts import Account, Evidence, Outcome, settle, summary
from renderfleet_faults.lab import Lab, lab, machine
from renderfleet_faults.report import table
from renderfleet_faults.scenarios import DID, ELEVENLABS, IMAGE, OPENAI, SCRIPT, SPEECH, TALK, Trial
from renderfleet_faults.traps import Fault, Point, Starts, Trap
from renderfleet_faults.world import phase_of
from renderfleet_store.media import MediaUnavailable

AT_A_TIME = 10
RUNNERS_AT_A_TIME = 6
TWINS = 4
"""Pairs per story and reporter: which of two wins a race is not the same each time."""
PATIENCE_SECONDS = 240.0
"""A second process waits a minute for the first one's result before it judges."""
_LAST_LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Story:
    """One render whose runners are broken."""

    name: str
    kind: kinds.ResourceKind
    spec: Any
    """Trial -> spec."""
    paid: dict[str, int]
    vendors: tuple[str, ...]
    may_be_held: frozenset[str]
    """Stages in which the vendor cannot be asked what happened."""


STORIES = (
    Story("AvatarRender", kinds.AVATAR_RENDER, scenarios.avatar_spec, {IMAGE: 1}, (OPENAI,), frozenset({"generate"})),
    Story("VoiceJob", kinds.VOICE_JOB, scenarios.voice_spec, {SPEECH: 1}, (ELEVENLABS,), frozenset({"synthesize"})),
    Story(
        "VoiceJob, prompt",
        kinds.VOICE_JOB,
        scenarios.prompt_spec,
        {SCRIPT: 1, SPEECH: 1},
        (OPENAI, ELEVENLABS),
        frozenset({"synthesize"}),
    ),
    Story("VideoRender", kinds.VIDEO_RENDER, scenarios.video_spec, {TALK: 1}, (DID,), frozenset()),
)


@dataclass
class Run:
    """One story with one thing broken."""

    story: Story
    trial: Trial
    point: Point | None
    starts: Starts
    trap: Trap | None = None
    trouble: str | None = None


class MoneySweep:
    """See the module."""

    def __init__(self, the_lab: Lab, chosen: Sequence[Story]) -> None:
        self._lab = the_lab
        self._chosen = chosen
        self._steps: dict[str, dict[str, int]] = {}

    async def run(self, *, quick: bool, every: int = 1) -> list[Account]:
        """All of it; `quick` leaves out second starts after a kill, `every` takes only each n-th point."""
        await self._undisturbed()
        runs = [await self._new_run(*one) for one in self._points(quick=quick)[::every]]
        line(f"broken: {len(runs)} points, {AT_A_TIME} at a time")
        await self._play_many(runs)
        accounts = [await self._account(run) for run in runs]
        self._lab.backends.check()
        self._lab.manager.check()
        return accounts

    async def _undisturbed(self) -> None:
        line(f"undisturbed: {len(self._chosen)} stories")
        runs = [await self._new_run(story, None, Starts.ONCE) for story in self._chosen]
        await self._play_many(runs)
        for run in runs:
            account = await self._account(run)
            if not account.good or account.outcome is not Outcome.ONCE:
                raise RuntimeError(f"{run.story.name} does not work even undisturbed: {account.problems}")
            steps = self._lab.traps.counts(run.trial.subject)
            self._steps[run.story.name] = {name: count for name, count in steps.items() if name.startswith("steps")}
            line(
                f"  {run.story.name}: {', '.join(f'{count} {name}' for name, count in self._steps[run.story.name].items())}"
            )

    def _points(self, *, quick: bool) -> list[tuple[Story, Point | None, Starts]]:
        ways = [
            (fault, Starts.ONCE) for fault in (Fault.DIE_BEFORE, Fault.DIE_AFTER, Fault.REMOVE_POD, Fault.LOSE_REPLY)
        ]
        if not quick:
            ways += [(Fault.DIE_BEFORE, Starts.AGAIN), (Fault.DIE_AFTER, Starts.AGAIN)]
        points: list[tuple[Story, Point | None, Starts]] = []
        for story in self._chosen:
            points += [
                (story, Point(series, number, fault), starts)
                for series, count in self._steps[story.name].items()
                for number in range(1, count + 1)
                for fault, starts in ways
            ]
            points += [(story, None, starts) for starts in (Starts.TWINS_FIRST, Starts.TWINS_SECOND)] * TWINS
        return points

    async def _new_run(self, story: Story, point: Point | None, starts: Starts) -> Run:
        trial = await self._lab.trial(story.vendors)
        self._lab.node.starts[trial.subject] = starts
        return Run(story, trial, point, starts)

    async def _play_many(self, runs: Sequence[Run]) -> None:
        room = asyncio.Semaphore(AT_A_TIME)
        done = 0

        async def one(run: Run) -> None:
            nonlocal done
            async with room:
                await self._play(run)
            await self._note(run)
            done += 1
            if done % 20 == 0 or done == len(runs):
                line(f"  {done} of {len(runs)}")

        await asyncio.gather(*(one(run) for run in runs))

    async def _play(self, run: Run) -> None:
        trial, world = run.trial, self._lab.world
        try:
            await scenarios.tenant_ready(trial)
            run.trap = self._lab.traps.begin(trial.subject, run.point)
            await trial.make(run.story.kind, "render", run.story.spec(trial), as_api=True)
            await world.until(lambda: self._rests(trial), f"the end of {trial.subject}", PATIENCE_SECONDS)
            # A hold that the operator itself lifts again would be no end.
            await asyncio.sleep(_LAST_LOOK_SECONDS)
            await world.until(lambda: self._rests(trial), f"the end of {trial.subject}", PATIENCE_SECONDS)
        except TimeoutError as stuck:
            run.trouble = str(stuck)

    async def _note(self, run: Run) -> None:
        """A line in the suite's folder at once: who stops a long run early still has what was found so far."""
        account = await self._account(run)
        with (self._lab.folder / "progress.jsonl").open("a") as lines:
            lines.write(json.dumps(asdict(account)) + "\n")

    def _rests(self, trial: Trial) -> bool:
        renders = self._lab.world.renders(trial.subject)
        held = bool(renders) and all(phase_of(body) is Phase.HELD for body in renders)
        return held or self._lab.world.is_over(trial.subject, 1)

    async def _account(self, run: Run) -> Account:
        body = next(iter(self._lab.world.renders(run.trial.subject)), {})
        status = body.get("status") or {}
        stage = str(status.get("stage"))
        evidence = Evidence(
            status=status,
            billed=await self._lab.billed(run.trial.subject),
            spoiled_outputs=await self._spoiled(status),
            has_result=await self._has_result(body),
        )
        outcome, problems = settle(evidence, run.story.paid, may_be_held=stage in run.story.may_be_held)
        if run.trouble:
            problems.append(run.trouble)
        if run.point is not None and not (run.trap and run.trap.sprung):
            problems.append("the run never came to this point")
        if run.starts is not Starts.ONCE and self._lab.node.programs_started[run.trial.subject] < 2:
            problems.append("no second process was started")
        hit = run.trap.hit if run.trap else "two at once"
        return Account(run.story.name, run.point, run.starts, hit, outcome, problems, run.trial.subject)

    async def _spoiled(self, status: dict[str, Any]) -> list[str]:
        spoiled = []
        for output in status.get("outputs") or []:
            try:
                data = await self._lab.media.read_start(output["key"], output["bytes"] + 1)
            except MediaUnavailable:
                data = b""
            if hashlib.sha256(data).hexdigest() != output["sha256"]:
                spoiled.append(f"{output['name']} is not in storage as the status says")
        return spoiled

    async def _has_result(self, body: dict[str, Any]) -> bool:
        status = body.get("status") or {}
        attempts = status.get("attempts") or []
        if not attempts:
            return False
        last = attempts[-1]
        key = meta.run_prefix(body["metadata"]["uid"], last["stage"], last.get("run", 0), last["number"])
        with suppress(ValueError):
            found = await self._lab.media.read_json(f"{key}result.json")
            return found is not None and found.get("outcome") == "done"
        return False


def money_table(accounts: Sequence[Account]) -> str:
    """Stories x ways to break x what became of the money."""
    rows: list[Sequence[str]] = [("STORY", "BROKEN BY", "TRIED", *(outcome.upper() for outcome in Outcome), "VERDICT")]
    for key in dict.fromkeys((one.story, _way(one)) for one in accounts):
        mine = [one for one in accounts if (one.story, _way(one)) == key]
        counts = [str(sum(one.outcome is outcome for one in mine)) for outcome in Outcome]
        bad = sum(not one.good for one in mine)
        rows.append((*key, str(len(mine)), *counts, f"BAD ({bad})" if bad else "good"))
    return table(rows)


def _way(account: Account) -> str:
    if account.point is None:
        return account.starts.value
    again = ", started again" if account.starts is Starts.AGAIN else ""
    return f"{account.point.fault}{again}"


async def money_suite(names: Sequence[str], *, quick: bool) -> bool:
    """Run it, print tables and the last line, write `result.json` into its folder below out/; True when all is well."""
    chosen = [one for one in STORIES if not names or one.name in names]
    begin = time.monotonic()
    async with lab("money", "m", runners_at_a_time=RUNNERS_AT_A_TIME, settings={}) as the_lab:
        accounts = await MoneySweep(the_lab, chosen).run(quick=quick)
    return report(accounts, the_lab, time.monotonic() - begin)


def report(accounts: Sequence[Account], the_lab: Lab, seconds: float) -> bool:
    """Print what was found, the summary last; the same as JSON into the suite's folder. True when all is well."""
    for one in accounts:
        if not one.good:
            print(f"{one.story}, {_way(one)} {one.point or ''} ({one.hit}), {one.subject}: {one.outcome}")
            print("\n".join(f"    {problem}" for problem in one.problems))
    for what in the_lab.node.faults:
        print(f"the harness itself: {what}")
    for what in the_lab.manager.complaints():
        print(f"the operator's log: {what}")
    print(f"\n{len(accounts)} points in {seconds:.0f} s on {machine()}")
    print(money_table(accounts))
    good = all(one.good for one in accounts) and not the_lab.node.faults
    print(f"\n{summary(accounts)}")
    (the_lab.folder / "result.json").write_text(json.dumps([asdict(one) for one in accounts], indent=2))
    return good
