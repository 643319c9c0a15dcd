"""The stand-in's own door, below /_standin: ledger, call log, scripted faults, gates, latencies, limits, reset."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import HTMLResponse

from renderfleet_standin.core import Standin, as_dict
from renderfleet_standin.faults import ActiveRule, Rule, UnknownFault, Vendor
from renderfleet_standin.gates import Gate, Hold
from renderfleet_standin.page import ledger_page


class Latency(BaseModel):
    """Base latency of an operation."""

    model_config = ConfigDict(extra="forbid")

    vendor: Vendor
    operation: str = "*"
    ms: Annotated[int, Field(ge=0)]


class Release(BaseModel):
    """Which gates to open; nothing set opens all."""

    model_config = ConfigDict(extra="forbid")

    id: int | None = None
    vendor: Vendor | None = None
    operation: str | None = None


class Limit(BaseModel):
    """A new value of one of the limits that GET /_standin/limits lists."""

    model_config = ConfigDict(extra="forbid")

    name: str
    limit: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(gt=0)] | None = None


def _gate_json(gate: Gate) -> dict[str, Any]:
    return {"id": gate.id, **gate.hold.model_dump(), "stopped": gate.stopped, "waiting": list(gate.waiting)}


class ControlDoor:
    """Routes below /_standin."""

    def __init__(self, standin: Standin, forget: Callable[[], None]) -> None:
        """`forget` drops what the vendors' sides remember."""
        self._standin = standin
        self._forget = forget

    def router(self) -> APIRouter:
        """All routes."""
        router = APIRouter(prefix="/_standin")
        router.add_api_route("/", self.page, methods=["GET"], response_class=HTMLResponse)
        router.add_api_route("/ledger", self.ledger, methods=["GET"])
        router.add_api_route("/calls", self.calls, methods=["GET"])
        router.add_api_route("/faults", self.add_faults, methods=["POST"], status_code=201)
        router.add_api_route("/faults", self.list_faults, methods=["GET"])
        router.add_api_route("/faults", self.delete_faults, methods=["DELETE"])
        router.add_api_route("/latency", self.set_latency, methods=["POST"])
        router.add_api_route("/limits", self.list_limits, methods=["GET"])
        router.add_api_route("/limits", self.set_limit, methods=["POST"])
        router.add_api_route("/hold", self.hold, methods=["POST"], status_code=201)
        router.add_api_route("/hold", self.list_holds, methods=["GET"])
        router.add_api_route("/release", self.release, methods=["POST"])
        router.add_api_route("/reset", self.reset, methods=["POST"])
        return router

    def _check_operation(self, vendor: Vendor, operation: str) -> None:
        known = self._standin.operations[vendor]
        if operation != "*" and operation not in known:
            raise HTTPException(422, f"{vendor} has no operation {operation!r}; it has: {', '.join(known)}")

    async def page(self) -> str:
        """The ledger for people."""
        return ledger_page(self._standin)

    async def ledger(self) -> dict[str, Any]:
        """Every billed generation, oldest first, with totals and whatever was billed more than once."""
        ledger = self._standin.ledger
        return {"entries": [entry.model_dump() for entry in ledger], **ledger.summary()}

    async def calls(self, vendor: str | None = None, operation: str | None = None) -> dict[str, Any]:
        """The latest vendor calls, refused ones included, with counts by operation."""
        listed = [
            as_dict(note)
            for note in self._standin.calls
            if (vendor is None or note.vendor == vendor) and (operation is None or note.operation == operation)
        ]
        counts = self._standin.counters.by_operation
        return {"counts": counts, "calls": listed, "callbacks": list(self._standin.callbacks)}

    async def add_faults(self, rules: Rule | list[Rule]) -> list[ActiveRule]:
        """Put scripted faults in force; none of a list when one of it is wrong."""
        wanted = rules if isinstance(rules, list) else [rules]
        try:
            for rule in wanted:
                self._standin.faults.check(rule)
        except UnknownFault as unknown:
            raise HTTPException(422, str(unknown)) from None
        return [self._standin.faults.add(rule) for rule in wanted]

    async def list_faults(self) -> dict[str, Any]:
        """Rules in force with their hits, and every fault there is."""
        standin = self._standin
        known = {vendor: {row.name: row.about for row in rows.values()} for vendor, rows in standin.rows.items()}
        return {"rules": standin.faults.all(), "operations": standin.operations, "known": known}

    async def delete_faults(self, id: int | None = None) -> dict[str, int]:  # noqa: A002 - the query's name
        """Remove one rule, or all."""
        return {"removed": self._standin.faults.remove(id)}

    async def set_latency(self, latency: Latency) -> dict[str, int]:
        """Set an operation's base latency; 0 takes it away."""
        self._check_operation(latency.vendor, latency.operation)
        self._standin.latency_ms[f"{latency.vendor}/{latency.operation}"] = latency.ms
        return self._standin.latency_ms

    async def list_limits(self) -> dict[str, Any]:
        """Rate limits and their use now."""
        return {
            name: {"limit": window.limit, "seconds": window.seconds, "used": window.used}
            for name, window in self._standin.limits.items()
        }

    async def set_limit(self, wanted: Limit) -> dict[str, Any]:
        """Change a rate limit; 0 takes it away."""
        window = self._standin.limits.get(wanted.name)
        if window is None:
            raise HTTPException(422, f"the limits are: {', '.join(self._standin.limits)}")
        window.limit = wanted.limit
        window.seconds = wanted.seconds or window.seconds
        return await self.list_limits()

    async def hold(self, wanted: Hold) -> dict[str, Any]:
        """Stop matching calls at a point until released."""
        self._check_operation(wanted.vendor, wanted.operation)
        return _gate_json(self._standin.gates.close(wanted))

    async def list_holds(self) -> list[dict[str, Any]]:
        """Closed gates and who stands before them."""
        return [_gate_json(gate) for gate in self._standin.gates.all()]

    async def release(self, wanted: Release | None = None) -> dict[str, list[str]]:
        """Open gates; the request ids that go on come back."""
        wanted = wanted or Release()
        released = self._standin.gates.open(gate_id=wanted.id, vendor=wanted.vendor, operation=wanted.operation)
        return {"released": released}

    async def reset(self) -> dict[str, str]:
        """Forget ledger, calls, faults, gates, latencies, talks and speeches; limits keep their size and start anew."""
        standin = self._standin
        standin.gates.open()
        standin.faults.remove(None)
        standin.latency_ms.clear()
        standin.calls.clear()
        standin.callbacks.clear()
        standin.counters.by_operation.clear()
        for window in standin.limits.values():
            window.clear()
        self._forget()
        standin.ledger.clear()
        return {"status": "reset"}
