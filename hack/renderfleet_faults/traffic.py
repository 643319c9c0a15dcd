"""Decide what one request to the API server is, and whose. Pure.

write    POST, PUT, PATCH, DELETE of an object that means something: counted, and may be broken
quiet    Lease heartbeats, Events, questions about permissions: they carry no state of a render, so not counted
watch    an open-ended GET; its lines are counted
read     every other GET

A subject is one trial of a suite. Its token is part of every name made for it (tenant, namespace, providers), so each
request and each watched object tells by its names which trial it belongs to.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_UNCOUNTED_KINDS = frozenset({"leases", "events"})
_QUESTIONS = frozenset({"authorization.k8s.io", "authentication.k8s.io"})
TOKEN = re.compile(r"(?<![a-z0-9])[cm]\d{4}(?![a-z0-9])")
"""A subject's token inside a name."""


class Sort(StrEnum):
    """What a request does."""

    WRITE = "write"
    QUIET = "quiet"
    WATCH = "watch"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Target:
    """The object, or the collection, that a request's path names."""

    group: str
    plural: str
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None

    def __str__(self) -> str:
        return f"{self.plural}/{self.subresource}" if self.subresource else self.plural


def token(letter: str, number: int) -> str:
    """The name of one trial: `c` for crash or `m` for money, and four digits."""
    if letter not in "cm" or not 0 <= number <= 9999:
        raise ValueError(f"{letter}{number} is not a token that subject_of() would know again")
    return f"{letter}{number:04d}"


def target_of(path: str) -> Target | None:
    """The API object that a path is about; None for paths that are about none (/version, /apis, /readyz)."""
    parts = [part for part in path.split("/") if part]
    match parts:
        case ["api", _version, *rest]:
            group = ""
        case ["apis", group, _version, *rest]:
            pass
        case _:
            return None
    namespace = None
    # A namespace is itself an object, and has subresources of its own that look like kinds in it.
    if len(rest) > 2 and rest[0] == "namespaces" and rest[2] not in {"status", "finalize"}:
        namespace, rest = rest[1], rest[2:]
    if not rest:
        return None
    plural, name, subresource = (*rest, None, None)[:3]
    return Target(group, str(plural), namespace, name, subresource)


def sort_of(method: str, target: Target | None, query: Mapping[str, str]) -> Sort:
    """What a request does, see the table above."""
    if method == "GET":
        return Sort.WATCH if query.get("watch") in {"true", "1"} else Sort.READ
    if method not in _WRITING:
        return Sort.READ
    if target is None or target.plural in _UNCOUNTED_KINDS or target.group in _QUESTIONS or "dryRun" in query:
        return Sort.QUIET
    return Sort.WRITE


def subject_of_request(target: Target | None, body: Mapping[str, Any] | None) -> str | None:
    """Whose request this is; None for what belongs to no trial."""
    names = [] if target is None else [target.namespace, target.name]
    return _first_token([*names, *_names_in(body)])


def subject_of_object(body: Mapping[str, Any]) -> str | None:
    """Whose object this is; None for what belongs to no trial."""
    return _first_token(_names_in(body))


def _names_in(body: Mapping[str, Any] | None) -> list[str | None]:
    about = (body or {}).get("metadata")
    return [about.get("namespace"), about.get("name")] if isinstance(about, dict) else []


def _first_token(names: list[str | None]) -> str | None:
    for name in names:
        if name and (found := TOKEN.search(name)):
            return found[0]
    return None
