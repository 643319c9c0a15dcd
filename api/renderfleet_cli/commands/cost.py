"""`cost`."""

import sys
from collections.abc import Sequence
from typing import Final

from renderfleet_cli.costs import WAYS, add_up, budgets_table, costs_table, seconds_of
from renderfleet_cli.door import Target, Wanted, opened
from renderfleet_cli.errors import Misused
from renderfleet_cli.output import DocumentForm, print_document

_RECENT: Final = "30d"
"""Over REST, where the whole history is."""


def cost(
    target: Target,
    *,
    by: Sequence[str],
    since: str | None,
    selector: str | None,
    everywhere: bool,
    form: DocumentForm | None,
    headers: bool,
) -> None:
    """Print sums by these ways, tenant and kind unless others are named."""
    ways = list(dict.fromkeys(part for word in by for part in word.split(","))) or ["tenant", "kind"]
    if wrong := [one for one in ways if one not in WAYS]:
        raise Misused(f"--by {wrong[0]}: nothing to add up by", f"one or more of {', '.join(WAYS)}")
    try:
        seconds = seconds_of(since) if since else None
    except ValueError as unclear:
        raise Misused(f"--since {unclear}", "a number and m, h, d or w: 90m, 24h, 30d") from None
    with opened(target) as door:
        if seconds is None and door.via == "rest":
            seconds = seconds_of(_RECENT)
            print(f"Of the last {_RECENT}; --since says another time.", file=sys.stderr)
        renders = door.renders(Wanted(selector=selector, everywhere=everywhere, since_seconds=seconds))
        tenants = door.tenants() if door.via == "cluster" else None
    sums = add_up(renders, ways, {one.namespace: one.name for one in tenants or ()})
    if form is not None:
        print_document({"items": [one.as_document(ways) for one in sums]}, form)
        return
    if not sums:
        print("No renders found.", file=sys.stderr)
        return
    print(costs_table(sums, ways, headers=headers))
    shown = [one for one in tenants or () if everywhere or any(one.namespace == render.namespace for render in renders)]
    if budgets := budgets_table(shown, headers=headers):
        print(f"\n{budgets}")
    if door.via == "cluster":
        print("\nRenders that have left the cluster are not counted here; over REST they are.", file=sys.stderr)
