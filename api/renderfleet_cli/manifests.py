"""Read renders from YAML, as kubectl takes them. Pure but for the reading."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from renderfleet_crds import meta
from renderfleet_crds.kinds import RENDERS

from .door import Wish
from .errors import Misused

_KINDS = frozenset(one.kind for one in RENDERS)


def read(files: Sequence[str]) -> list[Wish]:
    """All renders of these files, in their order; `-` is stdin. Raises Misused for anything that is no render."""
    return [wish for name in files for wish in parse(_text(name), name)]


def parse(text: str, name: str) -> list[Wish]:
    """The renders of one text. Raises Misused, naming file and document."""
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as broken:
        raise Misused(f"{name} is no YAML: {' '.join(str(broken).split())}", "mend it at that place") from None
    found = [_wish(one, f"{name}, document {at}") for at, one in enumerate(_flat(documents), start=1)]
    if not found:
        raise Misused(f"{name} holds no render", "see docs/examples/ for one of each kind")
    return found


def _flat(documents: Sequence[Any]) -> Iterator[Any]:
    """Documents that are lists, taken apart; empty ones left out."""
    for one in documents:
        if isinstance(one, dict) and one.get("kind") == "List":
            yield from one.get("items") or ()
        elif one is not None:
            yield one


def _wish(document: Any, where: str) -> Wish:
    if not isinstance(document, dict) or document.get("apiVersion") != meta.API_VERSION:
        raise Misused(f"{where} is not of apiVersion {meta.API_VERSION}", "apply other objects with kubectl")
    kind = document.get("kind")
    if kind not in _KINDS:
        raise Misused(
            f"{where} is a {kind or 'document without a kind'}, not one of {', '.join(sorted(_KINDS))}",
            "apply other objects with kubectl",
        )
    about, spec = document.get("metadata") or {}, document.get("spec") or {}
    if not isinstance(about, dict) or not isinstance(spec, dict):
        raise Misused(f"{where}: metadata and spec are maps", "see docs/examples/ for one of each kind")
    return Wish(
        kind=kind,
        spec=spec,
        name=about.get("name"),
        namespace=about.get("namespace"),
        labels=about.get("labels") or {},
        annotations=about.get("annotations") or {},
    )


def _text(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as unreadable:
        raise Misused(f"{name} cannot be read: {unreadable}", "name a YAML file, or - for stdin") from None
