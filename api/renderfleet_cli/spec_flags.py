"""Flags of `submit`, made from the models of the custom resources: a new spec field is a new flag, help text included.

a field of the spec              its flag
cancel, redrive                  none: they are for what exists already
retryPolicy, settings            one for each field within: --max-attempts, --stability
avatarRef, voiceRef              --avatar-ref NAME[:INDEX]: a reference fits in one word
anything else                    its own name: maxAttempts -> --max-attempts

A text may be `@file`, or `@-` for stdin. What is not given is left to the cluster's defaults.
"""

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from renderfleet_crds.kinds import ResourceKind
from renderfleet_crds.parts import Part

from .errors import Misused

_NOT_AT_THE_START = frozenset({"cancel", "redrive"})
_REFERENCE_FIELDS = {"name", "index"}
_FROM_FILE = frozenset({"prompt", "text", "script"})
"""Texts that may be long enough to live in a file."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag and the place in the spec that it fills."""

    parameter: str
    path: tuple[str, ...]
    kind: Any
    help: str
    reference: Literal["", "NAME", "NAME[:INDEX]"] = ""
    """How another render is named, where the value is one."""

    @property
    def option(self) -> str:
        """As it is typed."""
        return "--" + self.parameter.replace("_", "-")

    def as_parameter(self) -> inspect.Parameter:
        """For a command's signature; None unless it is given."""
        names = [self.option]
        if self.kind is bool:
            names = [f"{self.option}/--no-{self.parameter.replace('_', '-')}"]
        option = typer.Option(*names, help=self.help, metavar=self.reference or None)
        return inspect.Parameter(
            self.parameter,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[self.kind | None, option],
        )


def flags_of(kind: ResourceKind) -> list[Flag]:
    """The kind's own fields first, then what all renders have."""
    common = set().union(*(base.model_fields for base in kind.spec.__mro__[1:] if issubclass(base, Part)))
    fields = sorted(kind.spec.model_fields.items(), key=lambda one: one[0] in common)
    return [flag for name, field in fields if name not in _NOT_AT_THE_START for flag in _flags(name, field)]


def _flags(name: str, field: FieldInfo) -> Iterator[Flag]:
    kind = _without_none(field.annotation)
    path = (field.alias or name,)
    if isinstance(kind, type) and issubclass(kind, Part):
        if set(kind.model_fields) <= _REFERENCE_FIELDS:
            text = inspect.cleandoc(kind.__doc__ or "")
            yield Flag(name, path, str, text, "NAME[:INDEX]" if "index" in kind.model_fields else "NAME")
            return
        for inner_name, inner in kind.model_fields.items():
            yield Flag(
                inner_name,
                (*path, inner.alias or inner_name),
                _without_none(inner.annotation),
                _help(inner_name, inner),
            )
        return
    yield Flag(name, path, kind, _help(name, field))


def _without_none(annotation: Any) -> Any:
    """The type that a value has when it is there, without pydantic's annotations."""
    if get_origin(annotation) in {Union, UnionType}:
        kinds = [one for one in get_args(annotation) if one is not NoneType]
        assert len(kinds) == 1, "the CRDs know no unions"
        return _without_none(kinds[0])
    if get_origin(annotation) is Annotated:
        return _without_none(get_args(annotation)[0])
    return annotation


def _help(name: str, field: FieldInfo) -> str:
    text = " ".join((field.description or "").split())
    if bounds := _bounds(field):
        text += f" {bounds}."
    if name in _FROM_FILE:
        text += " @FILE reads it from a file, @- from stdin."
    if field.default is not None and not field.is_required() and not isinstance(field.default, Part):
        text += f" [default: {_plain(field.default)}]"
    return text.strip()


def _bounds(field: FieldInfo) -> str:
    """Between which numbers a value must lie, the limits included; empty for anything but a number."""
    said = [*field.metadata]
    for part in get_args(field.annotation):
        # Of a field that may be absent, the limits stand with the part of its type that is the number.
        said += [limit for more in get_args(part)[1:] if isinstance(more, FieldInfo) for limit in more.metadata]
    lowest = next((one.ge for one in said if hasattr(one, "ge")), None)
    highest = next((one.le for one in said if hasattr(one, "le")), None)
    if highest is None:
        return "" if lowest is None else f"At least {lowest}"
    return f"At most {highest}" if lowest is None else f"{lowest} to {highest}"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def spec_from(flags: list[Flag], given: Mapping[str, Any]) -> dict[str, Any]:
    """The spec that the given flags say. Raises Misused for a reference or a file that cannot be read."""
    spec: dict[str, Any] = {}
    for flag in flags:
        value = given.get(flag.parameter)
        if value is None:
            continue
        if flag.reference:
            value = _reference(flag, value)
        elif flag.parameter in _FROM_FILE and isinstance(value, str) and value.startswith("@"):
            value = _read(flag, value[1:])
        *outer, last = flag.path
        place = spec
        for name in outer:
            place = place.setdefault(name, {})
        place[last] = value
    return spec


def _reference(flag: Flag, text: str) -> dict[str, Any]:
    found = re.fullmatch(r"([^:/]+)(?::(\d+))?", text)
    if found is None or (found[2] and flag.reference == "NAME"):
        raise Misused(f"{flag.option} {text}: not the name of a render", f"write it as {flag.option} {flag.reference}")
    return {"name": found[1], **({"index": int(found[2])} if found[2] else {})}


def _read(flag: Flag, file: str) -> str:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as unreadable:
        raise Misused(f"{flag.option} @{file}: {unreadable}", "name a file with text in UTF-8") from None
    return text.strip()
