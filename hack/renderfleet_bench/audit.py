"""Count who wrote what, from the API server's audit log: the one account that no client can embellish.

The log is read in slices: remember the place before a round, read from there after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

WRITING_VERBS = frozenset({"create", "update", "patch", "delete", "deletecollection"})
HEARTBEATS = frozenset({"leases"})
"""Written by the clock, not by a render."""
FLEET = frozenset({"renderproviders", "rendertenants", "resourcequotas", "secrets"})
"""Written as time goes by, however many renders there are; counted apart."""
STORIES = frozenset({"events"})
"""Told beside a render, best effort; counted apart (the write budget gives them a line of their own)."""


@dataclass(frozen=True, slots=True)
class Write:
    """One writing request, refused or not: a refused one cost the server nearly as much."""

    user: str
    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int

    @property
    def what(self) -> str:
        """`patch avatarrenders/status`, for a table."""
        return f"{self.verb} {self.resource}" + (f"/{self.subresource}" if self.subresource else "")


def writes(lines: Iterable[bytes]) -> Iterator[Write]:
    """The writing requests among lines of an audit log. A torn last line is left out: it belongs to the next slice."""
    for line in lines:
        # Nine lines of ten are reads, told apart without parsing them.
        if b'"verb":"' not in line or not line.endswith(b"}\n"):
            continue
        verb = line.split(b'"verb":"', 1)[1].split(b'"', 1)[0].decode()
        if verb not in WRITING_VERBS:
            continue
        event = orjson.loads(line)
        at = event.get("objectRef") or {}
        yield Write(
            user=event["user"]["username"],
            verb=verb,
            resource=at.get("resource", ""),
            subresource=at.get("subresource", ""),
            namespace=at.get("namespace", ""),
            name=at.get("name", ""),
            code=(event.get("responseStatus") or {}).get("code", 0),
        )


@dataclass(frozen=True, slots=True)
class Account:
    """What one user wrote in a slice of the log."""

    by_what: Counter[str]
    """Everything but heartbeats, Events and what concerns no single render."""
    fleet: Counter[str]
    """About providers and tenants."""
    events: int
    refused: int
    """Of the counted ones, how many got an error."""

    @property
    def total(self) -> int:
        """Number of writes to renders and their children."""
        return self.by_what.total()


def account(of_user: str, seen: Iterable[Write]) -> Account:
    """Sum up one user's writes."""
    by_what: Counter[str] = Counter()
    fleet: Counter[str] = Counter()
    events = refused = 0
    for write in seen:
        if write.user != of_user or write.resource in HEARTBEATS:
            continue
        if write.resource in STORIES:
            events += 1
            continue
        (fleet if write.resource in FLEET else by_what)[write.what] += 1
        refused += write.code >= 400
    return Account(by_what, fleet, events, refused)


class AuditLog:
    """The log file of one API server, read slice by slice."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def place(self) -> int:
        """Where the log ends now, as an offset in bytes."""
        return self.path.stat().st_size if self.path.exists() else 0

    def since(self, place: int) -> Iterator[Write]:
        """The writing requests logged after `place`."""
        with self.path.open("rb") as file:
            file.seek(place)
            yield from writes(file)
