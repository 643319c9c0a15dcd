"""What was billed. Append-only lines; the state of an entry is the fold of its lines.

billed   -> an entry appears
amended  -> its units change, or it is refunded (D-ID returns the credits of failed talks)
cleared  -> everything before no longer counts
"""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel


def prompt_fingerprint(text: str) -> str:
    """SHA-256 of a prompt, script or text in hex: finds "the same request" in the ledger without keeping the words."""
    return hashlib.sha256(text.encode()).hexdigest()


class Entry(BaseModel):
    """One billed generation."""

    id: str
    at: str
    """ISO 8601, UTC."""
    vendor: str
    operation: str
    request_id: str
    unit: str
    """What `units` counts: images, output_tokens, characters, credits."""
    units: float
    prompt_sha256: str | None = None
    user_data: str | None = None
    """D-ID's field of that name: the caller's own job id."""
    model: str | None = None
    resource: str | None = None
    """Vendor's id of what was made (talk, history item), where there is one."""
    stainless_retry_count: str | None = None
    """x-stainless-retry-count as sent; anything but None or "0" means the SDK retried by itself."""
    refunded: bool = False
    note: str = ""


class Ledger:
    """All billed generations since the last clear, on disk when given a file."""

    def __init__(self, path: Path | None) -> None:
        self._entries: dict[str, Entry] = {}
        self._path = path
        self._lock = threading.Lock()
        self._next = 1
        self._used: dict[tuple[str, str], float] = {}
        if path is not None and path.exists():
            self._replay(path)

    def _replay(self, path: Path) -> None:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # the last line of a killed process may be half a line; it was never answered
                self._apply(record)
        if not path.read_bytes().endswith(b"\n"):
            with path.open("a", encoding="utf-8") as lines:
                lines.write("\n")  # or the next line would be glued to the half one and be lost with it

    def _apply(self, record: dict[str, Any]) -> None:
        match record.pop("event"):
            case "billed":
                entry = Entry.model_validate(record)
                self._put(entry)
                self._next = max(self._next, int(entry.id.removeprefix("bill-")) + 1)
            case "amended":
                entry_id = record.pop("id")
                if entry_id in self._entries:
                    self._put(self._entries[entry_id].model_copy(update=record))
            case "cleared":
                self._entries.clear()
                self._used.clear()

    def _put(self, entry: Entry) -> None:
        """Store an entry and keep the running totals right: they are asked at every call."""
        key = (entry.vendor, entry.unit)
        old = self._entries.get(entry.id)
        change = (0 if entry.refunded else entry.units) - (0 if old is None or old.refunded else old.units)
        self._used[key] = self._used.get(key, 0) + change
        self._entries[entry.id] = entry

    def _write(self, record: dict[str, Any]) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(record, separators=(",", ":")) + "\n")
        self._apply(dict(record))

    def bill(
        self, *, vendor: str, operation: str, request_id: str, unit: str, units: float, **facts: str | None
    ) -> Entry:
        """Add a billed generation and return it; on return it is in the file."""
        with self._lock:
            entry = Entry(
                id=f"bill-{self._next}",
                at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                vendor=vendor,
                operation=operation,
                request_id=request_id,
                unit=unit,
                units=units,
                **facts,
            )
            self._write({"event": "billed", **entry.model_dump(exclude_defaults=True)})
            return entry

    def amend(self, entry_id: str, **changes: Any) -> None:
        """Change units, refund or note of an entry; unknown ids (cleared meanwhile) are ignored."""
        with self._lock:
            self._write({"event": "amended", "id": entry_id, **changes})

    def clear(self) -> None:
        """Start counting anew; the file keeps its history."""
        with self._lock:
            self._write({"event": "cleared"})

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def used(self, vendor: str, unit: str) -> float:
        """Units of this kind billed and not refunded."""
        return self._used.get((vendor, unit), 0)

    def summary(self) -> dict[str, Any]:
        """Counts and units per vendor and operation, and requests that were billed more than once."""
        totals: dict[str, dict[str, float]] = {}
        for entry in self:
            row = totals.setdefault(f"{entry.vendor}/{entry.operation}", {"billed": 0, "refunded": 0, "units": 0})
            row["billed"] += 1
            row["refunded"] += entry.refunded
            row["units"] += 0 if entry.refunded else entry.units
        seen = Counter(
            (e.vendor, e.operation, e.user_data or e.prompt_sha256) for e in self if e.user_data or e.prompt_sha256
        )
        repeats = [
            {"vendor": vendor, "operation": operation, "correlation": correlation, "billed": count}
            for (vendor, operation, correlation), count in seen.items()
            if count > 1
        ]
        return {"totals": totals, "repeated": repeats}
