"""The table of kinds: all that has to be said per kind apart from its fields."""

from dataclasses import dataclass, field
from typing import Final, Literal

from .avatar_render import AvatarRenderSpec, AvatarRenderStatus
from .contract import Stage
from .parts import Part
from .render_provider import RenderProviderSpec, RenderProviderStatus
from .render_tenant import RenderTenantSpec, RenderTenantStatus
from .video_render import VideoRenderSpec, VideoRenderStatus
from .voice_job import VoiceJobSpec, VoiceJobStatus


@dataclass(frozen=True)
class Column:
    """One printer column of `kubectl get`; priority 1 shows with `-o wide` only."""

    name: str
    path: str
    type: Literal["string", "integer", "date"] = "string"
    priority: int = 0


@dataclass(frozen=True)
class ResourceKind:
    """A kind as the API server and the clients know it."""

    kind: str
    plural: str
    singular: str
    short: str
    scope: Literal["Namespaced", "Cluster"]
    spec: type[Part]
    status: type[Part]
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = field(default=())
    """Of renders: the stages in their order."""


_RENDER_COLUMNS = (
    Column("Phase", ".status.phase"),
    Column("Reason", ".status.reason"),
    Column("Stage", ".status.stage"),
    Column("Progress", ".status.progress", "integer"),
    Column("Attempt", ".status.attempt", "integer"),
    Column("Provider", ".spec.provider", priority=1),
    Column("Position", ".status.queue.position", "integer", priority=1),
    Column("Cost", ".status.cost.actualMicros", "integer", priority=1),
    Column("Message", ".status.message", priority=1),
    Column("Age", ".metadata.creationTimestamp", "date"),
)
_RENDER_SELECTABLE = (".status.phase", ".spec.provider")

AVATAR_RENDER: Final = ResourceKind(
    "AvatarRender",
    "avatarrenders",
    "avatarrender",
    "av",
    "Namespaced",
    AvatarRenderSpec,
    AvatarRenderStatus,
    _RENDER_COLUMNS,
    _RENDER_SELECTABLE,
    (Stage.GENERATE,),
)
VOICE_JOB: Final = ResourceKind(
    "VoiceJob",
    "voicejobs",
    "voicejob",
    "vj",
    "Namespaced",
    VoiceJobSpec,
    VoiceJobStatus,
    _RENDER_COLUMNS,
    _RENDER_SELECTABLE,
    (Stage.SYNTHESIZE,),
)
VIDEO_RENDER: Final = ResourceKind(
    "VideoRender",
    "videorenders",
    "videorender",
    "vr",
    "Namespaced",
    VideoRenderSpec,
    VideoRenderStatus,
    _RENDER_COLUMNS,
    _RENDER_SELECTABLE,
    (Stage.START, Stage.POLL, Stage.FINALIZE),
)
RENDER_TENANT: Final = ResourceKind(
    "RenderTenant",
    "rendertenants",
    "rendertenant",
    "rt",
    "Cluster",
    RenderTenantSpec,
    RenderTenantStatus,
    (
        Column("Phase", ".status.phase"),
        Column("Namespace", ".status.namespace"),
        Column("Concurrency", ".status.appliedConcurrency", "integer"),
        Column("Weight", ".spec.weight", "integer"),
        Column("Spent", ".status.spentMicros", "integer", 1),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
)
RENDER_PROVIDER: Final = ResourceKind(
    "RenderProvider",
    "renderproviders",
    "renderprovider",
    "rp",
    "Cluster",
    RenderProviderSpec,
    RenderProviderStatus,
    (
        Column("Vendor", ".spec.vendor"),
        Column("Circuit", ".status.circuit"),
        Column("Held", ".status.heldReason"),
        Column("InFlight", ".status.inFlight", "integer"),
        Column("Waiting", ".status.waiting", "integer"),
        Column("Tokens", ".status.tokens", "integer"),
        Column("Credits", ".status.creditsRemaining", "integer", priority=1),
        Column("Warning", ".status.warning", priority=1),
        Column("LastError", ".status.lastError", priority=1),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
)

RENDERS: Final = (AVATAR_RENDER, VOICE_JOB, VIDEO_RENDER)
ALL: Final = (*RENDERS, RENDER_TENANT, RENDER_PROVIDER)
BY_KIND: Final = {one.kind: one for one in ALL}
