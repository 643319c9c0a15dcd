"""The ElevenLabs side's calls. Order in a speech call: body shape (422), key (401), voice, model, text, plan, credits,
a free place among the calls at once, scripted fault, bill, work."""

import asyncio
import base64
import json
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse

from renderfleet_standin.core import Answer, Call, CallNote, Standin, new_id
from renderfleet_standin.elevenlabs_api import catalogue, errors
from renderfleet_standin.elevenlabs_api.body import SpeechBody, parse
from renderfleet_standin.elevenlabs_api.catalogue import MODELS, VOICES, SpeechModel, Voice
from renderfleet_standin.elevenlabs_api.errors import refuse
from renderfleet_standin.media import speech

HISTORY_ITEMS = 200
STREAM_CHUNK_BYTES = 4096


@dataclass
class HistoryItem:
    """One speech made, kept for the history calls."""

    history_item_id: str
    request_id: str
    voice: Voice
    model: SpeechModel
    text: str
    made_at: int
    used_before: int
    used_after: int
    content_type: str
    output_format: str
    settings: dict[str, Any]
    audio: bytes

    def as_json(self) -> dict[str, Any]:
        return {
            "history_item_id": self.history_item_id,
            "request_id": self.request_id,
            "voice_id": self.voice.voice_id,
            "voice_name": self.voice.name,
            "voice_category": "premade",
            "model_id": self.model.model_id,
            "text": self.text,
            "date_unix": self.made_at,
            "character_count_change_from": self.used_before,
            "character_count_change_to": self.used_after,
            "content_type": self.content_type,
            "output_format": self.output_format,
            "state": "created",
            "settings": self.settings,
            "source": "TTS",
        }


@dataclass(frozen=True)
class SpeechOrder:
    """A valid request for speech."""

    body: SpeechBody
    voice: Voice
    model: SpeechModel
    output_format: str
    cost: int
    """Credits."""


def headers_for(_standin: Standin) -> Callable[[CallNote, int, float], Mapping[str, str]]:
    """The headers on every ElevenLabs answer; `request-id` stands on good ones only."""

    def build(note: CallNote, status: int, _seconds: float) -> Mapping[str, str]:
        headers = {"x-trace-id": note.request_id, "x-region": "us-central1"}
        if status < 400:
            headers["request-id"] = note.request_id
        return headers

    return build


class ElevenLabsSide:
    """The application below /elevenlabs and what it remembers."""

    def __init__(self, standin: Standin) -> None:
        self._standin = standin
        self._settings = standin.settings
        self._running = {"standard": 0, "flash": 0}
        self._freed = asyncio.Condition()
        self._history: OrderedDict[str, HistoryItem] = OrderedDict()

    def app(self) -> FastAPI:
        """All routes, with the vendor's error bodies for unknown ones."""
        app = FastAPI(openapi_url=None)
        app.add_exception_handler(Answer, _early_answer)
        app.add_exception_handler(HTTPException, _no_such_route)
        for suffix in ("", "/stream", "/with-timestamps", "/stream/with-timestamps"):
            app.add_api_route("/v1/text-to-speech/{voice_id}" + suffix, self._speech_route(suffix), methods=["POST"])
        app.add_api_route("/v2/voices", self.voices_paged, methods=["GET"])
        app.add_api_route("/v1/voices", self.voices_all, methods=["GET"])
        app.add_api_route("/v1/voices/{voice_id}", self.one_voice, methods=["GET"])
        app.add_api_route("/v1/models", self.models, methods=["GET"])
        app.add_api_route("/v1/user/subscription", self.subscription, methods=["GET"])
        app.add_api_route("/v1/history", self.history, methods=["GET"])
        app.add_api_route("/v1/history/{item_id}", self.history_item, methods=["GET"])
        app.add_api_route("/v1/history/{item_id}/audio", self.history_audio, methods=["GET"])
        app.add_api_route("/previews/{voice_id}.mp3", self.preview, methods=["GET"])
        return app

    # who calls ------------------------------------------------------------------------------------------------------

    def _authenticate(self, call: Call) -> None:
        key = call.request.headers.get("xi-api-key")
        if not key:
            if call.request.headers.get("authorization"):
                raise refuse(
                    401,
                    "authentication_error",
                    "unauthorized",
                    "Invalid API key",
                    call.request_id,
                    status="invalid_api_key",
                )
            if call.request.method == "GET":
                raise refuse(404, "not_found", "workspace_not_found", "Workspace not found.", call.request_id)
            message = "Neither authorization header nor xi-api-key received, please provide one."
            raise refuse(
                401, "authentication_error", "missing_api_key", message, call.request_id, status="needs_authorization"
            )
        if not any(secrets.compare_digest(key.encode(), good.encode()) for good in self._settings.elevenlabs_keys):
            raise refuse(
                401,
                "authentication_error",
                "unauthorized",
                "Invalid API key",
                call.request_id,
                status="invalid_api_key",
            )

    def _credits_used(self) -> int:
        return math.ceil(self._standin.ledger.used("elevenlabs", "credits"))

    # speech ---------------------------------------------------------------------------------------------------------

    def _speech_route(self, suffix: str) -> Callable[..., Any]:
        operation = "text-to-speech" + suffix.replace("/", ".")

        async def route(request: Request, voice_id: str) -> Response:
            return await self._speak(Call(self._standin, request, "elevenlabs", operation), voice_id)

        return route

    async def _speak(self, call: Call, voice_id: str) -> Response:
        body = parse(await call.request.body())
        if isinstance(body, list):
            raise Answer(JSONResponse({"detail": body}, 422))
        call.know(prompt=body.text, model=body.model_id, voice_id=voice_id)
        call.note.seed, call.note.previous_request_ids = body.seed, body.previous_request_ids
        self._authenticate(call)
        order = self._order(call, body, voice_id)
        async with self._place(call, order.model.group) as running:
            await call.enter()
            used_before = self._credits_used()
            item_id = new_id("", 20)
            await call.bill(unit="credits", units=order.cost, resource=item_id)
            audio, seconds = await self._standin.make(_make_speech, order)
            audio = await self._as_fault_wants(call, order, audio, seconds)
            item = HistoryItem(
                item_id, call.request_id, order.voice, order.model, body.text, int(time.time()), used_before, used_before + order.cost,
                speech.OUTPUT_FORMATS[order.output_format][0], order.output_format,
                (body.voice_settings.model_dump(exclude_none=True) if body.voice_settings else {}), audio,
            )  # fmt: skip
            self._remember(item)
            await call.after_bill()
            headers = {
                **self._places_told(order.model.group),
                "current-concurrent-requests": str(running),
                "character-cost": str(order.cost),
                "history-item-id": item_id,
            }
            return call.finish(_speech_answer(call.operation, order, audio, seconds, headers))

    def _order(self, call: Call, body: SpeechBody, voice_id: str) -> SpeechOrder:
        request_id = call.request_id
        rate = self._standin.limits["elevenlabs.requests_per_minute"]
        if rate.wait_for(1):
            raise refuse(429, "rate_limit_error", "rate_limit_exceeded", "Rate limit exceeded.", request_id)
        rate.take(1)
        output_format = call.request.query_params.get("output_format", "mp3_44100_128")
        if output_format not in speech.OUTPUT_FORMATS:
            message = f"Invalid output format: {output_format}."
            raise refuse(400, "validation_error", "invalid_output_format", message, request_id, param="output_format")
        voice = VOICES.get(voice_id)
        if voice is None:
            raise refuse(
                404, "not_found", "voice_not_found", f"A voice with voice_id {voice_id} was not found.", request_id
            )
        model = MODELS.get(body.model_id)
        if model is None:
            raise refuse(
                404, "not_found", "model_not_found", f"A model with model ID {body.model_id} was not found.", request_id
            )
        self._check_text_and_settings(call, body, model)
        tiers = catalogue.TIERS
        if tiers.index(self._settings.elevenlabs_tier) < tiers.index(catalogue.plan_for_format(output_format)):
            message = (
                f"Output format {output_format} requires the {catalogue.plan_for_format(output_format)} plan or above."
            )
            raise refuse(403, "authorization_error", "subscription_required", message, request_id)
        if voice.paid_plan_only and self._settings.elevenlabs_tier == "free":
            message = (
                "Free users cannot use library voices via the API. Please upgrade your subscription to use this voice."
            )
            raise refuse(402, "payment_required", "paid_plan_required", message, request_id)
        if call.request.query_params.get("enable_logging", "true").lower() == "false":
            message = "Zero retention is only available to enterprise customers."
            raise refuse(403, "authorization_error", "feature_not_available", message, request_id)
        cost = max(1, math.ceil(len(body.text) * model.multiplier))
        self._check_credits(call, cost)
        return SpeechOrder(body, voice, model, output_format, cost)

    def _check_text_and_settings(self, call: Call, body: SpeechBody, model: SpeechModel) -> None:
        request_id = call.request_id
        if not body.text.strip():
            raise refuse(400, "validation_error", "empty_text", "The text must not be empty.", request_id, param="text")
        if len(body.text) > model.most_characters:
            message = f"The text is too long: {len(body.text)} characters, while {model.model_id} takes at most {model.most_characters}."
            raise refuse(
                400,
                "validation_error",
                "text_too_long",
                message,
                request_id,
                param="text",
                status="max_character_limit_exceeded",
            )
        settings = body.voice_settings
        if settings and model.coarse_stability and settings.stability not in (None, 0.0, 0.5, 1.0):
            message = "Invalid stability: must be one of 0.0, 0.5, 1.0 for this model."
            raise refuse(
                400, "validation_error", "invalid_voice_settings", message, request_id, param="voice_settings.stability"
            )
        if settings and settings.speed is not None and not 0.7 <= settings.speed <= 1.2:
            message = "Invalid speed: must be between 0.7 and 1.2."
            raise refuse(
                400, "validation_error", "invalid_voice_settings", message, request_id, param="voice_settings.speed"
            )
        if body.language_code is not None:
            if not model.takes_language_code:
                message = f"Model {model.model_id} does not support the language_code parameter."
                raise refuse(
                    400, "validation_error", "unsupported_language", message, request_id, param="language_code"
                )
            if body.language_code not in catalogue.LANGUAGES:
                message = f"Language {body.language_code} is not supported by {model.model_id}."
                raise refuse(
                    400, "validation_error", "unsupported_language", message, request_id, param="language_code"
                )

    def _check_credits(self, call: Call, cost: int) -> None:
        limit = self._settings.elevenlabs_character_limit
        left = limit - self._credits_used()
        if cost <= left:
            return
        text = errors.quota_text(limit, left, cost)
        match self._settings.elevenlabs_quota_answer:
            case "401":
                raise refuse(401, "invalid_request", "quota_exceeded", text, call.request_id)
            case "401-legacy":
                raise Answer(JSONResponse(errors.legacy("quota_exceeded", text), 401))
            case "402":
                raise refuse(402, "payment_required", "insufficient_credits", text, call.request_id)

    def _most_at_once(self, group: str) -> int:
        return catalogue.AT_ONCE[self._settings.elevenlabs_tier][group]

    def _places_told(self, group: str) -> dict[str, str]:
        """The headers about places, as they are now."""
        return {
            "current-concurrent-requests": str(self._running[group]),
            "maximum-concurrent-requests": str(self._most_at_once(group)),
        }

    @asynccontextmanager
    async def _place(self, call: Call, group: str) -> AsyncIterator[int]:
        """One of the plan's places for calls at once, for as long as the call runs; the number running comes back."""
        most = self._most_at_once(group)
        async with self._freed:
            try:
                await asyncio.wait_for(
                    self._freed.wait_for(lambda: self._running[group] < most), self._settings.elevenlabs_queue_seconds
                )
            except TimeoutError:
                refused = refuse(
                    429, "rate_limit_error", "concurrent_limit_exceeded", "Too many concurrent requests.", call.request_id,
                    status="too_many_concurrent_requests",
                )  # fmt: skip
                refused.response.headers.update(self._places_told(group))
                raise refused from None
            self._running[group] += 1
        try:
            yield self._running[group]
        finally:
            async with self._freed:
                self._running[group] -= 1
                self._freed.notify_all()

    async def _as_fault_wants(self, call: Call, order: SpeechOrder, audio: bytes, seconds: float) -> bytes:
        if call.is_struck_by("200_empty_audio"):
            return b""
        if call.is_struck_by("200_short_audio"):
            return audio[: len(audio) // 2]
        if call.is_struck_by("200_silent_audio"):
            return await self._standin.make(speech.silence, seconds, order.output_format)
        if call.is_struck_by("200_not_audio"):
            return b"<html>this is not audio</html>" * 40
        return audio

    def forget_everything(self) -> None:
        """Drop the history, as a reset wants."""
        self._history.clear()

    def _remember(self, item: HistoryItem) -> None:
        self._history[item.history_item_id] = item
        while len(self._history) > HISTORY_ITEMS:
            self._history.popitem(last=False)

    # lists ----------------------------------------------------------------------------------------------------------

    async def _open(self, request: Request, operation: str, **facts: str) -> Call:
        """The common start of the calls that only read."""
        call = Call(self._standin, request, "elevenlabs", operation)
        self._authenticate(call)
        call.know(**facts)
        await call.enter()
        await call.show_late_fault()
        return call

    def _voice_json(self, voice: Voice, request: Request) -> dict[str, Any]:
        return {
            "voice_id": voice.voice_id,
            "name": voice.name,
            "category": "professional" if voice.paid_plan_only else "premade",
            "labels": {
                "accent": voice.accent, "age": voice.age, "gender": voice.gender, "descriptive": voice.description, "language": "en",
            },
            "description": f"A {voice.description} {voice.accent} voice.",
            "preview_url": f"{self._standin.base_url(request)}/elevenlabs/previews/{voice.voice_id}.mp3",
            "available_for_tiers": [],
            "settings": None,
            "high_quality_base_model_ids": list(MODELS),
            "verified_languages": [
                {"language": "en", "model_id": "eleven_multilingual_v2", "accent": voice.accent, "locale": "en-US", "preview_url": None}
            ],
        }  # fmt: skip

    async def voices_paged(self, request: Request) -> Response:
        """GET /v2/voices."""
        call = await self._open(request, "voices")
        query = request.query_params
        try:
            page_size = int(query.get("page_size", "10"))
            start = int(base64.urlsafe_b64decode(query.get("next_page_token", "") or "MA==").decode())
        except ValueError:
            raise refuse(400, "validation_error", "invalid_parameters", "Invalid page.", call.request_id) from None
        if not 1 <= page_size <= 100:
            raise refuse(
                400,
                "validation_error",
                "invalid_parameters",
                "page_size must be between 1 and 100.",
                call.request_id,
                param="page_size",
            )
        wanted = query.get("search", "").lower()
        voices = [voice for voice in VOICES.values() if wanted in f"{voice.name} {voice.description}".lower()]
        page = voices[start : start + page_size]
        more = start + page_size < len(voices)
        token = base64.urlsafe_b64encode(str(start + page_size).encode()).decode() if more else None
        voices_json = [self._voice_json(voice, request) for voice in page]
        return call.finish(
            JSONResponse(
                {"voices": voices_json, "has_more": more, "total_count": len(voices), "next_page_token": token}
            )
        )

    async def voices_all(self, request: Request) -> Response:
        """GET /v1/voices, the legacy list."""
        call = await self._open(request, "voices")
        return call.finish(JSONResponse({"voices": [self._voice_json(voice, request) for voice in VOICES.values()]}))

    async def one_voice(self, request: Request, voice_id: str) -> Response:
        """GET /v1/voices/{voice_id}."""
        call = await self._open(request, "voices", voice_id=voice_id)
        if voice_id not in VOICES:
            message = f"A voice with voice_id {voice_id} was not found."
            raise refuse(404, "not_found", "voice_not_found", message, call.request_id)
        return call.finish(JSONResponse(self._voice_json(VOICES[voice_id], request)))

    async def preview(self, request: Request, voice_id: str) -> Response:
        """A voice's sample, without a key, as public preview links are."""
        if voice_id not in VOICES:
            raise refuse(404, "not_found", "voice_not_found", "Not found.", request.state.note.request_id)
        voice = VOICES[voice_id]
        wav = await self._standin.make(speech.wav_of, f"Hello, I am {voice.name}.", voice.speaker)
        audio = await self._standin.make(speech.encode_speech, wav, "mp3_44100_128")
        return Response(audio, media_type="audio/mpeg")

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        call = await self._open(request, "models")
        languages = [{"language_id": code, "name": name} for code, name in catalogue.LANGUAGES.items()]
        listed = [
            {
                "model_id": model.model_id,
                "name": model.name,
                "can_be_finetuned": False,
                "can_do_text_to_speech": True,
                "can_do_voice_conversion": False,
                "can_use_style": True,
                "can_use_speaker_boost": True,
                "serves_pro_voices": False,
                "token_cost_factor": model.multiplier,
                "description": model.name,
                "requires_alpha_access": False,
                "maximum_text_length_per_request": model.most_characters,
                "languages": languages,
                "model_rates": {"character_cost_multiplier": model.multiplier, "cost_discount_multiplier": 1.0},
                "concurrency_group": model.group,
            }
            for model in MODELS.values()
        ]
        return call.finish(JSONResponse(listed))

    async def subscription(self, request: Request) -> Response:
        """GET /v1/user/subscription."""
        call = await self._open(request, "subscription")
        return call.finish(
            JSONResponse(
                {
                    "tier": self._settings.elevenlabs_tier,
                    "status": "free" if self._settings.elevenlabs_tier == "free" else "active",
                    "character_count": self._credits_used(),
                    "character_limit": self._settings.elevenlabs_character_limit,
                    "max_credit_limit_extension": 0,
                    "can_extend_character_limit": False,
                    "allowed_to_extend_character_limit": False,
                    "next_character_count_reset_unix": int(time.time()) + 30 * 86_400,
                    "voice_slots_used": 0,
                    "professional_voice_slots_used": 0,
                    "professional_voice_slots_used_in_workspace": 0,
                    "voice_limit": 30,
                    "voice_add_edit_counter": 0,
                    "professional_voice_limit": 1,
                    "can_extend_voice_limit": False,
                    "can_use_instant_voice_cloning": True,
                    "can_use_professional_voice_cloning": True,
                    "currency": "usd",
                    "current_overage": {"amount": "0", "currency": "usd"},
                    "billing_period": "monthly_period",
                    "character_refresh_period": "monthly_period",
                }
            )
        )

    async def history(self, request: Request) -> Response:
        """GET /v1/history, newest first."""
        call = await self._open(request, "history")
        query = request.query_params
        try:
            page_size = max(1, min(1000, int(query.get("page_size", "100"))))
        except ValueError:
            raise refuse(400, "validation_error", "invalid_parameters", "Invalid page_size.", call.request_id) from None
        items = list(reversed(self._history.values()))
        after = query.get("start_after_history_item_id")
        if after is not None:
            places = [place for place, item in enumerate(items) if item.history_item_id == after]
            items = items[places[0] + 1 :] if places else []
        if query.get("voice_id"):
            items = [item for item in items if item.voice.voice_id == query["voice_id"]]
        page = items[:page_size]
        return call.finish(
            JSONResponse(
                {
                    "history": [item.as_json() for item in page],
                    "last_history_item_id": page[-1].history_item_id if page else None,
                    "has_more": len(items) > page_size,
                    "scanned_until": page[-1].made_at if page else None,
                }
            )
        )

    def _item(self, call: Call, item_id: str) -> HistoryItem:
        if item_id not in self._history:
            raise refuse(
                404,
                "not_found",
                "history_item_not_found",
                f"History item with id {item_id} was not found.",
                call.request_id,
            )
        return self._history[item_id]

    async def history_item(self, request: Request, item_id: str) -> Response:
        """GET /v1/history/{id}."""
        call = await self._open(request, "history", resource=item_id)
        return call.finish(JSONResponse(self._item(call, item_id).as_json()))

    async def history_audio(self, request: Request, item_id: str) -> Response:
        """GET /v1/history/{id}/audio."""
        call = await self._open(request, "history.audio", resource=item_id)
        item = self._item(call, item_id)
        return call.finish(Response(item.audio, media_type=item.content_type))


async def _early_answer(_request: Request, ended: Exception) -> Response:
    return cast("Answer", ended).response


async def _no_such_route(_request: Request, problem: Exception) -> Response:
    refused = cast("HTTPException", problem)
    return JSONResponse({"detail": refused.detail}, refused.status_code)


def _make_speech(order: SpeechOrder) -> tuple[bytes, float]:
    """The encoded audio and its length in seconds."""
    settings = order.body.voice_settings
    speed = settings.speed if settings and settings.speed is not None else 1.0
    wav = speech.wav_of(order.body.text, order.voice.speaker, language=order.body.language_code, speed=speed)
    return speech.encode_speech(wav, order.output_format), max(speech.SHORTEST_SECONDS, speech.wav_seconds(wav))


def alignment_of(text: str, start: float, end: float) -> dict[str, Any]:
    """When each character is spoken: the time shared out evenly, which is honest enough for a robot voice."""
    step = (end - start) / max(1, len(text))
    starts = [round(start + step * index, 3) for index in range(len(text))]
    return {
        "characters": list(text),
        "character_start_times_seconds": starts,
        "character_end_times_seconds": [*starts[1:], round(end, 3)] if text else [],
    }


def _speech_answer(
    operation: str, order: SpeechOrder, audio: bytes, seconds: float, headers: dict[str, str]
) -> Response:
    content_type = speech.OUTPUT_FORMATS[order.output_format][0]
    text = order.body.text
    match operation:
        case "text-to-speech":
            return Response(audio, media_type=content_type, headers=headers)
        case "text-to-speech.stream":
            return StreamingResponse(_chunks(audio), media_type=content_type, headers=headers)
        case "text-to-speech.with-timestamps":
            alignment = alignment_of(text, 0.0, seconds)
            return JSONResponse(
                {
                    "audio_base64": base64.b64encode(audio).decode(),
                    "alignment": alignment,
                    "normalized_alignment": alignment,
                },
                headers=headers,
            )
        case _:
            return StreamingResponse(
                _timed_chunks(audio, text, seconds), media_type="text/event-stream", headers=headers
            )


async def _chunks(audio: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(audio), STREAM_CHUNK_BYTES):
        yield audio[start : start + STREAM_CHUNK_BYTES]


async def _timed_chunks(audio: bytes, text: str, seconds: float) -> AsyncIterator[bytes]:
    """One JSON line for each piece of audio with the characters spoken in it."""
    pieces = max(1, math.ceil(len(audio) / (STREAM_CHUNK_BYTES * 4)))
    for piece in range(pieces):
        part = audio[len(audio) * piece // pieces : len(audio) * (piece + 1) // pieces]
        words = text[len(text) * piece // pieces : len(text) * (piece + 1) // pieces]
        alignment = alignment_of(words, seconds * piece / pieces, seconds * (piece + 1) / pieces)
        line = {
            "audio_base64": base64.b64encode(part).decode(),
            "alignment": alignment,
            "normalized_alignment": alignment,
        }
        yield json.dumps(line, separators=(",", ":")).encode() + b"\n"
