"""VideoRender: a face and a voice become a talking video."""

from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from .parts import ObjectName, Part, StorageKey, immutable, rule
from .render import RenderSpec, RenderStatus

SCRIPT_MAX_CHARACTERS = 10_000

ONE_AVATAR = "give exactly one of avatarKey and avatarRef"
ONE_AUDIO = "give exactly one of audioKey, audioUrl, voiceRef and script"
SCRIPT_WITH_VOICE = "script and voiceId go together: the script is what is said, voiceId who says it"


class AvatarRef(Part):
    """A picture of an AvatarRender in the same namespace; it need not be finished yet."""

    name: ObjectName
    index: Annotated[int, Field(ge=1, le=10)] = 1
    """Which of its previews, counted from 1."""


class VoiceRef(Part):
    """A VoiceJob in the same namespace; it need not be finished yet."""

    name: ObjectName


class VideoRenderSpec(RenderSpec):
    """Whose face, and what is heard."""

    model_config = ConfigDict(
        json_schema_extra={
            **immutable(
                "provider",
                "avatarKey",
                "avatarRef",
                "audioKey",
                "audioUrl",
                "voiceRef",
                "script",
                "voiceId",
                "voiceProvider",
                "stitch",
            ),
            "x-kubernetes-validations": [
                rule("has(self.avatarKey) != has(self.avatarRef)", ONE_AVATAR),
                rule(
                    "[has(self.audioKey), has(self.audioUrl), has(self.voiceRef), has(self.script)].filter(x, x).size() == 1",
                    ONE_AUDIO,
                ),
                rule("has(self.script) == has(self.voiceId)", SCRIPT_WITH_VOICE),
            ],
        }
    )

    provider: ObjectName = "did"
    """The RenderProvider that makes the face talk."""
    avatar_key: StorageKey | None = None
    """A picture of the tenant in the media bucket (png or jpeg)."""
    avatar_ref: AvatarRef | None = None
    audio_key: StorageKey | None = None
    """A recording of the tenant in the media bucket (mp3 or wav)."""
    audio_url: Annotated[str, Field(max_length=2048, pattern=r"^https://[^\s@]+$")] | None = None
    """A public https address of a recording."""
    voice_ref: VoiceRef | None = None
    script: Annotated[str, Field(min_length=1, max_length=SCRIPT_MAX_CHARACTERS)] | None = None
    """Text to be spoken by voiceId; the operator makes an owned VoiceJob of it."""
    voice_provider: ObjectName = "elevenlabs"
    """The RenderProvider that speaks the script."""
    voice_id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")] | None = None
    """The vendor's id of the voice that speaks the script."""
    stitch: bool = True
    """Put the talking face back into the whole picture; false gives a 512 x 512 crop."""

    @model_validator(mode="after")
    def _one_of_each(self) -> "VideoRenderSpec":
        if (self.avatar_key is None) == (self.avatar_ref is None):
            raise ValueError(ONE_AVATAR)
        if [self.audio_key, self.audio_url, self.voice_ref, self.script].count(None) != 3:
            raise ValueError(ONE_AUDIO)
        if (self.script is None) != (self.voice_id is None):
            raise ValueError(SCRIPT_WITH_VOICE)
        return self


class VideoRenderStatus(RenderStatus):
    """How far the video is."""

    voice_job: Annotated[str, Field(max_length=253)] | None = None
    """Name of the owned VoiceJob, when a script was given."""
    avatar_key: StorageKey | None = None
    """The picture that was used."""
    audio_key: StorageKey | None = None
    """The recording that was used."""
    audio_seconds: Annotated[float, Field(ge=0)] | None = None
