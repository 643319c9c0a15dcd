"""Rows of a vendor's error table, as data: a name, a status, a body, headers.

A row says what the vendor answers; `faults.py` says when it is answered instead of the real thing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Facts = Mapping[str, str]
"""What is known of the call a fault hits: request_id, prompt, model, user_data, key, …; missing ones are absent."""


class Kind(Enum):
    """When and how a fault acts."""

    ANSWER = "answer"
    """An error answer instead of the work: not billed, unless the rule says `after_bill`."""
    MANNER = "manner"
    """The call succeeds (and is billed) but what it gives is wrong; the vendor's own code carries it out."""
    TRANSPORT = "transport"
    """The connection misbehaves."""


@dataclass(frozen=True)
class Row:
    """One fault a vendor can show."""

    name: str
    status: int
    body: Callable[[Facts], dict[str, Any]] | None
    about: str
    headers: Callable[[float], dict[str, str]] = field(default=lambda _seconds: {})
    """Extra headers, given the seconds of Retry-After."""
    kind: Kind = Kind.ANSWER
    after_bill: bool = False


def manner(name: str, about: str, status: int = 200) -> Row:
    """A row for a call that succeeds wrongly."""
    return Row(name=name, status=status, body=None, about=about, kind=Kind.MANNER)


def retry_after(seconds: float) -> dict[str, str]:
    """Retry-After in whole seconds, at least 1."""
    return {"retry-after": str(max(1, round(seconds)))}


TRANSPORT_FAULTS: dict[str, Row] = {
    row.name: row
    for row in [
        Row("latency_ms", 0, None, "wait `latency_ms`, then go on as usual", kind=Kind.TRANSPORT),
        Row("hang", 0, None, "no answer for `seconds`, nothing billed", kind=Kind.TRANSPORT),
        Row("hang_after_bill", 0, None, "billed, then no answer for `seconds`", kind=Kind.TRANSPORT, after_bill=True),
        Row("reset_before_send", 0, None, "connection reset, nothing billed", kind=Kind.TRANSPORT),
        Row("reset_after_bill", 0, None, "billed, then connection reset", kind=Kind.TRANSPORT, after_bill=True),
        Row("slow_drip", 0, None, "answer in `chunk_bytes` every `interval_ms`", kind=Kind.TRANSPORT, after_bill=True),
        Row("truncate", 0, None, "answer cut after `bytes` (default half)", kind=Kind.TRANSPORT, after_bill=True),
        Row("bad_json", 0, None, "half the answer, announced as whole", kind=Kind.TRANSPORT, after_bill=True),
        Row("huge_body", 0, None, "`bytes` (default 80 MB) of answer", kind=Kind.TRANSPORT, after_bill=True),
        Row("html_403", 403, None, "an edge's HTML page, nothing billed", kind=Kind.TRANSPORT),
        Row("html_429", 429, None, "an edge's HTML page, nothing billed", kind=Kind.TRANSPORT),
        Row("html_502", 502, None, "an edge's HTML page, nothing billed", kind=Kind.TRANSPORT),
        Row("html_520", 520, None, "an edge's HTML page, nothing billed", kind=Kind.TRANSPORT),
        Row("html_521", 521, None, "an edge's HTML page, nothing billed", kind=Kind.TRANSPORT),
        Row("html_522", 522, None, "an edge's HTML page, nothing billed", kind=Kind.TRANSPORT),
        Row("html_523", 523, None, "an edge's HTML page, nothing billed", kind=Kind.TRANSPORT),
        Row("html_504_after_bill", 504, None, "billed, then an edge's HTML page", kind=Kind.TRANSPORT, after_bill=True),
        Row("html_524_after_bill", 524, None, "billed, then an edge's HTML page", kind=Kind.TRANSPORT, after_bill=True),
    ]
}
"""Faults every vendor can show, whatever the operation."""

EDGE_TITLES = {
    403: "Forbidden",
    429: "Too Many Requests",
    502: "Bad Gateway",
    504: "Gateway Time-out",
    520: "Web server is returning an unknown error",
    521: "Web server is down",
    522: "Connection timed out",
    523: "Origin is unreachable",
    524: "A timeout occurred",
}
