"""The parts all vendors share, and the course of one call through them.

enter  -> counted, base latency, scripted fault taken (and shown, if it shows before billing)
bill   -> before_bill gate, ledger line
after_bill -> after_bill gate, fault shown if it shows after billing
finish -> the answer, spoiled on its way out if the fault says so
"""

import asyncio
import secrets
import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from renderfleet_standin import transport
from renderfleet_standin.faults import FaultBook, Strike, Vendor
from renderfleet_standin.gates import Gates, Point
from renderfleet_standin.ledger import Entry, Ledger, prompt_fingerprint
from renderfleet_standin.limits import Window
from renderfleet_standin.rows import EDGE_TITLES, TRANSPORT_FAULTS, Kind, Row
from renderfleet_standin.settings import StandinSettings

P = ParamSpec("P")
T = TypeVar("T")

CALLS_REMEMBERED = 5000


class Answer(Exception):
    """Ends a call early with this response."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"answered {response.status_code}")
        self.response = response


@dataclass
class CallNote:
    """One call as the call log shows it, refused ones included."""

    at: str
    vendor: str
    method: str
    path: str
    request_id: str
    operation: str = ""
    status: int | None = None
    """None: no status line was sent (reset, hang, or the call is still under way)."""
    fault: str | None = None
    billed: str | None = None
    """Ledger id."""
    stainless_retry_count: str | None = None
    user_data: str | None = None
    prompt_sha256: str | None = None
    seed: int | None = None
    previous_request_ids: list[str] | None = None
    seconds: float | None = None


@dataclass
class Counters:
    """Calls seen, by vendor/operation."""

    by_operation: dict[str, int] = field(default_factory=dict)

    def count(self, key: str) -> None:
        self.by_operation[key] = self.by_operation.get(key, 0) + 1


class Standin:
    """Everything that lives as long as the server does."""

    def __init__(
        self,
        settings: StandinSettings,
        rows: dict[str, dict[str, Row]],
        operations: dict[str, tuple[str, ...]],
    ) -> None:
        self.settings = settings
        self.operations = operations
        self.rows = {vendor: {**TRANSPORT_FAULTS, **own} for vendor, own in rows.items()}
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if settings.data is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="renderfleet-standin-")
            self.data = Path(self._temporary.name)
        else:
            self.data = settings.data
            self.data.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(self.data / "ledger.jsonl" if settings.data is not None else None)
        self.faults = FaultBook(self.rows, operations)
        self.gates = Gates()
        self.callbacks: deque[dict[str, Any]] = deque(maxlen=CALLS_REMEMBERED)
        """Webhook calls made for finished talks and how they were taken."""
        self.latency_ms: dict[str, int] = {}
        """Base latency by "vendor/operation"."""
        self.calls: deque[CallNote] = deque(maxlen=CALLS_REMEMBERED)
        self.counters = Counters()
        self.limits: dict[str, Window] = {
            "openai.images_per_minute": Window(settings.openai_images_per_minute, 60),
            "openai.requests_per_minute": Window(settings.openai_requests_per_minute, 60),
            "openai.tokens_per_minute": Window(settings.openai_tokens_per_minute, 60),
            "elevenlabs.requests_per_minute": Window(settings.elevenlabs_requests_per_minute, 60),
            "did.creates_per_second": Window(settings.did_creates_per_second, 1),
        }
        self._pool = ThreadPoolExecutor(max_workers=settings.workers, thread_name_prefix="media")

    def close(self) -> None:
        """Stop the media workers and remove the temporary folder, if there is one."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._temporary is not None:
            self._temporary.cleanup()

    def today(self) -> date:
        """The date that decides which models are retired."""
        return self.settings.today or datetime.now(UTC).date()

    async def make(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run CPU work off the event loop, at most `workers` at once."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: function(*args, **kwargs))

    def base_url(self, request: Request) -> str:
        """Where the caller reaches this server, without a slash at the end."""
        if self.settings.public_base_url:
            return self.settings.public_base_url.rstrip("/")
        return f"{request.url.scheme}://{request.url.netloc}"


class Call:
    """One vendor call on its way through the stand-in."""

    def __init__(self, standin: Standin, request: Request, vendor: Vendor, operation: str) -> None:
        self.standin = standin
        self.request = request
        self.vendor: Vendor = vendor
        self.operation = operation
        self.note: CallNote = request.state.note
        self.note.operation = operation
        self.request_id = self.note.request_id
        self.facts: dict[str, str] = {"request_id": self.request_id}
        self.strike: Strike | None = None
        self.entry: Entry | None = None
        standin.counters.count(f"{vendor}/{operation}")

    def know(self, **facts: str | None) -> None:
        """Learn something of this call that rules may match and rows may quote."""
        self.facts.update({name: value for name, value in facts.items() if value is not None})
        if "prompt" in self.facts:
            self.note.prompt_sha256 = prompt_fingerprint(self.facts["prompt"])
        self.note.user_data = self.facts.get("user_data")

    def is_struck_by(self, name: str) -> bool:
        """Whether the scripted fault of this call is the one named."""
        return self.strike is not None and self.strike.name == name

    async def enter(self) -> None:
        """Wait the base latency and meet the scripted fault. Raises Answer when the fault is the answer."""
        standin = self.standin
        self.strike = standin.faults.take(self.vendor, self.operation, self.facts)
        if self.strike is not None:
            self.note.fault = self.strike.name
        delay_ms = standin.latency_ms.get(
            f"{self.vendor}/{self.operation}", standin.latency_ms.get(f"{self.vendor}/*", 0)
        )
        if self.strike is not None:
            delay_ms += self.strike.rule.latency_ms
        if delay_ms:
            await asyncio.sleep(delay_ms / 1000)
        if self.strike is not None and not self.strike.after_bill:
            await self._show()

    async def gate(self, point: Point) -> None:
        """Stand at a gate closed for this call, if there is one."""
        await self.standin.gates.pass_through(self.vendor, self.operation, point, self.facts)

    async def bill(self, *, unit: str, units: float, resource: str | None = None) -> Entry:
        """Write the ledger line: from here on the generation is paid for."""
        await self.gate("before_bill")
        self.entry = self.standin.ledger.bill(
            vendor=self.vendor,
            operation=self.operation,
            request_id=self.request_id,
            unit=unit,
            units=units,
            prompt_sha256=self.note.prompt_sha256,
            user_data=self.facts.get("user_data"),
            model=self.facts.get("model"),
            resource=resource,
            stainless_retry_count=self.note.stainless_retry_count,
        )
        self.note.billed = self.entry.id
        return self.entry

    async def after_bill(self) -> None:
        """Stand at the gate after billing, then raise Answer if the scripted fault replaces the answer.

        Called when what was made can be found by those who look (a talk by GET, a speech in the history).
        """
        await self.gate("after_bill")
        await self.show_late_fault()

    async def show_late_fault(self) -> None:
        """Raise Answer when the scripted fault replaces the answer after billing; reads, which bill nothing, end here."""
        if self.strike is not None and self.strike.after_bill:
            await self._show()

    async def _show(self) -> None:
        assert self.strike is not None
        rule, row = self.strike.rule, self.strike.row
        if row.kind is Kind.ANSWER:
            assert row.body is not None
            facts = {**self.facts, "retry_after_seconds": f"{rule.retry_after_seconds:g}"}
            raise Answer(JSONResponse(row.body(facts), row.status, headers=row.headers(rule.retry_after_seconds)))
        if row.kind is Kind.MANNER:
            return
        if row.name.startswith("reset_"):
            raise Answer(transport.ResetConnection())
        if row.name.startswith("hang"):
            # Here, not in the response: a hanging call keeps its place among the calls at once.
            await transport.wait_for_hangup(self.request.receive, rule.seconds)
            raise Answer(transport.ResetConnection())
        if row.name.startswith("html_"):
            raise Answer(transport.html_page(row.status, EDGE_TITLES[row.status]))

    def finish(self, response: Response) -> Response:
        """Hand back the answer as it will go out: as it is, or spoiled by the scripted fault."""
        if self.strike is None:
            return response
        rule = self.strike.rule
        match self.strike.name:
            case "slow_drip":
                return transport.SlowDrip(
                    response, chunk_bytes=rule.chunk_bytes, interval_seconds=rule.interval_ms / 1000
                )
            case "truncate":
                return transport.Truncated(response, keep_bytes=rule.bytes)
            case "bad_json":
                return transport.Garbled(response)
            case "huge_body":
                return transport.HugeBody(response, total_bytes=80_000_000 if rule.bytes is None else rule.bytes)
            case _:
                return response


def new_id(prefix: str, length: int = 21) -> str:
    """A random id in the vendors' style, letters and digits only."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    return prefix + "".join(secrets.choice(alphabet) for _ in range(length))


def note_of(vendor: str, method: str, path: str, stainless_retry_count: str | None) -> CallNote:
    """Open the log line of a call that has just arrived."""
    return CallNote(
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        vendor=vendor,
        method=method,
        path=path,
        request_id=f"req_{secrets.token_hex(16)}" if vendor == "openai" else secrets.token_hex(16),
        stainless_retry_count=stainless_retry_count,
    )


def as_dict(note: CallNote) -> dict[str, Any]:
    """The log line as JSON."""
    return asdict(note)


def seconds_since(start: float) -> float:
    """Seconds on the monotonic clock."""
    return time.monotonic() - start
