"""`why`: one paragraph for each render, or the same as fields."""

import textwrap
from collections.abc import Sequence
from shutil import get_terminal_size
from typing import Any

from renderfleet_cli.door import Target, find_all, opened
from renderfleet_cli.output import DocumentForm, print_document
from renderfleet_cli.views import Render
from renderfleet_cli.why import why as explain
from renderfleet_cli.words import utc_now


def why(target: Target, names: Sequence[str], *, form: DocumentForm | None) -> None:
    """Say for each what it waits for."""
    with opened(target) as door:
        said = [(one, explain(one, door.surroundings(one), utc_now())) for one in find_all(door, names)]
    if form is not None:
        documents = [_document(render, text) for render, text in said]
        print_document({"items": documents} if len(names) > 1 or len(documents) > 1 else documents[0], form)
        return
    width = min(100, get_terminal_size((100, 0)).columns)
    # Commands stand in the text to be copied: never break them at a hyphen.
    print("\n\n".join(textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False) for _, text in said))


def _document(render: Render, text: str) -> dict[str, Any]:
    return {
        "kind": render.kind,
        "name": render.name,
        "namespace": render.namespace,
        "phase": str(render.phase),
        "reason": render.reason,
        "since": render.waiting_since.isoformat().replace("+00:00", "Z") if render.waiting_since else None,
        "position": render.position,
        "etaSeconds": render.eta_seconds,
        "why": text,
    }
