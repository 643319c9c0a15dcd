"""Decide how results are shown. Pure: verdicts in, lines out."""

from collections.abc import Iterable, Sequence

from renderfleet_faults.oracle import Golden, Verdict
from renderfleet_faults.traps import Fault

_CRASH_FAULTS = (Fault.DIE_BEFORE, Fault.DIE_AFTER, Fault.LOSE_REPLY, Fault.DROP_LINE)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned columns; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def crash_table(goldens: dict[str, Golden], verdicts: Sequence[Verdict]) -> str:
    """Kinds x points x verdict: `good of reached` under each fault, then one word for the kind."""
    rows: list[Sequence[str]] = [("KIND", "WRITES", "LINES", *(fault.upper() for fault in _CRASH_FAULTS), "VERDICT")]
    for name, golden in goldens.items():
        of_kind = [one for one in verdicts if one.scenario == name]
        cells = []
        for fault in _CRASH_FAULTS:
            tried = [one for one in of_kind if one.point.fault is fault]
            reached = [one for one in tried if one.reached]
            good = sum(one.good for one in reached)
            cells.append(f"{good}/{len(reached)}" if tried else "-")
        bad = len(golden.problems) + sum(not one.good for one in of_kind)
        writes = golden.most.get("writes", 0)
        lines = sum(count for series, count in golden.most.items() if series.startswith("lines"))
        rows.append((name, str(writes), str(lines), *cells, "good" if not bad else f"BAD ({bad})"))
    return table(rows)


def troubles(goldens: dict[str, Golden], verdicts: Iterable[Verdict]) -> list[str]:
    """One paragraph for each run that did not come out right."""
    found = [
        f"{name}, undisturbed:\n" + "\n".join(f"    {problem}" for problem in golden.problems)
        for name, golden in goldens.items()
        if golden.problems
    ]
    found += [
        f"{one.scenario}, {one.point} ({one.hit or 'never reached'}), {one.subject}:\n"
        + "\n".join(f"    {problem}" for problem in one.problems)
        for one in verdicts
        if not one.good
    ]
    return found
