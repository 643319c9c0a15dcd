"""Decide what became of the money of one broken run. Pure.

billed more often than the story says              TWICE   the one thing that may never happen
Succeeded, each call billed once, outputs whole    ONCE    as if nothing had been
Held, because nobody can say whether it was paid   HELD    a person is asked; no second call was made
ended otherwise, or never, with something billed   LOST    paid, and nobody has it
ended otherwise, or never, with nothing billed     STUCK   no money lost, but the render did not come to its end

A hold is honest only where the vendor cannot be asked, and only while no attempt claims that nothing was charged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from renderfleet_crds.conditions import Reason
from renderfleet_crds.phases import Phase
from renderfleet_faults.traps import Fault, Point, Starts


class Outcome(StrEnum):
    """What became of the money."""

    TWICE = "billed twice"
    ONCE = "once"
    HELD = "held"
    LOST = "lost"
    STUCK = "stuck"


@dataclass(frozen=True)
class Account:
    """One broken run, and what became of its money."""

    story: str
    point: Point | None
    """None: nothing is broken, but the program is started twice."""
    starts: Starts
    hit: str | None
    outcome: Outcome
    problems: Sequence[str]
    subject: str = ""

    @property
    def good(self) -> bool:
        return not self.problems

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> "Account":
        """From what `asdict` made of one."""
        point = kept["point"]
        return cls(
            **{
                **kept,
                "point": Point(**{**point, "fault": Fault(point["fault"])}) if point else None,
                "starts": Starts(kept["starts"]),
                "outcome": Outcome(kept["outcome"]),
            }
        )


@dataclass(frozen=True)
class Evidence:
    """What is known of a run after it came to rest."""

    status: Mapping[str, Any]
    billed: Mapping[str, int]
    spoiled_outputs: Sequence[str]
    """Outputs that the status names and that are not in storage as it says."""
    has_result: bool
    """A runner wrote down how the last attempt ended."""


def settle(evidence: Evidence, paid: Mapping[str, int], *, may_be_held: bool) -> tuple[Outcome, list[str]]:
    """The outcome, and what is wrong about it; see the table above."""
    status, billed = evidence.status, evidence.billed
    phase, reason = status.get("phase"), status.get("reason")
    too_often = [f"{call}: billed {count} times" for call, count in billed.items() if count > paid.get(call, 0)]
    if too_often:
        return Outcome.TWICE, too_often
    if phase == Phase.SUCCEEDED:
        problems = [f"{call}: never billed, yet there are media" for call in paid if not billed.get(call)]
        if evidence.spoiled_outputs:
            return Outcome.LOST, [*problems, *evidence.spoiled_outputs]
        return Outcome.ONCE, problems
    if phase == Phase.HELD:
        return Outcome.HELD, _dishonest(evidence, may_be_held=may_be_held)
    where = f"{phase}/{reason}: {status.get('message')}"
    return (Outcome.LOST, [f"paid, and then {where}"]) if billed else (Outcome.STUCK, [where])


def _dishonest(evidence: Evidence, *, may_be_held: bool) -> list[str]:
    problems = []
    reason = evidence.status.get("reason")
    if reason != Reason.OUTCOME_UNKNOWN:
        problems.append(f"held for {reason}, not because the outcome is unknown")
    if not may_be_held:
        problems.append("held, although this vendor can be asked what happened")
    if evidence.has_result:
        problems.append("held, although the result is in the run record")
    charges = [one.get("charged", "false") for one in evidence.status.get("attempts") or []]
    if evidence.billed and charges and all(charge == "false" for charge in charges):
        problems.append("something was billed, and every attempt says that nothing was charged")
    return problems


def summary(accounts: Sequence[Account]) -> str:
    """The suite's last line."""
    counts = {outcome: sum(one.outcome is outcome for one in accounts) for outcome in Outcome}
    return (
        f"money: {len(accounts)} points tried, {counts[Outcome.TWICE]} billed twice (must be 0),"
        f" {counts[Outcome.HELD]} held, {counts[Outcome.LOST]} lost (must be 0), {counts[Outcome.STUCK]} stuck"
    )
