"""Print renders in the form that was asked for, as kubectl does."""

import json
import sys
from collections.abc import Sequence
from typing import Any, Literal

from .views import Render
from .words import utc_now

Form = Literal["json", "yaml", "wide", "name"]
DocumentForm = Literal["json", "yaml"]
"""Of what has no name and no more columns."""


def print_renders(
    renders: Sequence[Render],
    form: Form | None,
    *,
    namespaces: bool = False,
    headers: bool = True,
    as_list: bool = True,
    where: str = "",
) -> None:
    """To stdout. `as_list` says whether json and yaml are a list even of one."""
    match form:
        case "json" | "yaml":
            raw = [dict(one.raw) for one in renders]
            print_document(_listed(raw) if as_list or len(raw) != 1 else raw[0], form)
        case "name":
            for one in renders:
                print(one.ref)
        case _:
            from .tables import renders_table

            if not renders:
                print(f"No renders found{f' at {where}' if where else ''}.", file=sys.stderr)
                return
            print(renders_table(renders, utc_now(), wide=form == "wide", namespaces=namespaces, headers=headers))


def print_document(document: Any, form: DocumentForm) -> None:
    """Any JSON-like value."""
    if form == "json":
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    import yaml

    print(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), end="")


def _listed(raw: list[dict[str, Any]]) -> dict[str, Any]:
    """A Kubernetes List of custom resources, which `kubectl apply -f -` takes; a plain object of jobs."""
    if raw and "apiVersion" not in raw[0]:
        return {"items": raw}
    return {"apiVersion": "v1", "kind": "List", "items": raw}
