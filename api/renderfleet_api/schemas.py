"""Request bodies. Render requests are the custom resources' own specs, so that both doors know the same rules; on top
come the names that only REST uses. Unlike the resources, requests refuse unknown fields.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from renderfleet_crds.avatar_render import AvatarRenderSpec
from renderfleet_crds.parts import ObjectName
from renderfleet_crds.render import RenderSpec, RetryPolicy
from renderfleet_crds.render_tenant import Member, RenderTenantSpec
from renderfleet_crds.video_render import SCRIPT_WITH_VOICE, AvatarRef, VideoRenderSpec, VoiceRef
from renderfleet_crds.voice_job import VoiceJobSpec, VoiceSettings

STRICT = ConfigDict(
    alias_generator=to_camel,
    # One spelling only: an accepted snake_case name would be an undocumented second one.
    validate_by_name=False,
    validate_by_alias=True,
    use_attribute_docstrings=True,
    extra="forbid",
    frozen=True,
    json_schema_extra=None,
)

JobId = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
"""A job's id: the UID of its custom resource."""
LabelName = Annotated[
    str,
    Field(max_length=253, pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"),
]
LabelValue = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
Labels = Annotated[dict[LabelName, LabelValue], Field(max_length=32)]
RenderName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]

TenantName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]

Words = Annotated[str, Field(max_length=256, pattern=r"^[^\x00]*$")]
"""Text for people. PostgreSQL cannot hold U+0000."""


Budget = Annotated[int, Field(ge=0, le=10**15)]
"""Millionths of a currency unit: up to a thousand million units. Kubernetes cannot hold more than 64 bits."""


def _written_out(value: Any) -> Any:
    if not isinstance(value, str | datetime) or (isinstance(value, str) and "T" not in value.upper()):
        raise ValueError("write it as 2026-11-24T12:00:00Z")
    return value


Instant = Annotated[AwareDatetime, BeforeValidator(_written_out)]
"""A point in time in RFC 3339. Pydantic alone would also take numbers, and guess their unit."""

ONE_PICTURE = "give exactly one of jobId and imageUrl"
ONE_AVATAR = "give at most one of avatarId, avatarJobId, avatarKey and avatarRef"
ONE_AUDIO = "give exactly one of voiceJobId, audioKey, audioUrl, voiceRef and script"


def _exactly(schema: Any) -> None:
    """Let a core schema take JSON's numbers and booleans for what they are: `"5"` and `true` are no integers."""
    if isinstance(schema, dict):
        if schema.get("type") in {"int", "float", "bool"}:
            schema["strict"] = True
        for inner in schema.values():
            _exactly(inner)
    elif isinstance(schema, list):
        for inner in schema:
            _exactly(inner)


class Exact(BaseModel):
    """Refuses what the API server would refuse, too: pydantic alone would read `"5"` and `true` as integers."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        _exactly(schema)
        return schema


class Body(Exact):
    """The base of request bodies that are no specs."""

    model_config = STRICT


class StrictRetryPolicy(Exact, RetryPolicy):
    """How often and how patiently to try again what may yet work."""

    model_config = STRICT


class StrictVoiceSettings(Exact, VoiceSettings):
    """How the voice speaks; unset values are the vendor's defaults."""

    model_config = STRICT


class StrictAvatarRef(Exact, AvatarRef):
    """A picture of an AvatarRender by its name; it need not be finished yet."""

    model_config = STRICT


class StrictVoiceRef(Exact, VoiceRef):
    """A VoiceJob by its name; it need not be finished yet."""

    model_config = STRICT


class _Named(Exact, RenderSpec):
    """What REST adds to every spec."""

    model_config = STRICT

    name: RenderName | None = None
    """Name of the object to be made. Unset: one is made up."""
    labels: Labels = {}
    """To find it by, here and with kubectl."""
    retry_policy: StrictRetryPolicy = StrictRetryPolicy()
    cancel: Annotated[bool, Field(json_schema_extra={"const": False})] = False
    """For a job that exists: POST /jobs/{id}/cancel."""
    redrive: Annotated[int, Field(json_schema_extra={"const": 0})] = 0
    """For a job that exists: POST /jobs/{id}/retry."""

    @model_validator(mode="after")
    def _only_a_start(self) -> Self:
        if self.cancel:
            raise ValueError("cancel is for a job that exists: POST /jobs/{id}/cancel")
        if self.redrive:
            raise ValueError("redrive is for a job that exists: POST /jobs/{id}/retry")
        foreign = [
            name for name in self.labels if name.partition("/")[0].endswith(("renderfleet.dev", "kubernetes.io"))
        ]
        if foreign and "/" in foreign[0]:
            raise ValueError(f"labels: {foreign[0]} is not yours to set")
        return self

    def spec(self) -> dict[str, Any]:
        """The spec as the caller gave it; what was left out is left to the cluster's defaults."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True, exclude=REST_ONLY)


REST_ONLY = {"kind", "name", "labels", "avatar_id", "avatar_job_id", "avatar_index", "voice_job_id"}


class AvatarPreviewRequest(_Named, AvatarRenderSpec):
    """Pictures of a face, from a description."""

    model_config = STRICT


class VoiceRequest(_Named, VoiceJobSpec):
    """Speech, from a text or from a prompt of which a script is made first."""

    model_config = STRICT

    settings: StrictVoiceSettings | None = None


class VideoRequest(_Named, VideoRenderSpec):
    """A talking video, from a face and a voice. Without a face, the preferred avatar is used."""

    model_config = STRICT

    avatar_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """A saved avatar."""
    avatar_job_id: JobId | None = None
    """An avatar preview; it need not be finished yet."""
    avatar_index: Annotated[int, Field(ge=1, le=10)] = 1
    """Which of its pictures, counted from 1."""
    avatar_ref: StrictAvatarRef | None = None
    voice_job_id: JobId | None = None
    """A voice; it need not be finished yet."""
    voice_ref: StrictVoiceRef | None = None

    @model_validator(mode="after")
    def _one_of_each(self) -> "VideoRequest":
        if [self.avatar_id, self.avatar_job_id, self.avatar_key, self.avatar_ref].count(None) < 3:
            raise ValueError(ONE_AVATAR)
        if [self.voice_job_id, self.audio_key, self.audio_url, self.voice_ref, self.script].count(None) != 4:
            raise ValueError(ONE_AUDIO)
        if (self.script is None) != (self.voice_id is None):
            raise ValueError(SCRIPT_WITH_VOICE)
        return self


class AvatarSave(Body):
    """Keep a picture as an avatar: one of a preview, or one from elsewhere."""

    job_id: JobId | None = None
    """The avatar preview."""
    index: Annotated[int, Field(ge=1, le=10)] = 1
    """Which of its pictures, counted from 1."""
    image_url: Annotated[str, Field(max_length=2048, pattern=r"^https?://[^\s@]+$")] | None = None
    """A png or jpeg picture on a host that the administrator allows."""
    name: Annotated[Words, Field(min_length=1, max_length=128)] | None = None
    preferred: bool = False
    """Use it when a video names no avatar; the one preferred before is so no longer."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.job_id is None) == (self.image_url is None):
            raise ValueError(ONE_PICTURE)
        return self


class AvatarChange(Body):
    """What to change; what is left out stays."""

    name: Annotated[Words, Field(min_length=1, max_length=128)] | None = None
    preferred: bool | None = None


class UploadRequest(Body):
    """A file that will be uploaded, to be used as avatarKey, baseImageKey or audioKey."""

    content_type: Annotated[str, Field(pattern=r"^(image/png|image/jpeg|audio/mpeg|audio/wav)$")]
    """image/png, image/jpeg, audio/mpeg or audio/wav."""
    bytes: Annotated[int, Field(ge=1)] | None = None
    """Its size, when known: the form then allows no more."""


class StrictMember(Exact, Member):
    """Somebody of the cluster who may manage this tenant's renders (an RBAC subject)."""

    model_config = STRICT


class TenantRequest(Exact, RenderTenantSpec):
    """A new tenant: its namespace and limits."""

    model_config = STRICT

    name: Annotated[str, Field(min_length=1, max_length=48, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    monthly_budget_micros: Budget | None = None
    """Millionths of a currency unit per calendar month (UTC). Unset: no limit."""
    members: Annotated[list[StrictMember], Field(max_length=64)] = []  # type: ignore[assignment]

    def spec(self) -> dict[str, Any]:
        """The RenderTenant's spec."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True, exclude={"name"})


class TenantChange(Body):
    """New limits; what is left out stays."""

    display_name: Annotated[str, Field(max_length=128)] | None = None
    concurrency: Annotated[int, Field(ge=0, le=10_000)] | None = None
    max_objects_per_kind: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    weight: Annotated[int, Field(ge=1, le=1000)] | None = None
    monthly_budget_micros: Budget | None = None


class KeyRequest(Body):
    """A new API key."""

    name: Annotated[Words, Field(min_length=1, max_length=128)] = "key"
    scopes: Annotated[list[Annotated[str, Field(pattern="^(read|write)$")]], Field(min_length=1, max_length=2)] = [
        "read",
        "write",
    ]
    expires_in_days: Annotated[int, Field(ge=1, le=3650)] | None = None


class KeyRotation(Body):
    """How the old key goes."""

    overlap_seconds: Annotated[int, Field(ge=0, le=30 * 86_400)] = 3600
    """For so long the old key still works, so that those who use it can change over without a gap."""


class Redrive(Body):
    """Which dead-lettered renders to try again."""

    tenant: TenantName | None = None
    kind: Annotated[str, Field(pattern="^(AvatarRender|VoiceJob|VideoRender)$")] | None = None
    provider: ObjectName | None = None
    ids: Annotated[list[JobId], Field(min_length=1, max_length=500)] | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100


EventType = Literal[
    "render.succeeded",
    "render.failed",
    "render.dead_lettered",
    "render.cancelled",
    "render.aborted",
    "render.held",
]


class EndpointRequest(Body):
    """Where to send events."""

    url: Annotated[str, Field(min_length=8, max_length=2048)]
    """A public https address on port 443."""
    description: Words | None = None
    types: Annotated[list[EventType], Field(max_length=16)] = []
    """Which events; empty means all."""


class EndpointChange(Body):
    """What to change; what is left out stays."""

    url: Annotated[str, Field(min_length=8, max_length=2048)] | None = None
    description: Words | None = None
    types: Annotated[list[EventType], Field(max_length=16)] | None = None
    enabled: bool | None = None
    """True sends again to an endpoint that was disabled; what waited is sent then."""


class Replay(Body):
    """Which time to send again."""

    since: Instant
    until: Instant | None = None
    """Unset: until now."""
