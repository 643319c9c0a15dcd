"""ElevenLabs' three error bodies, and the rows of its error table."""

from collections.abc import Callable
from typing import Any

from starlette.responses import JSONResponse

from renderfleet_standin.core import Answer
from renderfleet_standin.rows import Facts, Row, manner, retry_after


def current(
    kind: str, code: str, message: str, request_id: str, *, status: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """Today's body; `status` is the legacy mirror and may differ from `code`."""
    detail = {
        "type": kind,
        "code": code,
        "message": message,
        "status": status or code,
        "request_id": request_id,
        "param": param,
    }
    return {"detail": detail}


def legacy(status: str, message: str) -> dict[str, Any]:
    """The older body, still seen."""
    return {"detail": {"status": status, "message": message}}


def refuse(
    http_status: int,
    kind: str,
    code: str,
    message: str,
    request_id: str,
    *,
    status: str | None = None,
    param: str | None = None,
) -> Answer:
    """An error answer in today's shape, to raise."""
    return Answer(JSONResponse(current(kind, code, message, request_id, status=status, param=param), http_status))


def quota_text(limit: float, left: float, needed: float) -> str:
    """The sentence of a quota refusal."""
    return (
        f"This request exceeds your quota of {limit:g}. You have {max(0, left):g} credits remaining, "
        f"while {needed:g} credits are required for this request."
    )


def _row(
    name: str, about: str, kind: str, message: str, *, code: str | None = None, status: str | None = None,
    headers: Callable[[float], dict[str, str]] = lambda _seconds: {},
) -> Row:  # fmt: skip
    """A row in today's shape; its name is <HTTP status>_<code>."""
    number, _, default_code = name.partition("_")
    return Row(
        name,
        int(number),
        lambda facts: current(kind, code or default_code, message, facts["request_id"], status=status),
        about,
        headers,
    )


def _legacy_row(name: str, status: str, message: str, about: str) -> Row:
    return Row(name, int(name.partition("_")[0]), lambda _facts: legacy(status, message), about)


_MISSING_TEXT = {"detail": [{"type": "missing", "loc": ["body", "text"], "msg": "Field required", "input": None}]}
_QUOTA = quota_text(10_000, 12, 129)


def _validation(_facts: Facts) -> dict[str, Any]:
    return _MISSING_TEXT


_ROWS = [
    Row("422_validation", 422, _validation, "the JSON's shape"),
    _row("400_text_too_long", "our request", "validation_error", "The text exceeds the maximum length for this model."),
    _legacy_row(
        "400_max_character_limit_exceeded",
        "max_character_limit_exceeded",
        "This request exceeds the maximum number of characters for this model.",
        "our request, legacy shape",
    ),
    _row("400_empty_text", "our request", "validation_error", "The text must not be empty."),
    _row("400_invalid_voice_settings", "our request", "validation_error", "The voice settings are invalid."),
    _row("400_invalid_output_format", "our request", "validation_error", "The output format is invalid."),
    _row("400_unsupported_model", "our request", "validation_error", "This model does not support this operation."),
    _row("401_quota_exceeded", "money; the type does not say so", "invalid_request", _QUOTA),
    _legacy_row("401_quota_exceeded_legacy", "quota_exceeded", _QUOTA, "money, legacy shape"),
    _row("402_insufficient_credits", "money", "payment_required", "You do not have enough credits for this request."),
    _row(
        "401_invalid_api_key",
        "key refused",
        "authentication_error",
        "Invalid API key",
        code="unauthorized",
        status="invalid_api_key",
    ),
    _legacy_row("401_invalid_api_key_legacy", "invalid_api_key", "Invalid API key", "key refused, legacy shape"),
    _row("401_missing_api_key", "no key", "authentication_error", "No API key was provided."),
    _row("401_unauthorized", "key refused", "authentication_error", "Unauthorized."),
    _row(
        "401_needs_authorization",
        "no key",
        "authentication_error",
        "Neither authorization header nor xi-api-key received, please provide one.",
    ),
    _row(
        "401_missing_permissions",
        "key without the permission",
        "authentication_error",
        "The API key you used is missing the permission text_to_speech to execute this operation.",
    ),
    _row("404_workspace_not_found", "what a keyless GET gets", "not_found", "Workspace not found."),
    _row(
        "401_detected_unusual_activity",
        "free plan behind a shared address",
        "authentication_error",
        "Unusual activity detected. Free Tier usage disabled.",
    ),
    _row("402_subscription_required", "plan", "payment_required", "This feature requires a subscription."),
    _row("403_subscription_required", "plan", "authorization_error", "This feature requires a subscription."),
    _row(
        "402_paid_plan_required",
        "plan",
        "payment_required",
        "Free users cannot use library voices via the API. Please upgrade your subscription to use this voice.",
    ),
    _row("403_feature_not_available", "plan", "authorization_error", "This feature is not available on your plan."),
    _row("403_voice_access_denied", "voice choice", "authorization_error", "You do not have access to this voice."),
    _row("403_model_access_denied", "model choice", "authorization_error", "You do not have access to this model."),
    _row(
        "403_forbidden",
        "address not on the list",
        "authorization_error",
        "This IP address is not on the allowlist of this key.",
    ),
    _row(
        "403_insufficient_permissions",
        "configuration",
        "authorization_error",
        "You do not have the permission for this operation.",
    ),
    _row("404_voice_not_found", "bad input", "not_found", "A voice with this ID was not found."),
    _row("404_model_not_found", "bad input", "not_found", "A model with this ID was not found."),
    _row("409_already_running", "another call holds it", "conflict", "This operation is already running."),
    _row(
        "409_concurrent_modification", "another call changed it", "conflict", "The resource was modified concurrently."
    ),
    _row(
        "429_concurrent_limit_exceeded",
        "too many at once",
        "rate_limit_error",
        "Too many concurrent requests.",
        status="too_many_concurrent_requests",
    ),
    Row(
        "429_concurrent_limit_exceeded_retry_after",
        429,
        lambda facts: current(
            "rate_limit_error", "concurrent_limit_exceeded", "Too many concurrent requests.", facts["request_id"]
        ),
        "too many at once, with Retry-After: unconfirmed, so both exist",
        retry_after,
    ),
    _legacy_row(
        "429_too_many_concurrent_requests",
        "too_many_concurrent_requests",
        "Too many concurrent requests. Your current subscription is associated with a maximum of 5 concurrent requests (running in parallel).",
        "too many at once, legacy shape",
    ),
    _row(
        "429_rate_limit_exceeded",
        "too many per minute",
        "rate_limit_error",
        "Rate limit exceeded.",
        headers=retry_after,
    ),
    _row("429_system_busy", "overload", "rate_limit_error", "The system is currently busy. Please try again later."),
    _row("500_internal_error", "transient", "internal_error", "An internal error occurred."),
    _row("503_service_unavailable", "transient", "internal_error", "The service is temporarily unavailable."),
    _row("503_maintenance", "transient", "internal_error", "The service is under maintenance.", headers=retry_after),
    manner("200_empty_audio", "billed; no bytes"),
    manner("200_short_audio", "billed; a well-formed answer with half of the audio"),
    manner("200_silent_audio", "billed; a valid file in which nothing is heard"),
    manner("200_not_audio", "billed; bytes that are no audio"),
]

ROWS: dict[str, Row] = {row.name: row for row in _ROWS}
OPERATIONS = (
    "text-to-speech", "text-to-speech.stream", "text-to-speech.with-timestamps", "text-to-speech.stream.with-timestamps",
    "voices", "models", "subscription", "history", "history.audio",
)  # fmt: skip
