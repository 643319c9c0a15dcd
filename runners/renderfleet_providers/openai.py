"""OpenAI: pictures (Images) and scripts (Responses), through the official package.

What an answer means; the code in the body decides before the status does, since 429 is "slow down" or "pay":

connection refused, DNS, TLS                          VendorDown
no answer after it had left, 504, 524                 OutcomeUnknown
400 moderation_blocked, content_policy_violation      ContentRefused
400 billing_hard_limit_reached, 429 quota and limits  OutOfCredit
400 else, 413, 415, 422; 404 (model retired)          InputRefused
401, 403                                              KeyRefused
429 else                                              Throttled, for Retry-After or "try again in"
408, 409, 500, 502, 503, 520-523; 4xx as HTML page    VendorDown
slow_down, whatever its status                        Throttled
200 without a usable picture or text                  BrokenAnswer, charged; one more try

Options: `model` (pictures), `scriptModel`, `organization`, `project`; `resendModeratedOutput` "true": when the picture was
refused and not the prompt, ask once more, as the next picture may pass.
"""

import asyncio
import base64
import binascii
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import date
from importlib import import_module
from typing import TYPE_CHECKING, Any

import httpx2

from renderfleet_crds.contract import Charged

from .errors import (
    BrokenAnswer,
    ContentRefused,
    InputRefused,
    KeyRefused,
    OutcomeUnknown,
    OutOfCredit,
    OutputRefused,
    Throttled,
    TryAgain,
    VendorDown,
    VendorError,
    as_code,
    is_an_edges_refusal,
    retry_after_seconds,
)
from .http import free_call, json_of, paid_call, vendor_client
from .ports import AnswerSeen, Health, PictureOrder, Pictures, Script

if TYPE_CHECKING:
    from openai import AsyncOpenAI

NAME = "OpenAI"
DEFAULT_IMAGE_MODEL = "gpt-image-2.6-flare"
DEFAULT_SCRIPT_MODEL = "gpt-6-luna"
PICTURES_BODY_LIMIT_BYTES = 64 << 20
"""Ten large PNGs as base64 in one JSON body, with room."""
OVERLOAD_PAUSE_SECONDS = 30.0
"""For a 503 without Retry-After: the vendor asks for a longer pause than after other faults."""
WARN_BEFORE_SHUTDOWN_DAYS = 60

SCRIPT_INSTRUCTIONS = (
    "Write what a presenter says to the camera. Answer with the spoken words only: no headings, no stage directions, "
    "no markup, no quotation marks around it. Use at most {max_characters} characters."
)

_MODERATION_CODES = {"moderation_blocked", "content_policy_violation"}
_MONEY_CODES = {
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "billing_hard_limit_reached",
}
_TRY_AGAIN_IN = re.compile(r"try again in (?:(\d+)m)?(\d+(?:\.\d+)?)(ms|s)", re.IGNORECASE)


class OpenAI:
    """One OpenAI account."""

    def __init__(self, base_url: str, api_key: str, options: Mapping[str, str], timeout_seconds: float) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._options = options
        self._timeout_seconds = timeout_seconds
        self._http = vendor_client(base_url, body_limit_bytes=PICTURES_BODY_LIMIT_BYTES)
        self._made_sdk: AsyncOpenAI | None = None

    async def aclose(self) -> None:
        """Close connections."""
        await self._http.aclose()

    @property
    def _image_model(self) -> str:
        return self._options.get("model", DEFAULT_IMAGE_MODEL)

    @property
    def _script_model(self) -> str:
        return self._options.get("scriptModel", DEFAULT_SCRIPT_MODEL)

    @property
    def _sdk(self) -> "AsyncOpenAI":
        if self._made_sdk is None:
            from openai import AsyncOpenAI

            self._made_sdk = AsyncOpenAI(
                api_key=self._api_key,
                base_url=self._base_url,
                organization=self._options.get("organization"),
                project=self._options.get("project"),
                max_retries=0,
                timeout=self._timeout_seconds,
                http_client=self._http,
            )
        return self._made_sdk

    async def warm_up(self) -> None:
        """Load the openai package, a second's work, in a thread."""
        await asyncio.to_thread(import_module, "openai")

    @asynccontextmanager
    async def _paid(self) -> AsyncIterator[None]:
        from openai import APIConnectionError, APIStatusError

        try:
            async with paid_call(NAME, self._timeout_seconds, APIConnectionError):
                yield
        except APIStatusError as refused:
            raise classify(refused.status_code, json_of(refused.response), refused.response.headers) from refused

    async def make_pictures(self, order: PictureOrder, answered: AnswerSeen) -> Pictures:
        """Paid: `order.count` pictures. Raises VendorError."""
        try:
            answer = await self._ask_for_pictures(order)
        except OutputRefused:
            if self._options.get("resendModeratedOutput") != "true":
                raise
            answer = await self._ask_for_pictures(order)
        request_id = answer.headers.get("x-request-id")
        await answered(request_id)
        files, usage = await asyncio.to_thread(_pictures_in, answer.content, order.count)
        learned = learned_from(answer.headers)
        return Pictures(files, {"images": len(files), **usage}, request_id, learned)

    async def _ask_for_pictures(self, order: PictureOrder) -> httpx2.Response:
        images = self._sdk.images.with_raw_response
        asked: dict[str, Any] = {
            "model": self._image_model,
            "prompt": order.prompt,
            "n": order.count,
            "size": f"{order.width_px}x{order.height_px}",
            "quality": order.quality,
            "background": order.background,
            "output_format": order.format,
        }
        if order.end_user:
            asked["safety_identifier"] = order.end_user
        async with self._paid():
            if order.base is None:
                raw = await images.generate(**asked)
            else:
                base = await asyncio.to_thread(order.base.read_bytes)
                image = ("base.png", base, "image/png") if base[:4] == b"\x89PNG" else ("base.jpg", base, "image/jpeg")
                raw = await images.edit(image=image, **asked)
        response: httpx2.Response = raw.http_response
        return response

    async def write_script(self, prompt: str, max_characters: int, language_code: str | None) -> Script:
        """Paid: words to speak, not longer than asked. Raises VendorError; ContentRefused when the model declines."""
        responses = self._sdk.responses.with_raw_response
        instructions = SCRIPT_INSTRUCTIONS.format(max_characters=max_characters)
        if language_code:
            instructions += f" Write in the language with ISO 639-1 code {language_code}."
        # A token is about four letters of English but may be one letter elsewhere; reasoning counts as well.
        room_tokens = 512 + max_characters
        usage: dict[str, int] = {}
        for tokens in (room_tokens, 4 * room_tokens):
            async with self._paid():
                raw = await responses.create(
                    model=self._script_model,
                    instructions=instructions,
                    input=prompt,
                    max_output_tokens=tokens,
                    store=False,
                )
            request_id = raw.headers.get("x-request-id")
            answer = read_script(raw.content, request_id)
            for unit, count in answer.usage.items():
                usage[unit] = usage.get(unit, 0) + count
            if answer.text is not None:
                return Script(shorten(answer.text, max_characters), usage, request_id)
        raise BrokenAnswer(
            "script_truncated",
            "the model used up its tokens before the script was done; ask for a shorter script",
            request_id=request_id,
            retry_limit=0,
        )

    async def probe(self) -> Health:
        """List the models: proves the key, and tells when ours are about to be shut down. Free."""
        headers = {"Authorization": f"Bearer {self._api_key}"}
        async with free_call(NAME, min(30.0, self._timeout_seconds)):
            response = await self._http.get("models", headers=headers)
        body = json_of(response)
        if response.status_code != 200:
            error = classify(response.status_code, body, response.headers)
            raise _as_read(error)
        known = {m.get("id"): m for m in body.get("data", []) if isinstance(m, dict)} if isinstance(body, dict) else {}
        warnings = [shutdown_warning(model, known, date.today()) for model in (self._image_model, self._script_model)]
        return Health(
            learned=learned_from(response.headers),
            warning="; ".join(dict.fromkeys(w for w in warnings if w)) or None,
        )


def _as_read(error: VendorError) -> VendorError:
    """A read that timed out at the edge costs nothing and may be repeated."""
    if isinstance(error, OutcomeUnknown):
        return VendorDown(error.code, error.message, request_id=error.request_id, http_status=error.http_status)
    return error


def shutdown_warning(model: str, known: Mapping[Any, Mapping[str, Any]], today: date) -> str | None:
    """What to tell the administrator about a model that goes away or is not there; None when all is well."""
    if not known:
        return None
    if model not in known:
        return f"model {model} is not offered to this account; set options.model or options.scriptModel"
    try:
        shutdown = date.fromisoformat(str(known[model].get("shutdown_date")))
    except ValueError:
        return None
    if (shutdown - today).days > WARN_BEFORE_SHUTDOWN_DAYS:
        return None
    return f"model {model} is shut down on {shutdown.isoformat()}; choose another in spec.options"


def learned_from(headers: Mapping[str, str]) -> dict[str, int]:
    """The account's requests per minute, when the vendor tells (often not on image calls)."""
    limit = headers.get("x-ratelimit-limit-requests", "")
    return {"maxPerMinute": int(limit)} if limit.isdigit() and int(limit) > 0 else {}


def classify(status: int, body: Any, headers: Mapping[str, str]) -> VendorError:
    """Which row of the table an error answer is. `body` is the parsed JSON, None when it was none."""
    request_id = headers.get("x-request-id")
    error = body.get("error") if isinstance(body, dict) else None
    error = error if isinstance(error, dict) else {}
    kind, raw_code = error.get("type"), error.get("code")
    code = as_code(raw_code, as_code(kind, f"http_{status}"))
    pause = retry_after_seconds(headers)

    def made(cls: type[VendorError], message: str, **more: Any) -> VendorError:
        return cls(code, message, request_id=request_id, http_status=status, **more)

    if is_an_edges_refusal(status, body, headers):
        return made(VendorDown, "something before OpenAI refused the call in its place")
    if raw_code in _MODERATION_CODES:
        details = error.get("moderation_details")
        on_output = isinstance(details, dict) and details.get("moderation_stage") == "output"
        verdict = OutputRefused if on_output else ContentRefused
        return made(verdict, f"OpenAI's safety system refused this{_categories(error)}; change the prompt")
    if raw_code in _MONEY_CODES or kind == "insufficient_quota":
        return made(OutOfCredit, "the OpenAI account is out of credit or over its spend limit")
    if raw_code == "slow_down" or kind == "rate_limit_error":  # once a 503, now a 429
        return made(
            Throttled, "OpenAI asks to grow more slowly", retry_after_seconds=pause, learned=learned_from(headers)
        )
    match status:
        case 504 | 524:
            return made(OutcomeUnknown, "OpenAI's gateway gave up waiting; the call may have been charged")
        case 401:
            return made(KeyRefused, "OpenAI does not accept the API key")
        case 403:
            return made(KeyRefused, "OpenAI does not let this account do that: country, verification or scope")
        case 404:
            return made(InputRefused, "OpenAI does not know what was asked for; the model may be retired")
        case 408 | 409:
            return made(VendorDown, "OpenAI asked to send the call again", retry_after_seconds=pause)
        case 429:
            return made(
                Throttled,
                "OpenAI's rate limit is reached",
                retry_after_seconds=pause if pause is not None else try_again_in_seconds(error.get("message")),
                learned=learned_from(headers),
            )
        case 503:
            return made(VendorDown, "OpenAI is overloaded", retry_after_seconds=pause or OVERLOAD_PAUSE_SECONDS)
        case _ if 400 <= status < 500:
            param = as_code(error.get("param"), "")
            return made(InputRefused, f"OpenAI refused the request{f' because of {param}' if param else ''}")
        case _:
            return made(VendorDown, "OpenAI failed by itself", retry_after_seconds=pause)


def _categories(error: Mapping[str, Any]) -> str:
    details = error.get("moderation_details")
    named = details.get("categories") if isinstance(details, dict) else None
    if not isinstance(named, list):
        named = re.findall(r"safety_violations=\[([^\]]*)\]", str(error.get("message")))
        named = named[0].split(",") if named else []
    words = [as_code(str(word).strip(), "") for word in named[:5]]
    words = [word for word in words if word]
    return f" ({', '.join(words)})" if words else ""


def try_again_in_seconds(message: object) -> float | None:
    """Seconds in "Please try again in 1m12.5s", which is all that a rate limit without Retry-After says."""
    found = _TRY_AGAIN_IN.search(message) if isinstance(message, str) else None
    if not found:
        return None
    minutes, number, unit = found.groups()
    return 60.0 * int(minutes or 0) + float(number) / (1000 if unit.lower() == "ms" else 1)


def _pictures_in(body: bytes, count: int) -> tuple[list[bytes], dict[str, int]]:
    """Decode a whole Images answer; megabytes of base64, so not for the event loop."""
    answer = _json_object(body)
    data = answer.get("data")
    files: list[bytes] = []
    for item in data if isinstance(data, list) else []:
        encoded = item.get("b64_json") if isinstance(item, dict) else None
        try:
            files.append(base64.b64decode(encoded or "", validate=True))
        except (binascii.Error, ValueError, TypeError):
            files.append(b"")
    usage = token_usage(answer.get("usage"))
    if len(files) < count or not all(files[:count]):
        usable = sum(map(bool, files))
        raise BrokenAnswer(
            "pictures_missing", f"OpenAI answered with {usable} usable pictures of {count}; it charges them"
        )
    return files[:count], usage


def token_usage(usage: object) -> dict[str, int]:
    """The vendor's token counts under our names; absent ones are left out."""
    if not isinstance(usage, dict):
        return {}
    details = usage.get("input_tokens_details")
    found = {
        "inputTokens": usage.get("input_tokens"),
        "outputTokens": usage.get("output_tokens"),
        "inputImageTokens": details.get("image_tokens") if isinstance(details, dict) else None,
    }
    return {name: count for name, count in found.items() if isinstance(count, int) and count >= 0}


class ScriptAnswer:
    """A Responses answer: the text, or None when it was cut off for want of tokens."""

    def __init__(self, text: str | None, usage: dict[str, int]) -> None:
        self.text = text
        self.usage = usage


def read_script(body: bytes, request_id: str | None) -> ScriptAnswer:
    """Text of all messages in a Responses answer. Raises ContentRefused for a refusal, BrokenAnswer for no text."""
    answer = _json_object(body)
    usage = token_usage(answer.get("usage"))
    status = answer.get("status")
    output = answer.get("output")
    parts = [
        part
        for item in (output if isinstance(output, list) else [])
        if isinstance(item, dict) and item.get("type") == "message"
        for part in item.get("content") or []
        if isinstance(part, dict)
    ]
    if any(part.get("type") == "refusal" for part in parts):
        raise ContentRefused(
            "script_refused", "the model declined to write this script", charged=Charged.YES, request_id=request_id
        )
    if status == "incomplete":
        details = answer.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        if reason == "content_filter":
            raise ContentRefused(
                "content_filter",
                "the script was stopped by a content filter",
                charged=Charged.YES,
                request_id=request_id,
            )
        if reason == "max_output_tokens":
            return ScriptAnswer(None, usage)
    if status == "failed":
        error = answer.get("error")
        code = as_code(error.get("code") if isinstance(error, dict) else None, "script_failed")
        charged = Charged.YES if usage.get("outputTokens") else Charged.NO
        match code:
            case "server_error":
                raise VendorDown(
                    code, "OpenAI failed while it wrote the script", charged=charged, request_id=request_id
                )
            case "rate_limit_exceeded":
                raise Throttled(code, "OpenAI's rate limit is reached", charged=charged, request_id=request_id)
            case _:
                raise InputRefused(code, "OpenAI could not write this script", charged=charged, request_id=request_id)
    if status in ("cancelled", "in_progress", "queued"):
        raise TryAgain(f"script_{status}", "OpenAI did not finish the script", request_id=request_id)
    text = "".join(str(part.get("text") or "") for part in parts if part.get("type") == "output_text").strip()
    if not text:
        raise BrokenAnswer("script_missing", "OpenAI answered without a script", request_id=request_id)
    return ScriptAnswer(text, usage)


def shorten(text: str, max_characters: int) -> str:
    """`text` cut at the last sentence end that fits, else at the last word: half a word must not be spoken."""
    if len(text) <= max_characters:
        return text
    head = text[:max_characters]
    ends = [found.end() for found in re.finditer(r"[.!?…。！？](?=\s|$)", head)]
    if ends:
        return head[: ends[-1]]
    if text[max_characters].isspace() or head[-1].isspace():
        return head.rstrip()
    return head.rsplit(None, 1)[0] if " " in head else head


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise BrokenAnswer("bad_json", "OpenAI's answer cannot be read; it may have been charged")
    return answer


ADAPTER = OpenAI
