"""`get` and `list`."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from renderfleet_cli.door import Target, Wanted, find_all, opened
from renderfleet_cli.errors import Misused
from renderfleet_cli.output import Form, print_renders
from renderfleet_cli.views import kind_called
from renderfleet_crds.phases import Phase

_NEWEST: Final = 200
"""Over REST: what has left the cluster is listed too, and in the end that is far more than anybody reads."""


def get(target: Target, names: Sequence[str], *, form: Form | None, everywhere: bool, headers: bool) -> None:
    """Show these. Raises NotThere for a name that means none."""
    with opened(target) as door:
        found = find_all(door, names, everywhere=everywhere)
    print_renders(found, form, namespaces=everywhere, headers=headers, as_list=len(names) > 1 or len(found) > 1)


def list_renders(
    target: Target,
    *,
    kind: str | None,
    phases: Sequence[str],
    provider: str | None,
    selector: str | None,
    everywhere: bool,
    limit: int | None,
    form: Form | None,
    headers: bool,
) -> None:
    """Show all that fit."""
    wanted = Wanted(
        kind=kind_of(kind),
        phases=tuple(phase_of(one) for one in phases),
        provider=provider,
        selector=selector,
        everywhere=everywhere,
        limit=limit,
    )
    with opened(target) as door:
        if limit is None and door.via == "rest":
            wanted = replace(wanted, limit=_NEWEST)
        found = door.renders(wanted)
        where = "" if everywhere else door.where
    print_renders(found, form, namespaces=everywhere, headers=headers, where=where)
    if limit is None and len(found) == wanted.limit:
        print(f"These are the newest {_NEWEST}; --limit N shows more.", file=sys.stderr)


def kind_of(word: str | None) -> str | None:
    """The kind that goes by this word. Raises Misused."""
    if word is None:
        return None
    kind = kind_called(word)
    if kind is None:
        raise Misused(f"there is no kind {word!r}", "avatar, voice or video")
    return kind


def phase_of(word: str) -> Phase:
    """The phase of that name, however it is spelled. Raises Misused."""
    plain = word.replace("-", "").replace("_", "").lower()
    for phase in Phase:
        if phase.lower() == plain:
            return phase
    raise Misused(f"there is no phase {word!r}", ", ".join(Phase))
