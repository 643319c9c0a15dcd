"""The speech request's body. Its shape is checked before the key, so 422 comes before 401."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class VoiceSettings(BaseModel):
    """How the voice speaks."""

    model_config = ConfigDict(extra="ignore")

    stability: Annotated[float, Field(ge=0, le=1)] | None = None
    similarity_boost: Annotated[float, Field(ge=0, le=1)] | None = None
    style: Annotated[float, Field(ge=0, le=1)] | None = None
    use_speaker_boost: bool | None = None
    speed: float | None = None


class DictionaryLocator(BaseModel):
    """Reference to a pronunciation dictionary."""

    pronunciation_dictionary_id: str
    version_id: str | None = None


class SpeechBody(BaseModel):
    """Body of every text-to-speech call; unknown fields are ignored, as the vendor does."""

    model_config = ConfigDict(extra="ignore")

    text: str
    model_id: str = "eleven_multilingual_v2"
    language_code: str | None = None
    voice_settings: VoiceSettings | None = None
    seed: Annotated[int, Field(ge=0, le=4_294_967_295)] | None = None
    previous_text: str | None = None
    next_text: str | None = None
    previous_request_ids: Annotated[list[str], Field(max_length=3)] | None = None
    next_request_ids: Annotated[list[str], Field(max_length=3)] | None = None
    pronunciation_dictionary_locators: Annotated[list[DictionaryLocator], Field(max_length=3)] | None = None
    apply_text_normalization: Literal["auto", "on", "off"] = "auto"
    apply_language_text_normalization: bool = False


def parse(raw: bytes) -> SpeechBody | list[dict[str, Any]]:
    """The body, or the list of problems for a 422."""
    try:
        return SpeechBody.model_validate_json(raw, strict=False)
    except ValidationError as problem:
        details = problem.errors(include_url=False, include_context=False)
        return [
            {"type": d["type"], "loc": ["body", *d["loc"]], "msg": d["msg"], "input": _echo(d["input"])}
            for d in details
        ]


def _echo(value: object) -> object:
    """The refused value, unless it is the whole body."""
    return value if isinstance(value, str | int | float | bool | list) or value is None else None
