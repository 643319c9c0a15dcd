"""Tables as kubectl prints them: capital heads, three blanks between columns, nothing cut off. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from renderfleet_crds.phases import Phase

from .views import Render
from .words import age, money, seconds_between

_GAP = "   "

Cell = str | int | None


def text_table(heads: Sequence[str], rows: Iterable[Sequence[Cell]], *, headers: bool = True) -> str:
    """Lines without a final line break. A column of numbers is flush right; an absent value is `-`."""
    shown = [["-" if cell in {None, ""} else str(cell) for cell in row] for row in rows]
    numeric = [
        all(_is_number(row[at]) for row in shown) and any(row[at] != "-" for row in shown) for at in range(len(heads))
    ]
    printed = [list(heads), *shown] if headers else shown
    widths = [max([0, *(len(row[at]) for row in printed)]) for at in range(len(heads))]
    lines = []
    for row in printed:
        cells = [cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(row, widths, numeric, strict=True)]  # fmt: skip
        lines.append(_GAP.join(cells).rstrip())
    return "\n".join(lines)


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(",", "").replace(".", "", 1).replace("/", "", 1).removesuffix(" %").isdigit()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a list of renders."""

    head: str
    value: Callable[[Render, datetime], Cell]
    wide: bool = False
    """Shown with `-o wide` only."""


_COLUMNS: tuple[Column, ...] = (
    Column("KIND", lambda r, _: r.kind),
    Column("NAME", lambda r, _: r.name),
    Column("PHASE", lambda r, _: phase_word(r)),
    Column("REASON", lambda r, _: r.reason),
    Column("STAGE", lambda r, _: r.stage),
    Column("PROGRESS", lambda r, _: f"{r.progress} %"),
    Column("ATTEMPT", lambda r, _: r.attempt),
    Column("AGE", lambda r, now: age(seconds_between(r.created_at, now))),
    Column("PROVIDER", lambda r, _: r.provider, wide=True),
    Column("POSITION", lambda r, _: r.position, wide=True),
    Column("ETA", lambda r, _: age(r.eta_seconds), wide=True),
    Column("COST", lambda r, _: money(r.actual_micros, r.currency), wide=True),
    Column("ID", lambda r, _: r.id, wide=True),
    Column("MESSAGE", lambda r, _: _one_line(r.message), wide=True),
)
_NAMESPACE = Column("NAMESPACE", lambda r, _: r.namespace)


def renders_table(
    renders: Sequence[Render], now: datetime, *, wide: bool = False, namespaces: bool = False, headers: bool = True
) -> str:
    """A line for each render."""
    columns = [one for one in _COLUMNS if wide or not one.wide]
    if namespaces:
        columns.insert(0, _NAMESPACE)
    rows = [[one.value(r, now) for one in columns] for r in renders]
    return text_table([one.head for one in columns], rows, headers=headers)


def phase_word(render: Render) -> str:
    """The phase, or what is about to happen to it."""
    if render.deleting_since:
        return "Deleting"
    if render.redrive_asked and (render.phase.is_final or render.phase is Phase.HELD):
        return f"{render.phase}, retry asked"
    return str(render.phase)


def _one_line(text: str, most: int = 120) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"
