"""The stand-in's own door, below /_standin: ledger, call log, scripted faults, gates, latencies, limits, reset."""

import html
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import HTMLResponse

from renderfleet_standin.core import Standin, as_dict
from renderfleet_standin.faults import ActiveRule, Rule, UnknownFault, Vendor
from renderfleet_standin.gates import Gate, Hold


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


def control_router(standin: Standin, forget: Callable[[], None]) -> APIRouter:
    """Routes below /_standin. `forget` drops what the vendors' sides remember."""
    router = APIRouter(prefix="/_standin")

    @router.get("/ledger")
    async def ledger() -> dict[str, Any]:
        """Every billed generation, oldest first, with totals and whatever was billed more than once."""
        return {"entries": [entry.model_dump() for entry in standin.ledger], **standin.ledger.summary()}

    @router.get("/calls")
    async def calls(vendor: str | None = None, operation: str | None = None) -> dict[str, Any]:
        """The latest vendor calls, refused ones included, with counts by operation."""
        listed = [
            as_dict(note)
            for note in standin.calls
            if (vendor is None or note.vendor == vendor) and (operation is None or note.operation == operation)
        ]
        return {"counts": standin.counters.by_operation, "calls": listed, "callbacks": list(standin.callbacks)}

    @router.post("/faults", status_code=201)
    async def add_faults(rules: Rule | list[Rule]) -> list[ActiveRule]:
        """Put scripted faults in force."""
        try:
            return [standin.faults.add(rule) for rule in (rules if isinstance(rules, list) else [rules])]
        except UnknownFault as unknown:
            raise HTTPException(422, str(unknown)) from None

    @router.get("/faults")
    async def list_faults() -> dict[str, Any]:
        """Rules in force with their hits, and every fault there is."""
        known = {vendor: {row.name: row.about for row in rows.values()} for vendor, rows in standin.rows.items()}
        return {"rules": standin.faults.all(), "operations": standin.operations, "known": known}

    @router.delete("/faults")
    async def delete_faults(id: int | None = None) -> dict[str, int]:  # noqa: A002 - the query's name
        """Remove one rule, or all."""
        return {"removed": standin.faults.remove(id)}

    @router.post("/latency")
    async def set_latency(latency: Latency) -> dict[str, int]:
        """Set an operation's base latency; 0 takes it away."""
        if latency.operation != "*" and latency.operation not in standin.operations[latency.vendor]:
            raise HTTPException(422, f"{latency.vendor} has: {', '.join(standin.operations[latency.vendor])}")
        standin.latency_ms[f"{latency.vendor}/{latency.operation}"] = latency.ms
        return standin.latency_ms

    @router.get("/limits")
    async def list_limits() -> dict[str, Any]:
        """Rate limits and their use now."""
        return {
            name: {"limit": window.limit, "seconds": window.seconds, "used": window.used}
            for name, window in standin.limits.items()
        }

    @router.post("/limits")
    async def set_limit(wanted: Limit) -> dict[str, Any]:
        """Change a rate limit; 0 takes it away."""
        if wanted.name not in standin.limits:
            raise HTTPException(422, f"the limits are: {', '.join(standin.limits)}")
        window = standin.limits[wanted.name]
        window.limit = wanted.limit
        window.seconds = wanted.seconds or window.seconds
        return await list_limits()

    @router.post("/hold", status_code=201)
    async def hold(wanted: Hold) -> dict[str, Any]:
        """Stop matching calls at a point until released."""
        if wanted.operation != "*" and wanted.operation not in standin.operations[wanted.vendor]:
            raise HTTPException(422, f"{wanted.vendor} has: {', '.join(standin.operations[wanted.vendor])}")
        return _gate_json(standin.gates.close(wanted))

    @router.get("/hold")
    async def list_holds() -> list[dict[str, Any]]:
        """Closed gates and who stands before them."""
        return [_gate_json(gate) for gate in standin.gates.all()]

    @router.post("/release")
    async def release(wanted: Release | None = None) -> dict[str, list[str]]:
        """Open gates; the request ids that go on come back."""
        wanted = wanted or Release()
        return {"released": standin.gates.open(gate_id=wanted.id, vendor=wanted.vendor, operation=wanted.operation)}

    @router.post("/reset")
    async def reset() -> dict[str, str]:
        """Forget ledger, calls, faults, gates, latencies and talks, as after a fresh start."""
        standin.gates.open()
        standin.faults.remove(None)
        standin.latency_ms.clear()
        standin.calls.clear()
        standin.callbacks.clear()
        standin.counters.by_operation.clear()
        for window in standin.limits.values():
            window.clear()
        forget()
        standin.ledger.clear()
        return {"status": "reset"}

    @router.get("/", response_class=HTMLResponse)
    async def page() -> str:
        """The ledger for people."""
        return ledger_page(standin)

    return router


def ledger_page(standin: Standin) -> str:
    """A small page: totals, what was billed twice, the latest entries and calls."""

    def table(heads: list[str], rows: list[list[Any]]) -> str:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
        lines = [
            "<tr>" + "".join(f"<td>{html.escape('' if cell is None else str(cell))}</td>" for cell in row) + "</tr>"
            for row in rows
        ]
        return f"<table><tr>{head}</tr>{''.join(lines)}</table>" if rows else "<p>none</p>"

    summary = standin.ledger.summary()
    totals = [[name, row["billed"], row["refunded"], f"{row['units']:g}"] for name, row in summary["totals"].items()]
    repeats = [[row["vendor"], row["operation"], row["correlation"], row["billed"]] for row in summary["repeated"]]
    entries = [
        [e.at, e.vendor, e.operation, f"{e.units:g} {e.unit}", "returned" if e.refunded else "", e.user_data or (e.prompt_sha256 or "")[:12],
         e.resource, e.stainless_retry_count, e.request_id]
        for e in reversed(list(standin.ledger))
    ][:200]  # fmt: skip
    calls = [
        [
            note.at,
            note.method,
            note.path,
            note.status if note.status is not None else "–",
            note.fault,
            note.billed,
            note.seconds,
        ]
        for note in reversed(standin.calls)
    ][:100]
    rules = [
        [a.id, a.rule.vendor, a.rule.operation, a.rule.fault, a.hit, a.rule.times or "all"]
        for a in standin.faults.all()
    ]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Vendor stand-in</title><meta http-equiv="refresh" content="5">
<style>body{{font:14px/1.4 system-ui,sans-serif;margin:2rem;max-width:90rem}}table{{border-collapse:collapse;margin:.5rem 0 1.5rem}}
td,th{{border-bottom:1px solid #ddd;padding:.25rem .75rem .25rem 0;text-align:left;vertical-align:top}}th{{color:#666;font-weight:600}}</style></head>
<body><h1>Vendor stand-in</h1>
<p>What callers were billed for. The same as JSON: <a href="ledger">ledger</a>, <a href="calls">calls</a>, <a href="faults">faults</a>.</p>
<h2>Totals</h2>{table(["operation", "billed", "returned", "units"], totals)}
<h2>Billed more than once</h2>{table(["vendor", "operation", "user_data or prompt", "times"], repeats)}
<h2>Faults in force</h2>{table(["id", "vendor", "operation", "fault", "hits", "of"], rules)}
<h2>Latest bills</h2>{table(["at", "vendor", "operation", "units", "", "correlation", "made", "sdk retry", "request"], entries)}
<h2>Latest calls</h2>{table(["at", "", "path", "status", "fault", "bill", "seconds"], calls)}
</body></html>"""
