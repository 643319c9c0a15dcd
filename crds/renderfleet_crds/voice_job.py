"""VoiceJob: a text, or a prompt that first becomes a script, becomes speech."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from .parts import ObjectName, Part, immutable, rule
from .render import RenderSpec, RenderStatus

TEXT_MAX_CHARACTERS = 10_000


class VoiceSettings(Part):
    """How the voice speaks; unset values are the vendor's defaults."""

    stability: Annotated[float, Field(ge=0, le=1)] | None = None
    """Low speaks with more feeling, high more evenly from one sentence to the next."""
    similarity_boost: Annotated[float, Field(ge=0, le=1)] | None = None
    """How closely it keeps to the recordings that the voice was made from."""
    style: Annotated[float, Field(ge=0, le=1)] | None = None
    """How strongly the manner of the original speaker is brought out; anything above 0 takes the vendor longer."""
    speed: Annotated[float, Field(ge=0.7, le=1.2)] | None = None
    """1 is the voice's own pace."""


class VoiceJobSpec(RenderSpec):
    """What shall be said, and by whom."""

    model_config = ConfigDict(
        json_schema_extra={
            **immutable(
                "provider",
                "scriptProvider",
                "text",
                "prompt",
                "voiceId",
                "modelId",
                "outputFormat",
                "languageCode",
                "settings",
                "seed",
            ),
            "x-kubernetes-validations": [
                rule(
                    "has(self.text) != has(self.prompt)",
                    "give exactly one of text and prompt",
                ),
            ],
        }
    )

    provider: ObjectName = "elevenlabs"
    """The RenderProvider that speaks."""
    script_provider: ObjectName = "openai"
    """The RenderProvider that writes the script when a prompt is given."""
    text: Annotated[str, Field(min_length=1, max_length=TEXT_MAX_CHARACTERS)] | None = None
    """Spoken as it stands, 1 to 10000 characters."""
    prompt: Annotated[str, Field(min_length=3, max_length=4000)] | None = None
    """What the script shall be about, 3 to 4000 characters."""
    voice_id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
    """The vendor's id of the voice."""
    model_id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")] = (
        "eleven_multilingual_v2"
    )
    """The vendor's model; it bounds the length of one call, longer texts are spoken in parts and joined."""
    output_format: Literal["mp3_22050_32", "mp3_44100_64", "mp3_44100_96", "mp3_44100_128", "mp3_44100_192"] = (
        "mp3_44100_128"
    )
    """Codec, sample rate in Hz and bit rate in kbit/s."""
    language_code: Annotated[str, Field(pattern=r"^[a-z]{2}$")] | None = None
    """ISO 639-1; not understood by eleven_multilingual_v2."""
    settings: VoiceSettings | None = None
    seed: Annotated[int, Field(ge=0, le=4_294_967_295)] | None = None
    """Makes the vendor try to speak the same text the same way again."""

    @model_validator(mode="after")
    def _one_source(self) -> "VoiceJobSpec":
        if (self.text is None) == (self.prompt is None):
            raise ValueError("give exactly one of text and prompt")
        return self


class VoiceJobStatus(RenderStatus):
    """How far the voice is."""

    script: Annotated[str, Field(max_length=TEXT_MAX_CHARACTERS)] | None = None
    """What is spoken, once it was written from the prompt: later attempts keep to it, since it is paid."""
