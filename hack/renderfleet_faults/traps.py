"""Decide what happens to each numbered step of a trial. Pure: the proxies carry it out.

DIE_BEFORE   the caller is killed, the request goes nowhere
DIE_AFTER    the request is carried out, the caller is killed before it hears of it
LOSE_REPLY   the request is carried out, the caller lives and is told 504
DROP_LINE    one line of a watch never arrives
REMOVE_POD   the caller's pod is deleted: it is asked to end, with the usual grace; the request passes

A trap is set for the n-th step of a subject and springs once. Steps are counted whether or not there is a trap, so an
undisturbed run tells how many there are.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """What is done to a step."""

    DIE_BEFORE = "dies before"
    DIE_AFTER = "dies after"
    LOSE_REPLY = "504 after"
    DROP_LINE = "line lost"
    REMOVE_POD = "pod deleted"


class Starts(StrEnum):
    """How often a pod's program is started."""

    ONCE = "once"
    AGAIN = "again"
    """A second time when the first was killed; the second one's end is the pod's."""
    TWINS_FIRST = "twins, first reports"
    """Two at the same time; the first one's end is the pod's."""
    TWINS_SECOND = "twins, second reports"


@dataclass(frozen=True, slots=True)
class Point:
    """One place where a run can be broken."""

    series: str
    """What is counted: `writes`, `lines of <plural>`, `steps of <stage>`."""
    number: int
    """1 is the first."""
    fault: Fault

    def __str__(self) -> str:
        return f"{self.fault} {self.series} #{self.number}"


@dataclass
class Trap:
    """A point of one subject, and whether it was reached."""

    subject: str
    point: Point
    sprung: bool = False
    carried_out: bool = False
    """What it does is done: whoever was to die at it is dead."""
    hit: str | None = None
    """What the step turned out to be, for people."""


@dataclass
class TrapBook:
    """All traps and all counts."""

    _traps: dict[tuple[str, str, int], Trap] = field(default_factory=dict)
    _counts: defaultdict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))

    def disarm(self, trap: Trap) -> None:
        """From here on it can no longer spring."""
        self._traps.pop((trap.subject, trap.point.series, trap.point.number), None)

    def step(self, subject: str, series: str, what: str) -> Trap | None:
        """Count one step; the trap that springs at it, if there is one."""
        self._counts[subject, series] += 1
        trap = self._traps.get((subject, series, self._counts[subject, series]))
        if trap is None:
            return None
        trap.sprung = True
        trap.hit = what
        return trap

    def begin(self, subject: str, point: Point | None = None) -> Trap | None:
        """Count a subject's steps from here, since what prepared it is no part of its story; and arm a trap."""
        for whose, series in list(self._counts):
            if whose == subject:
                del self._counts[whose, series]
        if point is None:
            return None
        trap = Trap(subject, point)
        self._traps[subject, point.series, point.number] = trap
        return trap

    def counts(self, subject: str) -> dict[str, int]:
        """How many steps of each series a subject has made."""
        return {series: count for (whose, series), count in self._counts.items() if whose == subject}


WRITES = "writes"


def lines_of(plural: str) -> str:
    """The series of watch lines about one kind of object. Lines of different kinds come in no fixed order."""
    return f"lines of {plural}"


def steps_of(stage: str) -> str:
    """The series of requests that a stage's runner makes."""
    return f"steps of {stage}"
