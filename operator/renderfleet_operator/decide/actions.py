"""What can be decided. Each action is one request at most, and doing it twice is harmless."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Literal

from renderfleet_crds.contract import Stage


@dataclass(frozen=True, slots=True)
class Note:
    """A Kubernetes Event about the render; best effort, nothing depends on it."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class WriteStatus:
    """Replace the status by this one."""

    status: dict[str, Any]
    note: Note | None = None


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Write the fence, then create the Job that it speaks of."""

    status: dict[str, Any]
    stage: Stage
    number: int


@dataclass(frozen=True, slots=True)
class CreateJob:
    """The fence stands, its Job does not: create it."""

    stage: Stage
    number: int


@dataclass(frozen=True, slots=True)
class StopJob:
    """Delete the open attempt's Job and wait until its pod is gone."""

    why: str


@dataclass(frozen=True, slots=True)
class AskAdmission:
    """Stand in the queue of the render's provider."""

    priority: int
    since: float
    cost_micros: int | None
    """What the start may cost. None: nothing more than what its render has set aside already."""
    providers: tuple[str, ...]
    """Empty: only a place in the tenant's quota is needed."""
    not_before: float | None = None
    """It backs off until then (seconds since 1970): it is told a place, but has none."""


@dataclass(frozen=True, slots=True)
class LeaveAdmission:
    """Stop standing in the queue."""


@dataclass(frozen=True, slots=True)
class CreateVoiceJob:
    """Make the VoiceJob that speaks this VideoRender's script."""

    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PatchVoiceJob:
    """Tell the owned VoiceJob what its video was told."""

    name: str
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WatchVendorJob:
    """Look at the vendor's job now and then until it ends."""

    job_id: str


Answer = Literal["gone", "goes on", "untold"]
"""What became of telling a vendor that nobody waits for its job any more."""


@dataclass(frozen=True, slots=True)
class DiscardVendorJob:
    """Tell the vendor that nobody waits for its job any more; its answer is seen at the next look."""

    job_id: str


class News(Enum):
    """What an attempt tells about its provider."""

    ANSWERED = auto()
    """The vendor works; whether it liked the input does not matter."""
    BROKEN = auto()
    THROTTLED = auto()
    HELD = auto()


@dataclass(frozen=True, slots=True)
class TellProvider:
    """News for the provider's state; told once per attempt, however often it is decided."""

    provider: str
    token: str
    """Which attempt tells it."""
    news: News
    message: str = ""
    retry_after_seconds: float | None = None
    learned: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class ChangeFinalizer:
    """Add our finalizer, or take it away once the archive has the render."""

    to: Literal["present", "absent"]
    overdue: bool = False
    """Taken away although the archive has not answered for too long."""


@dataclass(frozen=True, slots=True)
class DeleteRender:
    """Its time to live is over."""


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Decide anew after this long, whatever happens."""

    after_seconds: float


Action = (
    WriteStatus
    | StartAttempt
    | CreateJob
    | StopJob
    | AskAdmission
    | LeaveAdmission
    | CreateVoiceJob
    | PatchVoiceJob
    | WatchVendorJob
    | DiscardVendorJob
    | TellProvider
    | ChangeFinalizer
    | DeleteRender
    | LookAgain
)
