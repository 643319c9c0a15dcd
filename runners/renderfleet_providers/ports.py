"""What a vendor can be asked. An adapter implements the parts it has; the stages ask for the part they need."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from .errors import VendorError

AnswerSeen = Callable[[str | None], Awaitable[None]]
"""Called with the vendor's request id as soon as a paid call is known to be answered, before anything else is done."""


@dataclass(frozen=True, slots=True)
class Health:
    """How an account is, found out without paying."""

    learned: Mapping[str, int] = field(default_factory=dict)
    credits_remaining: int | None = None
    warning: str | None = None
    """For the administrator: what will break, and when, if nothing is done."""


class Adapter(Protocol):
    """The least an adapter is. It is made with (base_url, api_key, options, timeout_seconds) and keeps no global state."""

    def __init__(self, base_url: str, api_key: str, options: Mapping[str, str], timeout_seconds: float) -> None: ...

    async def warm_up(self) -> None:
        """Load whatever a paid call needs: nothing slow may stand between a claim and its call."""
        ...

    async def probe(self) -> Health:
        """Ask something free that needs the key. Raises VendorError."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


@dataclass(frozen=True, slots=True)
class PictureOrder:
    """Pictures to be made, or made from `base`."""

    prompt: str
    count: int
    width_px: int
    height_px: int
    quality: str
    background: str
    format: Literal["png", "jpeg"]
    base: Path | None = None
    end_user: str | None = None
    """Stable pseudonym of whom it is made for; vendors use it to find abuse."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Encoded pictures as the vendor sent them."""

    files: list[bytes]
    usage: dict[str, int]
    request_id: str | None = None
    learned: dict[str, int] = field(default_factory=dict)


@runtime_checkable
class PictureMaker(Protocol):
    """Makes pictures from words."""

    async def make_pictures(self, order: PictureOrder, answered: AnswerSeen) -> Pictures:
        """Paid. Raises VendorError."""
        ...


@dataclass(frozen=True, slots=True)
class Script:
    """Words to be spoken."""

    text: str
    usage: dict[str, int]
    request_id: str | None = None


@runtime_checkable
class ScriptWriter(Protocol):
    """Writes what shall be said."""

    async def write_script(self, prompt: str, max_characters: int, language_code: str | None) -> Script:
        """Paid. Raises VendorError."""
        ...


@dataclass(frozen=True, slots=True)
class SpeechOrder:
    """Text to be spoken, and how."""

    text: str
    voice_id: str
    model_id: str
    output_format: str
    language_code: str | None = None
    stability: float | None = None
    similarity_boost: float | None = None
    style: float | None = None
    speed: float | None = None
    seed: int | None = None
    patient: bool = False
    """Wait out refusals for a while: something that belongs to this order has been paid already."""
    is_usable: Callable[[bytes, str], Awaitable[bool]] | None = None
    """Given when an earlier attempt may have paid: whether a recording that the vendor still has of a text will do."""


@dataclass(frozen=True, slots=True)
class Speech:
    """Encoded audio in order; more than one part when the text was too long for one call."""

    parts: list[bytes]
    usage: dict[str, int]
    request_id: str | None = None
    learned: dict[str, int] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    """What each part says, when there is more than one."""


@runtime_checkable
class Speaker(Protocol):
    """Speaks text."""

    async def speak(self, order: SpeechOrder, answered: AnswerSeen) -> Speech:
        """Paid. Raises VendorError."""
        ...

    async def find_speech(self, order: SpeechOrder, since: datetime) -> Speech | None:
        """Speech of this very order that the vendor has made since then; None when it knows of none. Free."""
        ...


class JobState(StrEnum):
    """How far a vendor's job is."""

    WORKING = "working"
    """Also any state we do not know: our own deadline ends those."""
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class VendorJobSeen:
    """One look at a vendor's job."""

    job_id: str
    state: JobState
    vendor_status: str
    progress: int | None = None
    """Per cent, when the vendor tells."""
    result_url: str | None = None
    result_seconds: float | None = None
    correlation: str | None = None
    error: VendorError | None = None
    usage: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VideoOrder:
    """A picture that shall speak a recording. Each is a URL the vendor can read, or a file to upload."""

    correlation: str
    image: Path
    image_type: Literal["image/png", "image/jpeg"]
    audio: Path
    audio_type: str
    image_url: str | None = None
    audio_url: str | None = None
    stitch: bool = True
    callback_url: str | None = None


@dataclass(frozen=True, slots=True)
class VideoSources:
    """Where the vendor will read picture and recording from."""

    image_url: str
    audio_url: str
    before: "Balance | None" = None
    """The account just before the job; None when the vendor would not tell."""


@dataclass(frozen=True, slots=True)
class Balance:
    """An account between two of its jobs."""

    credits_remaining: int
    newest_job: str | None
    """The last job that is paid for in it; None when there has been none yet."""


@runtime_checkable
class TalkingVideoMaker(Protocol):
    """Makes a picture talk, as a job that takes a while."""

    async def place_sources(self, order: VideoOrder) -> VideoSources:
        """Make picture and recording readable for the vendor, by upload where need be. Free. Raises VendorError."""
        ...

    async def start(self, order: VideoOrder, sources: VideoSources) -> VendorJobSeen:
        """Paid. Raises VendorError."""
        ...

    async def credits_taken(self, job_id: str, before: Balance) -> int | None:
        """What the account lost by this job, as the vendor counts; None when that cannot be told. Free, never raises."""
        ...

    async def look(self, job_id: str) -> VendorJobSeen:
        """How the job is. Free. Raises VendorError when it cannot be told; a failed job is an answer, not an error."""
        ...

    async def look_up(self, correlation: str) -> VendorJobSeen | None:
        """The job with this correlation among the recent ones. Free. Raises VendorError."""
        ...

    async def discard(self, job_id: str) -> bool:
        """Ask the vendor to forget the job; False when it will not, which is usual while it works. Free."""
        ...
