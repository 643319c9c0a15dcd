"""Decide whether a vendor may be asked at all. Pure.

Closed     everything goes through; failures of the last window are counted, in slices
Open       nothing goes through until its time is over; opened when enough calls failed in the window
HalfOpen   a few probes go through: an answer closes it, a failure opens it again, for twice as long
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

State = Literal["Closed", "Open", "HalfOpen"]
_SLICES = 12
"""Of the window. Old calls are forgotten a slice at a time, so that a busy vendor costs no more than an idle one."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """One provider's circuit."""

    state: State = "Closed"
    until: float = 0.0
    """While open: when probes may start."""
    opened: int = 0
    """How often it opened in a row."""
    slices: tuple[tuple[int, int, int], ...] = ()
    """(number of the slice, calls, failures), oldest first."""
    probes: frozenset[str] = frozenset()
    """Attempts that are out as probes."""


def counts(breaker: Breaker) -> tuple[int, int]:
    """(calls, failures) of the window that ended with the latest call."""
    failures = sum(one[2] for one in breaker.slices)
    # What was accepted before the window and failed in it is a failure of no call there.
    return max(failures, sum(one[1] for one in breaker.slices)), failures


def counted(settings: Mapping[str, Any], at_time: float, calls: int, failures: int) -> Breaker:
    """A closed circuit that has counted this much, the latest of it at that time."""
    return Breaker(slices=((int(at_time / _slice_seconds(settings)), calls, failures),))


def at(breaker: Breaker, now: float) -> Breaker:
    """The circuit as it is now: an open one becomes half-open by time alone."""
    if breaker.state == "Open" and now >= breaker.until:
        return replace(breaker, state="HalfOpen", probes=frozenset())
    return breaker


def room(breaker: Breaker, settings: Mapping[str, Any]) -> int | None:
    """How many more attempts may start; None when the circuit sets no limit."""
    match breaker.state:
        case "Closed":
            return None
        case "Open":
            return 0
        case "HalfOpen":
            return max(0, int(settings.get("halfOpenProbes", 1)) - len(breaker.probes))


def started(breaker: Breaker, token: str) -> Breaker:
    """An attempt started; half-open, it is a probe."""
    return replace(breaker, probes=breaker.probes | {token}) if breaker.state == "HalfOpen" else breaker


def gone(breaker: Breaker, token: str) -> Breaker:
    """An attempt ended that says nothing about the vendor."""
    return replace(breaker, probes=breaker.probes - {token}) if token in breaker.probes else breaker


def answered(breaker: Breaker, settings: Mapping[str, Any], now: float, token: str) -> Breaker:
    """The vendor gave an answer, be it a refusal of the input."""
    if breaker.state == "HalfOpen" and token in breaker.probes:
        return Breaker()
    return replace(breaker, slices=_count(breaker, settings, now, calls=1, failures=0))


def failed(
    breaker: Breaker, settings: Mapping[str, Any], now: float, token: str, *, chance: float, is_counted: bool = False
) -> Breaker:
    """The vendor failed. `chance` in [0, 1) spreads the end of the pause over a fifth of it.

    `is_counted`: the vendor had accepted the job, and the call was counted then.
    """
    if breaker.state == "Open":
        return breaker
    if breaker.state == "HalfOpen":
        # One that started before the circuit opened is old news.
        return _open(breaker, settings, now, chance) if token in breaker.probes else breaker
    noted = replace(breaker, slices=_count(breaker, settings, now, calls=0 if is_counted else 1, failures=1))
    total, failures = counts(noted)
    if total < int(settings.get("minCalls", 5)):
        return noted
    if 100 * failures < int(settings.get("failurePercent", 50)) * total:
        return noted
    return _open(noted, settings, now, chance)


def _open(breaker: Breaker, settings: Mapping[str, Any], now: float, chance: float) -> Breaker:
    first, most = float(settings.get("openSeconds", 15)), float(settings.get("maxOpenSeconds", 600))
    pause = min(most, first * 2.0 ** min(breaker.opened, 30)) * (0.9 + 0.2 * chance)
    return Breaker("Open", now + pause, breaker.opened + 1)


def _count(
    breaker: Breaker, settings: Mapping[str, Any], now: float, *, calls: int, failures: int
) -> tuple[tuple[int, int, int], ...]:
    current = int(now / _slice_seconds(settings))
    kept = tuple(one for one in breaker.slices if one[0] > current - _SLICES)
    if kept and kept[-1][0] == current:
        _, calls_before, failures_before = kept[-1]
        return (*kept[:-1], (current, calls_before + calls, failures_before + failures))
    return (*kept, (current, calls, failures))


def _slice_seconds(settings: Mapping[str, Any]) -> float:
    return float(settings.get("windowSeconds", 60)) / _SLICES
