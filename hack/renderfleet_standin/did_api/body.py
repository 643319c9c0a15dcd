"""The body of POST /talks, checked field by field as the reference gives them."""

import json
import re
from dataclasses import dataclass
from typing import Any

from renderfleet_standin.did_api.errors import bad_field, refuse

SOURCE_URL = re.compile(r"(https|s3):.*\.(jpg|jpeg|png)", re.DOTALL)
"""Not anchored in the reference either: a signed URL passes with whatever stands behind the name."""
SOURCE_URL_RELAXED = re.compile(r"(https?|s3):.*\.(jpg|jpeg|png)", re.DOTALL)
_AUDIO_TAIL = r"://\S+\.(m4a|flac|mp3|mp4|wav|M4A|FLAC|MP3|MP4|WAV)([?#][\w./=&#%-]+)?$"
AUDIO_URL = re.compile(r"^(https|s3)" + _AUDIO_TAIL, re.ASCII)
"""Anchored, and without `~` in the query: nearly every CloudFront signature is refused."""
AUDIO_URL_RELAXED = re.compile(r"^(https?|s3)" + _AUDIO_TAIL, re.ASCII)
WEBHOOK = re.compile(r"^https://\S+$")
WEBHOOK_RELAXED = re.compile(r"^https?://\S+$")

PROVIDERS = ("microsoft", "elevenlabs", "amazon", "google", "azure-openai")
LONGEST_PAD_SECONDS = 60
LONGEST_TEXT = 40_000
LONGEST_TEXT_WITHOUT_TAGS = 10_000
DEMO_FACE = "https://d-id-public-bucket.s3.us-west-2.amazonaws.com/alice.jpg"
"""What the vendor takes when source_url is lost: a wrong person, not an error."""


@dataclass(frozen=True)
class TalkOrder:
    """A request for a talk that passes the checks of form."""

    source_url: str
    audio_url: str | None
    text: str | None
    voice_id: str | None
    stitch: bool
    result_format: str
    pad_seconds: float
    fluent: bool
    name: str | None
    user_data: str | None
    webhook: str | None
    config: dict[str, Any]


def parse_json(raw: bytes) -> dict[str, Any]:
    """The JSON object in a request body."""
    try:
        body = json.loads(raw)
    except ValueError:
        raise refuse(400, "BadRequestError", "invalid JSON body") from None
    if not isinstance(body, dict):
        raise refuse(400, "BadRequestError", "the body must be a JSON object")
    return body


def _text(body: dict[str, Any], name: str, path: str) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise bad_field(path, "must be a string")
    return value


def talk_order(body: dict[str, Any], *, strict: bool) -> TalkOrder:
    """The order in a body. Raises Answer with the vendor's 400."""
    source_url = _text(body, "source_url", "source_url")
    if source_url is None:
        source_url = DEMO_FACE
    elif not (SOURCE_URL if strict else SOURCE_URL_RELAXED).search(source_url):
        raise bad_field("source_url", "must be an https or s3 URL of a jpg, jpeg or png")
    script = body.get("script")
    if not isinstance(script, dict):
        raise bad_field("script", "is required")
    text, voice_id, audio_url = None, None, None
    match script.get("type"):
        case "text":
            text, voice_id = _text_script(script)
        case "audio":
            audio_url = _text(script, "audio_url", "script.audio_url")
            if audio_url is None:
                raise bad_field("script.audio_url", "is required")
            if not (AUDIO_URL if strict else AUDIO_URL_RELAXED).search(audio_url):
                raise bad_field("script.audio_url", "must match the pattern of an https or s3 URL of an audio file")
        case _:
            raise bad_field("script.type", "must be one of text, audio")
    user_data = _text(body, "user_data", "user_data")
    if user_data is not None and (not user_data.strip() or len(user_data) > 1000):
        raise bad_field("user_data", "must be 1 to 1000 characters and not blank")
    webhook = _text(body, "webhook", "webhook")
    if webhook is not None and not (WEBHOOK if strict else WEBHOOK_RELAXED).search(webhook):
        raise bad_field("webhook", "must be an https URL")
    if body.get("result_url") is not None:
        raise refuse(403, "PermissionError", "result_url is not available on this plan")
    config = body.get("config") or {}
    if not isinstance(config, dict):
        raise bad_field("config", "must be an object")
    return TalkOrder(
        source_url=source_url,
        audio_url=audio_url,
        text=text,
        voice_id=voice_id,
        **_config(config),
        name=_text(body, "name", "name"),
        user_data=user_data,
        webhook=webhook,
        config=config,
    )


def _text_script(script: dict[str, Any]) -> tuple[str, str | None]:
    text = _text(script, "input", "script.input") or ""
    if not 3 <= len(text) <= LONGEST_TEXT:
        raise bad_field("script.input", f"must be 3 to {LONGEST_TEXT} characters")
    spoken = re.sub(r"<[^>]*>", "", text) if script.get("ssml") else text
    if len(spoken) > LONGEST_TEXT_WITHOUT_TAGS:
        raise bad_field("script.input", f"must be at most {LONGEST_TEXT_WITHOUT_TAGS} characters without SSML tags")
    provider = script.get("provider")
    if provider is None:
        return spoken, None
    if not isinstance(provider, dict) or provider.get("type") not in PROVIDERS:
        raise bad_field("script.provider.type", f"must be one of {', '.join(PROVIDERS)}")
    return spoken, _text(provider, "voice_id", "script.provider.voice_id")


def _config(config: dict[str, Any]) -> dict[str, Any]:
    result_format = str(config.get("result_format", "mp4")).removeprefix(".")
    if result_format not in ("mp4", "mov"):
        raise bad_field("config.result_format", "must be one of mp4, mov")
    pad = config.get("pad_audio", 0)
    if isinstance(pad, bool) or not isinstance(pad, int | float) or not 0 <= pad <= LONGEST_PAD_SECONDS:
        raise bad_field("config.pad_audio", f"must be 0 to {LONGEST_PAD_SECONDS}")
    for name in ("stitch", "fluent"):
        if not isinstance(config.get(name, False), bool):
            raise bad_field(f"config.{name}", "must be a boolean")
    return {
        "stitch": config.get("stitch", False),
        "fluent": config.get("fluent", False),
        "result_format": result_format,
        "pad_seconds": float(pad),
    }
