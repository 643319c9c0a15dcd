"""The ledger as a page for people: totals, what was billed twice, the latest bills and calls."""

import html
from typing import Any

from renderfleet_standin.core import Standin


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
