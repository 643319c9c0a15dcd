"""Offer the names of renders while somebody types; silence is better here than an error or a long wait."""

import threading
from typing import Any

import typer

from .door import Target, Wanted, opened
from .errors import CliError
from .options import target_of
from .views import kind_called

_PATIENCE_SECONDS = 4.0
_OFFERED = 200


def render_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names that begin like this, newest first; with a kind in front where that was typed."""
    found: list[str] = []
    worker = threading.Thread(target=_look, args=(_target(ctx), incomplete, found), daemon=True)
    worker.start()
    worker.join(_PATIENCE_SECONDS)
    return list(found)


def _target(ctx: typer.Context) -> Target:
    given: dict[str, Any] = {
        name: ctx.params.get(name) for name in ("via", "profile", "namespace", "context", "kubeconfig")
    }
    return target_of(ctx, given)


def _look(target: Target, incomplete: str, found: list[str]) -> None:
    try:
        with opened(target) as door:
            renders = door.renders(Wanted(limit=_OFFERED))
    except (CliError, ValueError):
        return
    # The kind stays as it was typed, in whichever of its spellings.
    word, slash, begin = incomplete.rpartition("/")
    kind = kind_called(word)
    fitting = (one.name for one in renders if one.name.startswith(begin) and (not slash or one.kind == kind))
    found += dict.fromkeys(f"{word}{slash}{name}" for name in fitting)
