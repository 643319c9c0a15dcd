"""ElevenLabs: speech from text.

Three shapes of error body are accepted; `type`, `code` and `status` are looked at together, and money before the
status, since 401 is "wrong key" or "no credit":

connection refused, DNS, TLS                           VendorDown
no complete answer after it had left, 504              looked for in the history; else OutcomeUnknown
quota_exceeded (even as 401), insufficient_credits     OutOfCredit
plan or voice not open to this account                 InputRefused
400 else, 404, 422                                     InputRefused
401, 403, workspace_not_found                          KeyRefused
409                                                    TryAgain
429 system_busy; 500, 502, 503; 4xx as an HTML page    VendorDown
429 else                                               Throttled; the in-flight cap is learned from the headers
200 that is no audio                                   BrokenAnswer, charged; one more try

Option: `maxCharacters`, to split texts earlier than the model asks for.
"""

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

from renderfleet_crds.contract import Charged

from .errors import (
    BrokenAnswer,
    InputRefused,
    KeyRefused,
    OutcomeUnknown,
    OutOfCredit,
    Throttled,
    TryAgain,
    VendorDown,
    VendorError,
    as_code,
    is_an_edges_refusal,
    retry_after_seconds,
)
from .http import free_call, json_of, paid_call, vendor_client
from .ports import AnswerSeen, Health, Speech, SpeechOrder

NAME = "ElevenLabs"
AUDIO_BODY_LIMIT_BYTES = 64 << 20
"""Far above ten minutes at 192 kbit/s (14 MB), which no single call exceeds."""
MAX_CHARACTERS_BY_MODEL = {
    "eleven_multilingual_v2": 10_000,
    "eleven_v3": 5_000,
    "eleven_v4": 5_000,
    "eleven_v4_turbo": 10_000,
    "eleven_flash_v2_5": 40_000,
    "eleven_flash_v2": 30_000,
}
"""For when /v1/models cannot be asked; vendor's documentation, late 2026."""
MAX_CHARACTERS_FALLBACK = 3_000
CHAINED_REQUESTS = 3
"""The vendor takes at most this many previous_request_ids."""
LOST_ANSWER_LOOKS_SECONDS = (1.0, 3.0, 6.0)
"""Pauses before looking for a lost speech in the history, which lags a little."""
PART_RETRY_PAUSES_SECONDS = (2.0, 5.0, 15.0)
"""For the second and later parts of a long text: the parts before are paid, so a refusal is waited out here."""
CLOCKS_MAY_DIFFER = timedelta(seconds=30)
EARLIER_ATTEMPTS = timedelta(hours=24)
"""How far back an attempt looks for what those before it have paid for."""
HISTORY_PAGE_SIZE = 100
HISTORY_PAGES_MOST = 20
"""So far back a lost speech is looked for; a busy account makes as many within minutes."""
FREE_CALL_SECONDS = 30.0

_MONEY_CODES = {"quota_exceeded", "insufficient_credits"}
_PLAN_CODES = {
    "subscription_required",
    "paid_plan_required",
    "feature_not_available",
    "voice_access_denied",
    "model_access_denied",
}
_KEY_CODES = {
    "invalid_api_key",
    "missing_api_key",
    "unauthorized",
    "needs_authorization",
    "missing_permissions",
    "workspace_not_found",
    "detected_unusual_activity",
    "insufficient_permissions",
}


class ElevenLabs:
    """One ElevenLabs account."""

    def __init__(self, base_url: str, api_key: str, options: Mapping[str, str], timeout_seconds: float) -> None:
        self._options = options
        self._timeout_seconds = timeout_seconds
        self._http = vendor_client(base_url, headers={"xi-api-key": api_key}, body_limit_bytes=AUDIO_BODY_LIMIT_BYTES)

    async def warm_up(self) -> None:
        """Nothing to load."""

    async def aclose(self) -> None:
        """Close connections."""
        await self._http.aclose()

    async def speak(self, order: SpeechOrder, answered: AnswerSeen) -> Speech:
        """Paid: the text as audio, in parts when it is longer than one call may be. Raises VendorError.

        A failure after the first part says that money was spent, whatever the vendor said about the failing part.
        """
        usage = {"characters": 0}
        learned: dict[str, int] = {}
        parts: list[bytes] = []
        request_ids: list[str] = []
        texts = split_text(order.text, await self._max_characters(order.model_id, len(order.text)))
        for text in texts:
            try:
                part = await self._made_before(order, text) or await self._speak_part(
                    order, text, request_ids[-CHAINED_REQUESTS:], patient=order.patient or bool(parts)
                )
            except VendorError as failed:
                if parts:
                    failed.charged = Charged.YES
                raise
            if not parts:
                await answered(part.request_id)
            parts += part.parts
            usage["characters"] += part.usage["characters"]
            learned.update(part.learned)
            if part.request_id:
                request_ids.append(part.request_id)
        return Speech(parts, usage, request_ids[-1] if request_ids else None, learned, texts)

    async def _made_before(self, order: SpeechOrder, text: str) -> Speech | None:
        """What an earlier attempt of this order paid for, if it is there and good: nobody pays for it again."""
        if order.is_usable is None:
            return None
        try:
            found = await self._find_part(order, text, datetime.now(UTC) - EARLIER_ATTEMPTS)
        except VendorError:
            return None  # this only saves money: the paid call will meet the same trouble and report it better
        return found if found is not None and await order.is_usable(found.parts[0], text) else None

    async def _speak_part(self, order: SpeechOrder, text: str, chained: list[str], *, patient: bool) -> Speech:
        pauses = list(PART_RETRY_PAUSES_SECONDS) if patient else []
        give_up_at = time.monotonic() + self._timeout_seconds
        while True:
            started = datetime.now(UTC)
            try:
                return await self._call(order, text, chained)
            except OutcomeUnknown:
                found = await self._find_lost_part(order, text, started)
                if found is None:
                    raise
                return found
            except (Throttled, TryAgain, VendorDown) as busy:
                wait = max(pauses.pop(0), busy.retry_after_seconds or 0) if pauses else None
                if wait is None or busy.charged is not Charged.NO or time.monotonic() + wait > give_up_at:
                    raise
                await asyncio.sleep(wait)

    async def _call(self, order: SpeechOrder, text: str, chained: list[str]) -> Speech:
        settings = _voice_settings(order)
        body: dict[str, Any] = {"text": text, "model_id": order.model_id}
        optional: dict[str, Any] = {
            "language_code": order.language_code,
            "voice_settings": settings or None,
            "seed": order.seed,
            "previous_request_ids": chained or None,
        }
        body |= {name: value for name, value in optional.items() if value is not None}
        async with paid_call(NAME, self._timeout_seconds):
            response = await self._http.post(
                f"v1/text-to-speech/{order.voice_id}", params={"output_format": order.output_format}, json=body
            )
        if response.status_code != 200:
            raise classify(response.status_code, json_of(response), response.headers)
        request_id = response.headers.get("request-id")
        kind = response.headers.get("content-type", "")
        if not response.content or not kind.startswith(("audio/", "application/octet-stream")):
            raise BrokenAnswer(
                "no_audio", "ElevenLabs answered without audio; it may have been charged", request_id=request_id
            )
        cost = response.headers.get("character-cost", "")
        characters = int(cost) if cost.isdigit() else len(text)
        return Speech([response.content], {"characters": characters}, request_id, learned_from(response.headers))

    async def _max_characters(self, model_id: str, asked: int) -> int:
        """Longest text for one call. The vendor is asked only when the answer can matter."""
        chosen = self._options.get("maxCharacters", "")
        limit = MAX_CHARACTERS_BY_MODEL.get(model_id, MAX_CHARACTERS_FALLBACK)
        if asked > MAX_CHARACTERS_FALLBACK:
            limit = await self._limit_of_model(model_id) or limit
        return min(limit, int(chosen)) if chosen.isdigit() and int(chosen) > 0 else limit

    async def _limit_of_model(self, model_id: str) -> int | None:
        try:
            models = await self._get("v1/models")
        except VendorError:
            return None  # the table serves; the paid call will meet the same trouble and report it better
        for model in models if isinstance(models, list) else []:
            if isinstance(model, dict) and model.get("model_id") == model_id:
                limit = model.get("maximum_text_length_per_request")
                return limit if isinstance(limit, int) and limit > 0 else None
        return None

    async def find_speech(self, order: SpeechOrder, since: datetime) -> Speech | None:
        """All parts of this very order from the account's history, or None. Free. Raises VendorError."""
        parts: list[bytes] = []
        characters = 0
        request_id = None
        texts = split_text(order.text, await self._max_characters(order.model_id, len(order.text)))
        for text in texts:
            found = await self._find_part(order, text, since)
            if found is None:
                return None
            parts += found.parts
            characters += found.usage["characters"]
            request_id = found.request_id
        return Speech(parts, {"characters": characters}, request_id, texts=texts)

    async def _find_lost_part(self, order: SpeechOrder, text: str, since: datetime) -> Speech | None:
        for pause in LOST_ANSWER_LOOKS_SECONDS:
            await asyncio.sleep(pause)
            try:
                found = await self._find_part(order, text, since)
            except VendorError:
                continue  # the look-up is a courtesy: its failure may not hide what happened to the paid call
            if found is not None:
                return found
        return None

    async def _find_part(self, order: SpeechOrder, text: str, since: datetime) -> Speech | None:
        async for item in self._history(order.voice_id, since):
            if _is_this_speech(item, order, text, since):
                audio = await self._get_bytes(f"v1/history/{item['history_item_id']}/audio")
                return Speech([audio], {"characters": _characters_of(item, text)}, item.get("request_id"))
        return None

    async def _history(self, voice_id: str, since: datetime) -> AsyncIterator[dict[str, Any]]:
        """What this voice has spoken, the newest first, and no page more once one reaches back beyond `since`."""
        params = {"page_size": str(HISTORY_PAGE_SIZE), "voice_id": voice_id}
        for _ in range(HISTORY_PAGES_MOST):
            page = await self._get("v1/history", params)
            listed = page.get("history") if isinstance(page, dict) else None
            items = [item for item in listed or [] if isinstance(item, dict)]
            for item in items:
                yield item
            last = page.get("last_history_item_id") if items else None
            if not isinstance(last, str) or not page.get("has_more") or not _is_made_since(items[-1], since):
                return
            params["start_after_history_item_id"] = last

    async def voices(self) -> list[dict[str, Any]]:
        """All voices of the account, as the vendor describes them. Free. Raises VendorError."""
        found: list[dict[str, Any]] = []
        params = {"page_size": "100", "include_total_count": "false"}
        for _ in range(100):
            page = await self._get("v2/voices", params)
            if not isinstance(page, dict):
                break
            found += [voice for voice in page.get("voices") or [] if isinstance(voice, dict)]
            token = page.get("next_page_token")
            if not page.get("has_more") or not token:
                break
            params["next_page_token"] = str(token)
        return found

    async def probe(self) -> Health:
        """Ask for the subscription: proves the key and that there is credit. Free. Raises VendorError."""
        account = await self._get("v1/user/subscription")
        account = account if isinstance(account, dict) else {}
        used, limit = account.get("character_count"), account.get("character_limit")
        if not isinstance(used, int) or not isinstance(limit, int):
            return Health()
        if used >= limit:
            raise OutOfCredit("quota_exceeded", "the ElevenLabs account has used up its characters")
        return Health(credits_remaining=limit - used)

    async def _get(self, path: str, params: dict[str, str] | None = None) -> Any:
        return json_of(await self._get_response(path, params))

    async def _get_bytes(self, path: str) -> bytes:
        return (await self._get_response(path)).content

    async def _get_response(self, path: str, params: dict[str, str] | None = None) -> httpx2.Response:
        async with free_call(NAME, min(FREE_CALL_SECONDS, self._timeout_seconds)):
            response = await self._http.get(path, params=params)
        if response.status_code != 200:
            error = classify(response.status_code, json_of(response), response.headers)
            if isinstance(error, OutcomeUnknown):
                raise VendorDown(error.code, error.message, http_status=error.http_status)
            raise error
        return response


def _voice_settings(order: SpeechOrder) -> dict[str, float]:
    """Those that are asked for, under the vendor's names."""
    settings = {
        "stability": order.stability,
        "similarity_boost": order.similarity_boost,
        "style": order.style,
        "speed": order.speed,
    }
    return {name: value for name, value in settings.items() if value is not None}


def _is_made_since(item: Mapping[str, Any], since: datetime) -> bool:
    made_at = item.get("date_unix")
    return isinstance(made_at, int | float) and made_at >= (since - CLOCKS_MAY_DIFFER).timestamp()


def _is_this_speech(item: Mapping[str, Any], order: SpeechOrder, text: str, since: datetime) -> bool:
    return (
        item.get("text") == text
        and item.get("voice_id") == order.voice_id
        and item.get("model_id") in (order.model_id, None)
        and _is_made_since(item, since)
        and _was_spoken_so(item.get("settings"), order)
        and isinstance(item.get("history_item_id"), str)
        and re.fullmatch(r"[A-Za-z0-9_-]+", item["history_item_id"]) is not None
    )


def _was_spoken_so(settings: object, order: SpeechOrder) -> bool:
    """Whether nothing that is known of a speech's manner differs from what was asked for."""
    known = settings if isinstance(settings, dict) else {}
    return all(
        not isinstance(known.get(name), int | float) or math.isclose(known[name], value, abs_tol=1e-3)
        for name, value in _voice_settings(order).items()
    )


def _characters_of(item: Mapping[str, Any], text: str) -> int:
    before, after = item.get("character_count_change_from"), item.get("character_count_change_to")
    if isinstance(before, int) and isinstance(after, int) and after > before:
        return after - before
    return len(text)


def learned_from(headers: Mapping[str, str]) -> dict[str, int]:
    """How many calls this account may have in flight, when the vendor tells."""
    limit = headers.get("maximum-concurrent-requests", "")
    return {"maxConcurrent": int(limit)} if limit.isdigit() and int(limit) > 0 else {}


def classify(status: int, body: Any, headers: Mapping[str, str]) -> VendorError:
    """Which row of the table an error answer is. `body` is the parsed JSON, None when it was none."""
    detail = body.get("detail") if isinstance(body, dict) else None
    listed = detail if isinstance(detail, list) else []
    detail = detail if isinstance(detail, dict) else {}
    words = [detail.get(key) for key in ("code", "status", "type")]
    codes = {word for word in words if isinstance(word, str)}
    code = as_code(next((word for word in words if word), None), "invalid_request" if listed else f"http_{status}")
    request_id = as_code(detail.get("request_id"), "") or headers.get("request-id") or headers.get("x-trace-id")
    pause = retry_after_seconds(headers)

    def made(cls: type[VendorError], message: str, **more: Any) -> VendorError:
        return cls(code, message, request_id=request_id, http_status=status, **more)

    if is_an_edges_refusal(status, body, headers):
        return made(VendorDown, "something before ElevenLabs refused the call in its place")
    if codes & _MONEY_CODES:
        return made(OutOfCredit, "the ElevenLabs account has no credit left for this")
    if codes & _PLAN_CODES:
        return made(InputRefused, "the ElevenLabs plan does not include this voice, model or feature")
    if codes & _KEY_CODES or (status == 403 and "forbidden" in codes):
        return made(KeyRefused, "ElevenLabs does not accept the API key or its permissions")
    match status:
        case 401 | 403:
            return made(KeyRefused, "ElevenLabs does not accept the API key or its permissions")
        case 402:
            return made(OutOfCredit, "the ElevenLabs account has no credit left for this")
        case 409:
            return made(TryAgain, "ElevenLabs is busy with the same thing", retry_after_seconds=pause)
        case 429 if "system_busy" in codes:
            return made(VendorDown, "ElevenLabs is overloaded", retry_after_seconds=pause)
        case 429:
            return made(
                Throttled, "ElevenLabs' limit is reached", retry_after_seconds=pause, learned=learned_from(headers)
            )
        case 504 | 524:
            return made(OutcomeUnknown, "ElevenLabs' gateway gave up waiting; the call may have been charged")
        case 422 if listed:
            return made(InputRefused, f"ElevenLabs refused the request{_fields(listed)}")
        case _ if 400 <= status < 500:
            return made(InputRefused, "ElevenLabs refused the request")
        case _:
            return made(VendorDown, "ElevenLabs failed by itself", retry_after_seconds=pause)


def _fields(listed: list[Any]) -> str:
    named = [
        ".".join(as_code(step, "") for step in item["loc"] if step != "body")
        for item in listed[:5]
        if isinstance(item, dict) and isinstance(item.get("loc"), list)
    ]
    named = [name for name in named if name]
    return f" because of {', '.join(named)}" if named else ""


def split_text(text: str, max_characters: int) -> list[str]:
    """`text` in pieces of at most `max_characters`, cut at paragraph or sentence ends, else at spaces, else anywhere.

    A voice breathes where it stops, so a cut inside a sentence is heard; inside a word it is a defect.
    """
    pieces: list[str] = []
    rest = text.strip()
    while len(rest) > max_characters:
        head = rest[: max_characters + 1]
        cut = _last_end(r"\n\s*\n", head) or _last_end(r"[.!?…][\"'”’)\]]*\s|[。！？]", head) or _last_end(r"\s", head)
        cut = min(cut or max_characters, max_characters)
        pieces.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    if rest:
        pieces.append(rest)
    return pieces


def _last_end(pattern: str, text: str) -> int | None:
    """End of the last match in the second half of `text`; a cut near the start would make a needless call."""
    ends = [found.end() for found in re.finditer(pattern, text) if found.end() > len(text) // 2]
    return ends[-1] if ends else None


ADAPTER = ElevenLabs
