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
from renderfleet_faults.parts import Kept, Part
from renderfleet_faults.report import table
from renderfleet_faults.scenarios import DID, ELEVENLABS, IMAGE, OPENAI, SCRIPT, SPEECH, TALK, Trial
from renderfleet_faults.traps import Fault, Point, Starts, Trap
from renderfleet_faults.world import phase_of
from renderfleet_runners.__main__ import WAIT_FOR_OTHER_ENV
from renderfleet_store.media import MediaUnavailable

AT_A_TIME = 32
"""Renders in flight at once. Most of a broken one's time is waiting for last words of a runner that is gone."""
RUNNERS_AT_A_TIME = 6
WAIT_FOR_OTHER_SECONDS = 12.0
"""How long a second process waits for the first one's result here; in a cluster it is a minute."""
TWINS = 4
"""Pairs per story and reporter: which of two wins a race is not the same each time."""
PATIENCE_SECONDS = 300.0
"""For one render, the waits of the operator and of second processes included."""
NEVER_CAME = "the run never came to this point"
_LAST_LOOK_SECONDS = 2.0
_SAY_EVERY_SECONDS = 10.0


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


Broken = tuple[Story, Point | None, Starts]
"""What to break."""


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

    async def run(self, *, quick: bool, part: Part = Part()) -> list[Account]:
        """All points of this part; `quick` leaves out second starts after a kill."""
        await self._undisturbed()
        points = self._points(quick=quick)
        mine = part.among(points)
        line(f"broken: {len(mine)} points of {len(points)}, {AT_A_TIME} at a time")
        runs = await self._alone_if_missed(await self._play_many(mine))
        # Judged once more at the end: what is billed late is billed all the same.
        accounts = [await self._account(run) for run in runs]
        self._lab.backends.check()
        return accounts

    async def _undisturbed(self) -> None:
        line(f"undisturbed: {len(self._chosen)} stories")
        runs = await self._play_many([(story, None, Starts.ONCE) for story in self._chosen])
        for run in runs:
            account = await self._account(run)
            if not account.good or account.outcome is not Outcome.ONCE:
                raise RuntimeError(f"{run.story.name} does not work even undisturbed: {account.problems}")
            steps = self._lab.traps.counts(run.trial.subject)
            self._steps[run.story.name] = {name: count for name, count in steps.items() if name.startswith("steps")}
            line(
                f"  {run.story.name}: {', '.join(f'{count} {name}' for name, count in self._steps[run.story.name].items())}"
            )

    async def _alone_if_missed(self, runs: Sequence[Run]) -> list[Run]:
        """The runs, those that others kept from their point played once more with nothing beside them.

        A start asks for its bill only when no other talk is under way at the vendor, so it may be two requests shorter.
        """
        made = []
        for run in runs:
            if (await self._account(run)).problems == [NEVER_CAME]:
                line(f"  never came to its point, once more: {run.story.name}, {run.point}")
                made += await self._play_many([(run.story, run.point, run.starts)])
            else:
                made.append(run)
        return made

    def _points(self, *, quick: bool) -> list[Broken]:
        ways = [
            (fault, Starts.ONCE) for fault in (Fault.DIE_BEFORE, Fault.DIE_AFTER, Fault.REMOVE_POD, Fault.LOSE_REPLY)
        ]
        if not quick:
            ways += [(Fault.DIE_BEFORE, Starts.AGAIN), (Fault.DIE_AFTER, Starts.AGAIN)]
        points: list[Broken] = []
        for story in self._chosen:
            points += [
                (story, Point(series, number, fault), starts)
                for series, count in self._steps[story.name].items()
                for number in range(1, count + 1)
                for fault, starts in ways
            ]
            points += [(story, None, starts) for starts in (Starts.TWINS_FIRST, Starts.TWINS_SECOND)] * TWINS
        return points

    async def _play_many(self, points: Sequence[Broken]) -> list[Run]:
        room = asyncio.Semaphore(AT_A_TIME)
        done = bad = 0
        begin = said = time.monotonic()

        async def one(story: Story, point: Point | None, starts: Starts) -> Run:
            nonlocal done, bad, said
            async with room:
                run = Run(story, await self._lab.trial(story.vendors), point, starts)
                self._lab.node.starts[run.trial.subject] = starts
                await self._play(run)
            done += 1
            bad += not (await self._note(run)).good
            now = time.monotonic()
            if now - said > _SAY_EVERY_SECONDS or done == len(points):
                said = now
                line(f"  {done} of {len(points)} after {now - begin:.0f} s{f', {bad} of them bad' if bad else ''}")
            return run

        return list(await asyncio.gather(*(one(*point) for point in points)))

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

    async def _note(self, run: Run) -> Account:
        """A line in the suite's folder at once: who stops a long run early still has what was found so far."""
        account = await self._account(run)
        with (self._lab.folder / "progress.jsonl").open("a") as lines:
            lines.write(json.dumps(asdict(account)) + "\n")
        return account

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
            problems.append(NEVER_CAME)
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
    order = [story.name for story in STORIES]
    for key in sorted({(one.story, _way(one)) for one in accounts}, key=lambda key: (order.index(key[0]), key[1])):
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


async def money_suite(names: Sequence[str], *, quick: bool, part: Part) -> bool:
    """Run it, print tables and the last line, and keep those of a full sweep below out/faults; True when all is well."""
    chosen = [one for one in STORIES if not names or one.name in names]
    begin = time.monotonic()
    waits = {WAIT_FOR_OTHER_ENV: str(WAIT_FOR_OTHER_SECONDS)}
    async with lab("money", "m", runners_at_a_time=RUNNERS_AT_A_TIME, settings={}, runner_settings=waits) as the_lab:
        accounts = await MoneySweep(the_lab, chosen).run(quick=quick, part=part)
        complaints = [*the_lab.manager.falls, *the_lab.manager.complaints()]
    for what in the_lab.node.faults:
        print(f"the harness itself: {what}")
    for what in complaints:
        print(f"the operator's log: {what}")
    found = [asdict(one) for one in accounts]
    seconds, parts, kept = time.monotonic() - begin, [part], Kept("money")
    is_sweep = not names and not quick
    if is_sweep:
        kept.add(part, found, seconds)
        parts, found, seconds = kept.all_of(part.of)
    everything = [Account.read(one) for one in found]
    text = report(everything, parts, seconds)
    print(f"\n{text}")
    if is_sweep:
        kept.show(text)
    return all(one.good for one in everything) and not the_lab.node.faults


def report(accounts: Sequence[Account], parts: Sequence[Part], seconds: float) -> str:
    """What was found, the summary last."""
    bad = [
        f"{one.story}, {_way(one)} {one.point or ''} ({one.hit}), {one.subject}: {one.outcome}\n"
        + "\n".join(f"    {problem}" for problem in one.problems)
        for one in accounts
        if not one.good
    ]
    which = "" if len(parts) == parts[0].of else f", parts {', '.join(map(str, parts))} only"
    head = f"{len(accounts)} points in {seconds:.0f} s on {machine()}{which}"
    return "\n".join([*bad, head, money_table(accounts), "", summary(accounts)])
