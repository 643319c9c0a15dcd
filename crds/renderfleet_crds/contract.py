"""What a runner is given, hands back and exits with.

The operator writes a Task into the runner's environment; the runner answers with a StageResult, twice: into the run
record in object storage (the witness) and into its termination message (the fast path). It holds no credentials but
the presigned URLs in the Task and the vendor key mounted for its stage.
"""

import base64
import gzip
import zlib
from enum import IntEnum, StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from .parts import MicroUnits, Part, StorageKey

TASK_ENV: Final = "RENDERFLEET_TASK"
"""Environment variable that holds the packed Task (the kernel allows 128 KiB for one)."""
VENDOR_KEY_DIR: Final = "/var/run/renderfleet/vendor"
"""Where each vendor key is mounted: one file per RenderProvider, named like it."""
TERMINATION_MESSAGE_PATH: Final = "/dev/termination-log"
TERMINATION_MESSAGE_LIMIT_BYTES: Final = 4096
"""Kubernetes cuts a container's termination message there."""


def pack_task(task_json: str | bytes) -> str:
    """A Task's JSON as its Job carries it: gzip in base64, a third of its size, as its signed addresses are much alike.

    API server, controllers and kubelet read and write all of a Job and its pod some ten times. `base64 -d | gunzip` shows it.
    """
    text = task_json.encode() if isinstance(task_json, str) else task_json
    return base64.b64encode(gzip.compress(text, compresslevel=6, mtime=0)).decode()


def unpack_task(packed: str) -> bytes:
    """The Task's JSON. Raises ValueError for what `pack_task` did not make."""
    try:
        return gzip.decompress(base64.b64decode(packed, validate=True))
    except (ValueError, OSError, EOFError, zlib.error) as bad:
        raise ValueError(f"no packed task: {bad}") from bad


class Stage(StrEnum):
    """The steps a render is made of. POLL has no runner: the operator asks the vendor itself."""

    GENERATE = "generate"
    SYNTHESIZE = "synthesize"
    START = "start"
    POLL = "poll"
    FINALIZE = "finalize"


class Pool(StrEnum):
    """Groups of nodes that runners are sent to."""

    IMAGE_GEN = "image-gen"
    VIDEO_GEN = "video-gen"
    POSTPROCESS = "postprocess"


class ExitCode(IntEnum):
    """What a runner exits with; the Job's podFailurePolicy reads the same numbers."""

    DONE = 0
    REFUSED = 10
    """Never retry: the input cannot work."""
    BROKE = 20
    """Something failed that may work another time; the result's category says what."""
    CLAIM_LOST = 30
    """Another process has the claim of this attempt and its outcome is not known to this one."""


class ErrorCategory(StrEnum):
    """Who must act on a failure; decides what the operator does next."""

    USER = "user"
    """The input can never work."""
    MODERATION = "moderation"
    """The vendor refuses this content."""
    TRANSIENT = "transient"
    """Try again after a pause."""
    THROTTLED = "throttled"
    """The vendor asks us to slow down; not the render's fault and not an attempt."""
    CREDENTIAL = "credential"
    """Our key or account is refused: the provider is held until a person acts; not an attempt."""
    MONEY = "money"
    """The account is out of credit: as CREDENTIAL."""
    OUTAGE = "outage"
    """The vendor is down; counts for its circuit breaker."""
    UNKNOWN_OUTCOME = "unknown_outcome"
    """The paid call may or may not have happened; never repeated silently."""
    DISRUPTED = "disrupted"
    """The pod was ended from outside before the paid call; not an attempt."""
    INTERNAL = "internal"
    """Our own defect or our own storage; retried, and counted."""


class Charged(StrEnum):
    """Whether an attempt cost money."""

    YES = "true"
    NO = "false"
    UNKNOWN = "unknown"


class Vendor(StrEnum):
    """The vendors we have adapters for."""

    OPENAI = "openai"
    ELEVENLABS = "elevenlabs"
    DID = "did"


class Output(Part):
    """One stored file of a render. Its key, never a signed URL: links are made when they are asked for."""

    name: Annotated[str, Field(max_length=64)]
    """What it is within the render: `image-1`, `thumbnail-1`, `speech`, `video`, `poster`."""
    key: StorageKey
    content_type: Annotated[str, Field(max_length=128)]
    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    width_px: Annotated[int, Field(ge=1)] | None = None
    height_px: Annotated[int, Field(ge=1)] | None = None
    duration_seconds: Annotated[float, Field(ge=0)] | None = None
    loudness_lufs: float | None = None
    provenance: Annotated[str, Field(max_length=256)] | None = None
    """Content credentials (C2PA) of the vendor: `c2pa valid…` and `c2pa invalid…` tell how the signature fits the stored
    file, `c2pa unchecked` that it could not be judged, `c2pa removed` that the file was made from a signed one. Unset:
    the vendor signed nothing."""


class ProviderAccess(Part):
    """How to reach one vendor account."""

    name: str
    vendor: Vendor
    base_url: str
    key_file: str
    """File with the credential, under VENDOR_KEY_DIR."""
    options: dict[str, str] = {}
    """Vendor settings such as `model` or `authScheme`; the adapter says which it knows."""
    call_timeout_seconds: float = 300
    """Total time for one paid call, connection to last byte."""


class RecordUrls(Part):
    """Presigned addresses of one attempt's run record. PUTs are signed with `If-None-Match: *`: only one writer wins."""

    claim_put: str
    claim_get: str
    accepted_put: str
    accepted_get: str
    result_put: str
    result_get: str


class InputFile(Part):
    """A file to work from."""

    name: str
    url: str
    """Readable by this pod, for the time of the attempt."""
    vendor_url: str | None = None
    """The same file as the vendor can reach it; absent when it cannot."""
    content_type: str
    max_bytes: int
    trusted: bool = True
    """False for an address that a user or a vendor gave: only the guarded client may fetch it."""


class OutputSlot(Part):
    """Where one output may be put. A runner may leave slots empty, it may not invent some."""

    name: str
    key: str
    put_url: str
    content_type: str
    max_bytes: int


class AvatarParams(Part):
    """GENERATE: pictures from a prompt, or edited from the input named `base`."""

    stage: Literal[Stage.GENERATE] = Stage.GENERATE
    prompt: str
    count: int
    width_px: int
    height_px: int
    quality: str
    background: str
    format: Literal["png", "jpeg"]
    thumbnail_px: int = 256


class VoiceParams(Part):
    """SYNTHESIZE: speech from text, or from a script that is first written from a prompt."""

    stage: Literal[Stage.SYNTHESIZE] = Stage.SYNTHESIZE
    text: str | None = None
    prompt: str | None = None
    voice_id: str
    model_id: str
    output_format: str
    language_code: str | None = None
    stability: float | None = None
    similarity_boost: float | None = None
    style: float | None = None
    speed: float | None = None
    seed: int | None = None
    max_script_characters: int = 2000


class VideoStartParams(Part):
    """START: hand the inputs `image` and `audio` to the vendor and come back with its job's id."""

    stage: Literal[Stage.START] = Stage.START
    correlation: str
    """Ours, echoed by the vendor: `<render uid>/<run>-<attempt>`; how a lost answer is found again."""
    stitch: bool = True
    result_format: Literal["mp4"] = "mp4"
    callback_url: str | None = None


class VideoFinalizeParams(Part):
    """FINALIZE: fetch the vendor's video (input `video`), check it, store it with a poster frame."""

    stage: Literal[Stage.FINALIZE] = Stage.FINALIZE
    expected_seconds: float | None = None
    """Length of the speech; a video that is not as long is refused as broken."""


StageParams = Annotated[
    AvatarParams | VoiceParams | VideoStartParams | VideoFinalizeParams, Field(discriminator="stage")
]


class Task(Part):
    """All that one stage attempt needs to know."""

    contract: Literal[1] = 1
    kind: str
    namespace: str
    name: str
    uid: str
    run: int
    attempt: int
    trace_id: str | None = None
    deadline_seconds: float
    """Counted from the runner's start; past it the pod is killed anyway, so report before."""
    grace_seconds: float = 25
    """Time from SIGTERM to SIGKILL; a paid answer that is on its way is waited for that long, less a little."""
    provider: ProviderAccess | None = None
    script_provider: ProviderAccess | None = None
    record: RecordUrls
    inputs: list[InputFile] = []
    outputs: list[OutputSlot] = []
    params: StageParams

    @property
    def stage(self) -> Stage:
        """Which step this is."""
        return self.params.stage


class ClaimRecord(Part):
    """`claim.json`: somebody is about to make this attempt's paid call."""

    holder: str
    """Unique per process."""
    claimed_at: str


class AcceptedRecord(Part):
    """`accepted.json`: the vendor has answered, so the call is (or will be) charged."""

    vendor_job_id: str | None = None
    request_id: str | None = None
    accepted_at: str
    script: str | None = None
    """What is to be spoken, when it was written from a prompt: without it a lost speech could not be looked for."""


class StageResult(Part):
    """How a stage attempt ended: `result.json`, and the termination message."""

    contract: Literal[1] = 1
    outcome: Literal["done", "refused", "broke"]
    category: ErrorCategory | None = None
    code: Annotated[str, Field(max_length=128)] | None = None
    """The vendor's code, or ours; stable, for matching."""
    message: Annotated[str, Field(max_length=512)] | None = None
    """For the user: what happened and what to do. Never holds a key, a prompt or a signed URL."""
    retry_after_seconds: float | None = None
    retry_limit: int | None = None
    """How many more attempts this failure is worth; unset: as many as the render's own policy allows."""
    failed_provider: str | None = None
    """The RenderProvider whose vendor failed, when it is not the task's own: the one that was to write a script."""
    charged: Charged = Charged.NO
    vendor_job_id: str | None = None
    vendor_status: str | None = None
    request_id: str | None = None
    outputs: list[Output] = []
    script: str | None = None
    """What was spoken, when it was written from a prompt."""
    cost_micros: MicroUnits | None = None
    usage: dict[str, int] = {}
    """The vendor's own counts, e.g. `outputTokens`, `characters`."""
    learned: dict[str, int] = {}
    """Limits read from the vendor's headers, e.g. `maxConcurrent`."""
    outputs_in_record: bool = False
    """True in a termination message that had to leave outputs and script out to stay under its limit."""

    @model_validator(mode="after")
    def _failure_has_a_category(self) -> "StageResult":
        if self.outcome != "done" and self.category is None:
            raise ValueError("a result that is not done needs a category, or nobody knows who must act")
        return self

    def to_termination_message(self) -> str:
        """JSON of at most 4096 bytes; outputs and script that do not fit are left to the record, which it says."""
        text = self.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True)
        if len(text.encode()) <= TERMINATION_MESSAGE_LIMIT_BYTES:
            return text
        short = self.model_copy(update={"outputs": [], "script": None, "outputs_in_record": True})
        return short.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True)
