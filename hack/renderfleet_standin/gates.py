"""Holding calls at a known point, so that a test can kill the caller there.

`hold` closes a gate; matching calls stop at it until `release`. With `point: after_bill` the generation is paid and
the answer not yet sent: the very moment in which a careless caller pays twice.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from renderfleet_standin.faults import Match, Vendor
from renderfleet_standin.rows import Facts

Point = Literal["before_bill", "after_bill"]


class Hold(BaseModel):
    """Which calls to stop and where, as POSTed to /_standin/hold."""

    model_config = ConfigDict(extra="forbid")

    vendor: Vendor
    operation: str = "*"
    point: Point = "after_bill"
    match: Match = Match()
    times: Annotated[int, Field(ge=1)] | None = None
    """Calls to stop; null means all of them."""
    seconds: Annotated[float, Field(gt=0)] = 3600.0
    """A held call goes on by itself after this time: a forgotten gate must not hang a test run for ever."""


@dataclass
class Gate:
    """One closed gate and the calls that stand before it."""

    id: int
    hold: Hold
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: list[str] = field(default_factory=list)
    """Request ids of the calls that stand at the gate now."""
    stopped: int = 0
    """Calls stopped so far."""


class Gates:
    """All closed gates."""

    def __init__(self) -> None:
        self._gates: list[Gate] = []
        self._next = 1

    def close(self, hold: Hold) -> Gate:
        """Close a gate."""
        gate = Gate(self._next, hold)
        self._next += 1
        self._gates.append(gate)
        return gate

    def open(self, *, gate_id: int | None = None, vendor: str | None = None, operation: str | None = None) -> list[str]:
        """Open the gates that fit (all without arguments); the request ids that go on come back."""
        released: list[str] = []
        kept: list[Gate] = []
        for gate in self._gates:
            fits = (
                (gate_id is None or gate.id == gate_id)
                and (vendor is None or gate.hold.vendor == vendor)
                and (operation is None or gate.hold.operation == operation)
            )
            if fits:
                released += gate.waiting
                gate.opened.set()
            else:
                kept.append(gate)
        self._gates = kept
        return released

    def all(self) -> list[Gate]:
        """Gates that are closed."""
        return list(self._gates)

    async def pass_through(self, vendor: Vendor, operation: str, point: Point, facts: Facts) -> None:
        """Return at once, or stand at the first gate that fits until it opens."""
        for gate in self._gates:
            hold = gate.hold
            if hold.vendor != vendor or hold.operation not in ("*", operation) or hold.point != point:
                continue
            if not hold.match.fits(facts) or (hold.times is not None and gate.stopped >= hold.times):
                continue
            gate.stopped += 1
            request_id = facts.get("request_id", "")
            gate.waiting.append(request_id)
            try:
                await asyncio.wait_for(gate.opened.wait(), hold.seconds)
            except TimeoutError:
                pass
            finally:
                gate.waiting.remove(request_id)
            return
