"""Decide whether a broken run came out right. Pure.

It did when, compared with undisturbed runs of the same story,
  the end state is the same              phases, reasons, attempts, outputs, conditions, cost, archive
  no attempt had more than one Job
  each paid call was billed as often as the story says
  nothing is written any more once it is over, not even by an operator that has just started
and, in an undisturbed run, the last three hold as well. A point that no run reached proves nothing, so a point that every
undisturbed run has must have been reached.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from renderfleet_crds import meta
from renderfleet_faults.traffic import TOKEN
from renderfleet_faults.traps import Fault, Point

Body = Mapping[str, Any]

_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_HASH = re.compile(r"(?<=-)[0-9a-f]{10,16}\b")


@dataclass(frozen=True)
class Finding:
    """What one run left behind."""

    state: Mapping[str, Any]
    """See `end_state`."""
    jobs: Mapping[str, int]
    """Jobs that were made, by attempt."""
    billed: Mapping[str, int]
    """Billed calls by vendor and operation."""
    late_writes: Sequence[str] = ()
    """What the operator wrote in the quiet."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """How one run with one fault is judged."""

    scenario: str
    point: Point
    hit: str | None
    """What was broken; None when the run never came to the point."""
    problems: Sequence[str]
    subject: str = ""
    seconds: float = 0.0

    @property
    def reached(self) -> bool:
        return self.hit is not None

    @property
    def good(self) -> bool:
        return not self.problems

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> "Verdict":
        """From what `asdict` made of one."""
        point = kept["point"]
        return cls(**{**kept, "point": Point(**{**point, "fault": Fault(point["fault"])})})


@dataclass(frozen=True)
class Golden:
    """What undisturbed runs of one story have in common."""

    state: Mapping[str, Any]
    sure: Mapping[str, int]
    """Steps by series that every undisturbed run made."""
    most: Mapping[str, int]
    """The most steps that one of them made."""
    seconds: float
    problems: Sequence[str] = field(default=())


def end_state(
    renders: Iterable[Body], tenant: Body | None, archive: Iterable[Body], inventory: Iterable[str]
) -> dict[str, Any]:
    """What is compared: everything that lasts, without names, ids and times that differ from run to run."""
    listed = list(renders)
    return {
        "renders": [_render_state(body) for body in listed],
        "tenant": _tenant_state(tenant) if tenant else None,
        "archive": sorted(
            _plain(f"{row['kind']} {row['phase']} run {row['run']} deleted={row['deleted']} ends={row['ends']}")
            for row in archive
        ),
        "inventory": sorted(_plain(line) for line in inventory),
    }


def judge_golden(found: Sequence[Finding], steps: Sequence[Mapping[str, int]], paid: Mapping[str, int]) -> Golden:
    """Make the measure of several undisturbed runs, and say what is wrong with them already."""
    problems = [problem for one in found for problem in _absolute_problems(one, paid)]
    for other in found[1:]:
        problems += [
            f"undisturbed runs differ: {difference}" for difference in differences(found[0].state, other.state)
        ]
    series = {name for one in steps for name in one}
    return Golden(
        state=found[0].state,
        sure={name: min(one.get(name, 0) for one in steps) for name in series},
        most={name: max(one.get(name, 0) for one in steps) for name in series},
        seconds=max(one.seconds for one in found),
        problems=list(dict.fromkeys(problems)),
    )


def judge(golden: Golden, found: Finding, paid: Mapping[str, int]) -> list[str]:
    """What is wrong with a run in which something broke; empty when nothing is."""
    return [*differences(golden.state, found.state), *_absolute_problems(found, paid)]


def must_be_reached(golden: Golden, point: Point) -> bool:
    """Whether a run that never came to this point is suspicious rather than just different."""
    return point.number <= golden.sure.get(point.series, 0)


def differences(wanted: Any, actual: Any, path: str = "") -> list[str]:
    """Where two states differ, one line each: `path: wanted -> actual`."""
    if isinstance(wanted, Mapping) and isinstance(actual, Mapping):
        keys = [*wanted, *(key for key in actual if key not in wanted)]
        return [
            line for key in keys for line in differences(wanted.get(key), actual.get(key), f"{path}.{key}".lstrip("."))
        ]
    if isinstance(wanted, list) and isinstance(actual, list) and len(wanted) == len(actual):
        return [
            line
            for at, (one, other) in enumerate(zip(wanted, actual, strict=True))
            for line in differences(one, other, f"{path}[{at}]")
        ]
    return [] if wanted == actual else [f"{path}: {wanted!r} -> {actual!r}"]


def _absolute_problems(found: Finding, paid: Mapping[str, int]) -> list[str]:
    problems = [f"{count} Jobs for {attempt}" for attempt, count in found.jobs.items() if count > 1]
    problems += [
        f"{call}: billed {found.billed.get(call, 0)} times, not {paid.get(call, 0)}"
        for call in sorted({*paid, *found.billed})
        if found.billed.get(call, 0) != paid.get(call, 0)
    ]
    problems += [f"{count} x {what} after the end" for what, count in Counter(found.late_writes).items()]
    return problems


def _render_state(body: Body) -> dict[str, Any]:
    status = body.get("status") or {}
    metadata = body["metadata"]
    return {
        "kind": body["kind"],
        "deleted": "deletionTimestamp" in metadata,
        "finalized": meta.FINALIZER in metadata.get("finalizers", []),
        "observed": status.get("observedGeneration") == metadata.get("generation"),
        **{
            key: _plain(status.get(key))
            for key in ("phase", "reason", "message", "stage", "progress", "run", "attempt")
        },
        "attempts": [
            {key: one.get(key) for key in ("run", "number", "stage", "category", "code", "charged")}
            for one in status.get("attempts") or []
        ],
        "outputs": sorted(f"{one['name']} {one['contentType']}" for one in status.get("outputs") or []),
        "cost": (status.get("cost") or {}).get("actualMicros"),
        "conditions": _conditions(status),
    }


def _tenant_state(body: Body) -> dict[str, Any]:
    status = body.get("status") or {}
    return {
        **{key: status.get(key) for key in ("phase", "appliedConcurrency", "spentMicros")},
        "conditions": _conditions(status),
    }


def _conditions(status: Body) -> dict[str, str]:
    return {one["type"]: f"{one['status']} {one['reason']}" for one in status.get("conditions") or []}


def _plain(value: Any) -> Any:
    """Words without what differs from run to run."""
    if not isinstance(value, str):
        return value
    return _HASH.sub("HASH", _UID.sub("UID", TOKEN.sub("TOKEN", value)))
