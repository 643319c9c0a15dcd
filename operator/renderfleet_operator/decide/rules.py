"""What a kind of render says for itself; all else is the same for the three."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from renderfleet_crds.conditions import Reason
from renderfleet_crds.contract import Stage

from .actions import Action
from .observed import Observed, Wait
from .view import Render


@dataclass(frozen=True, slots=True)
class Ready:
    """Nothing of its own stops it. `fields` go into the status with the fence."""

    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Blocked:
    """It must wait for something that is not ours to give, after doing `first`."""

    wait: Wait
    first: tuple[Action, ...] = ()


@dataclass(frozen=True, slots=True)
class Hopeless:
    """It can never start."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Rules:
    """One kind of render."""

    ready: Callable[[Render, Observed], Ready | Blocked | Hopeless]
    """May the first stage start?"""
    share: Mapping[Stage, tuple[int, int]]
    """From which to which per cent of progress a stage leads."""
    done: Callable[[Render, Mapping[str, Any]], Mapping[str, Any]]
    """Fields that a stage's result adds to the status."""


def outputs_of(result: Mapping[str, Any]) -> list[Any]:
    """The stored files a result tells of."""
    return list(result.get("outputs") or ())
