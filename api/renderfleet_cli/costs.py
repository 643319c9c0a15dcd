"""Add up what renders have cost. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from renderfleet_crds.phases import Phase

from .tables import Cell, text_table
from .views import Render, Tenant
from .words import money

WAYS = ("tenant", "kind", "provider")
_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(slots=True)
class Sum:
    """All renders that share a key and a currency."""

    key: tuple[str, ...]
    currency: str
    renders: int = 0
    succeeded: int = 0
    under_way: int = 0
    actual_micros: int = 0
    expected_micros: int = 0
    """Estimates of those that are under way and have cost nothing yet."""
    unknown: int = 0
    """Renders of which nobody can say whether they were charged."""

    def as_document(self, ways: Sequence[str]) -> dict[str, Any]:
        """For json and yaml."""
        return {
            **dict(zip(ways, self.key, strict=True)),
            "currency": self.currency,
            "renders": self.renders,
            "succeeded": self.succeeded,
            "underWay": self.under_way,
            "actualMicros": self.actual_micros,
            "expectedMicros": self.expected_micros,
            "chargeUnknown": self.unknown,
        }


def add_up(renders: Sequence[Render], ways: Sequence[str], tenant_of: Mapping[str, str]) -> list[Sum]:
    """One sum for each combination of `ways`, dearest first. `tenant_of` names tenants by namespace."""
    sums: dict[tuple[tuple[str, ...], str], Sum] = {}
    for one in renders:
        key = tuple(_key(one, way, tenant_of) for way in ways)
        total = sums.setdefault((key, one.currency), Sum(key, one.currency))
        total.renders += 1
        total.succeeded += one.phase is Phase.SUCCEEDED
        total.actual_micros += one.actual_micros or 0
        total.unknown += one.charged == "unknown"
        if not one.is_over:
            total.under_way += 1
            if not one.actual_micros:
                total.expected_micros += one.estimated_micros or 0
    return sorted(sums.values(), key=lambda one: (-one.actual_micros, -one.expected_micros, one.key))


def _key(render: Render, way: str, tenant_of: Mapping[str, str]) -> str:
    match way:
        case "tenant":
            return tenant_name(render.namespace, tenant_of)
        case "kind":
            return render.kind
        case _:
            return render.provider


def tenant_name(namespace: str, tenant_of: Mapping[str, str]) -> str:
    """The tenant of a namespace; a namespace that is nobody's stands for itself."""
    return tenant_of.get(namespace) or namespace.removeprefix("rf-")


def costs_table(sums: Sequence[Sum], ways: Sequence[str], *, headers: bool = True) -> str:
    """A line for each sum, and one for all of each currency when there are several."""
    heads = [*(one.upper() for one in ways), "RENDERS", "SUCCEEDED", "COST", "EXPECTED", "UNKNOWN"]
    rows = [_row(one) for one in sums]
    for currency in sorted({one.currency for one in sums}):
        ours = [one for one in sums if one.currency == currency]
        if len(ours) > 1:
            total = Sum(("total", *("" for _ in ways[1:])), currency)
            for one in ours:
                for name in ("renders", "succeeded", "actual_micros", "expected_micros", "unknown"):
                    setattr(total, name, getattr(total, name) + getattr(one, name))
            rows.append(_row(total))
    return text_table(heads, rows, headers=headers)


def _row(one: Sum) -> list[Cell]:
    expected = money(one.expected_micros, one.currency) if one.expected_micros else ""
    return [*one.key, one.renders, one.succeeded, money(one.actual_micros, one.currency), expected, one.unknown or ""]


def budgets_table(tenants: Sequence[Tenant], currency: str = "USD", *, headers: bool = True) -> str:
    """What each tenant has spent of its budget this month, as the operator counts it; empty without any."""
    rows: list[list[Cell]] = [
        [one.name, one.budget_month, money(one.spent_micros or 0, currency), money(one.budget_micros, currency)]
        for one in tenants
        if one.spent_micros is not None or one.budget_micros is not None
    ]
    return text_table(["TENANT", "MONTH", "SPENT", "BUDGET"], rows, headers=headers) if rows else ""


def seconds_of(text: str) -> float:
    """Seconds in `90m`, `24h`, `30d` or `2w`. Raises ValueError."""
    found = re.fullmatch(r"(\d+)([mhdw])", text.strip())
    if found is None:
        raise ValueError(f"{text}: not a length of time")
    return float(int(found[1]) * _UNITS[found[2]])
