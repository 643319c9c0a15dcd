"""Decide what the bench says in the end: the numbers, the bar each must clear, a table and one line of JSON. Pure.

A bar that is missed is a result, not an error of the bench. A number that was not measured is null, and passes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Number = float | int | None


@dataclass(frozen=True, slots=True)
class Bar:
    """What a number must not fall short of, or must not exceed."""

    key: str
    what: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def text(self) -> str:
        """`>= 0.70`, for the table."""
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else ""

    def verdict(self, value: Number) -> Verdict:
        """How a measured number stands to it."""
        if self.at_least is None and self.at_most is None:
            return Verdict.NO_BAR
        if value is None:
            return Verdict.NOT_MEASURED
        low = self.at_least is not None and value < self.at_least
        high = self.at_most is not None and value > self.at_most
        return Verdict.MISSED if low or high else Verdict.PASSED


class Verdict(StrEnum):
    """How a number stands to its bar."""

    PASSED = "pass"
    MISSED = "MISSED"
    NOT_MEASURED = "not measured"
    NO_BAR = "-"


BARS = (
    Bar("ratio_500", "throughput against bare Jobs, 500 renders", at_least=0.70),
    Bar("ratio_500_same_job", "throughput against the runners' own Jobs alone, 500 renders"),
    Bar("ratio_ceiling", "the same by processor time, had we no operator and the smallest status"),
    Bar("requests_cpu_ms_per_render", "processor time of a render's own requests, no operator, ms"),
    Bar("ratio_5000", "throughput against bare Jobs, 5,000 renders", at_least=0.70),
    Bar("ratio_default_flags", "throughput against bare Jobs, default controller flags", at_least=0.95),
    Bar("overhead_p50_s", "one render over one bare Job, median, seconds", at_most=0.15),
    Bar("operator_writes_per_render", "operator's writes per one-stage render", at_most=4),
    Bar("operator_rss_mib", "operator's resident memory at its peak, MiB", at_most=200),
    Bar("operator_cpu_ms_per_render", "operator's processor time per render, ms"),
    Bar("restart_ready_s", "restart among many objects: seconds to ready", at_most=10),
    Bar("restart_writes_finished", "restart: writes to finished renders", at_most=0),
    Bar("eta_error_p50", "queue ETA: median relative error of the wait"),
    Bar("fairness", "longest wait of a single render behind a dump, in service times", at_most=1),
    Bar("submit_ratio", "API submits against bare POSTs of the same objects", at_least=0.5),
    Bar("get_ratio", "GET of a job against a bare route that selects one row", at_least=0.5),
    Bar("sse_p99_s", "a phase change at 1,000 event streams, p99, seconds", at_most=1),
    Bar("api_rss_mib", "API's resident memory at its peak, MiB", at_most=250),
)
"""The keys of the last line, in its order. Bars without a number are for comparing runs."""


@dataclass
class Report:
    """All that a run found out."""

    mode: str
    numbers: dict[str, Number] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    """By key: what belongs beside the number, such as spread and sizes."""
    sections: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Further findings: title -> rows of (what, value)."""
    raw: dict[str, Any] = field(default_factory=dict)
    """Every single measurement, for the file."""

    def last_line(self) -> str:
        """The numbers as one line of JSON, every key there."""
        return json.dumps({bar.key: _rounded(self.numbers.get(bar.key)) for bar in BARS})

    def text(self) -> str:
        """The table for people."""
        rows = [("MEASURE", "VALUE", "BAR", "", "")]
        for bar in BARS:
            value = self.numbers.get(bar.key)
            rows.append((bar.what, shown(value), bar.text, bar.verdict(value), self.notes.get(bar.key, "")))
        parts = [columns(rows)]
        for title, section in self.sections.items():
            parts.append(f"{title}\n" + columns([(f"  {what}", value) for what, value in section]))
        parts.append(self.conclusion())
        return "\n\n".join(parts)

    def conclusion(self) -> str:
        """Which bars were missed, and which nobody can speak of."""
        keys = {verdict: [bar.key for bar in BARS if self._verdict(bar) is verdict] for verdict in Verdict}
        said = [f"bars passed: {len(keys[Verdict.PASSED])}", f"missed: {', '.join(keys[Verdict.MISSED]) or 'none'}"]
        if unknown := keys[Verdict.NOT_MEASURED]:
            said.append(f"not measured: {', '.join(unknown)}")
        return "; ".join(said)

    @property
    def has_failed(self) -> bool:
        """Without a single number there was no bench, only an attempt at one."""
        return all(value is None for value in self.numbers.values())

    def _verdict(self, bar: Bar) -> Verdict:
        return bar.verdict(self.numbers.get(bar.key))

    def content(self) -> dict[str, Any]:
        """Everything, for the file."""
        return {
            "mode": self.mode,
            "numbers": {bar.key: self.numbers.get(bar.key) for bar in BARS},
            "verdicts": {bar.key: bar.verdict(self.numbers.get(bar.key)) for bar in BARS},
            "notes": self.notes,
            "sections": {title: dict(rows) for title, rows in self.sections.items()},
            "raw": self.raw,
        }


def _rounded(value: Number) -> Number:
    return round(value, 4) if isinstance(value, float) else value


def shown(value: Number) -> str:
    """Three figures are all that a shared machine is good for."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows as aligned columns."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def by_count(counts: Mapping[str, int], per: int) -> list[tuple[str, str]]:
    """Counts as rows, the largest first, each also divided by the number of renders."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(what, f"{count} ({count / per:.2f} per render)") for what, count in ordered]
