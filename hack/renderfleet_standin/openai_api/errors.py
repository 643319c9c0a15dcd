"""OpenAI's error body, and the rows of its error table."""

from collections.abc import Callable
from typing import Any

from starlette.responses import JSONResponse

from renderfleet_standin.core import Answer
from renderfleet_standin.rows import Facts, Row, manner, retry_after


def body(message: str, kind: str, code: str | None = None, param: str | None = None, **more: Any) -> dict[str, Any]:
    """The error body: all four keys always present, `param` and `code` nullable."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code, **more}}


def refuse(
    message: str,
    *,
    status: int = 400,
    kind: str = "invalid_request_error",
    code: str | None = None,
    param: str | None = None,
) -> Answer:
    """An error answer to raise."""
    return Answer(JSONResponse(body(message, kind, code, param), status))


def masked(key: str) -> str:
    """The key as the vendor quotes it back: ends visible, which is why callers may not log this message."""
    return key if len(key) < 8 else f"{key[:5]}{'*' * max(4, len(key) - 9)}{key[-4:]}"


def wrong_key(key: str) -> dict[str, Any]:
    """Body of the 401 for an unknown key."""
    return body(
        f"Incorrect API key provided: {masked(key)}. You can find your API key at https://platform.openai.com/account/api-keys.",
        "invalid_request_error",
        "invalid_api_key",
    )


def model_missing(model: str) -> dict[str, Any]:
    """Body of the answer for a model that is retired, unknown or closed to the account."""
    return body(
        f"The model `{model}` does not exist or you do not have access to it.",
        "invalid_request_error",
        "model_not_found",
    )


def moderation(
    stage: str, request_id: str, code: str = "moderation_blocked", category: str = "violence"
) -> dict[str, Any]:
    """Body of a safety verdict."""
    return body(
        "Your request was rejected by the safety system. If you believe this is an error, contact us at help.openai.com "
        f"and include the request ID {request_id}. safety_violations=[{category}].",
        "image_generation_user_error" if code == "moderation_blocked" else "invalid_request_error",
        code,
        moderation_details={"moderation_stage": stage, "categories": [category]},
    )


def rate_limit_text(model: str, what: str, *, limit: int, used: int, requested: int, seconds: float) -> str:
    """The sentence of a rate-limit 429; callers parse "try again in"."""
    wait = f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    return (
        f"Rate limit reached for {model} in organization org-standin on {what}: Limit {limit}, Used {used}, "
        f"Requested {requested}. Please try again in {wait}. Visit https://platform.openai.com/account/rate-limits to learn more."
    )


def _limited(what: str, limit: int) -> Callable[[Facts], dict[str, Any]]:
    def build(facts: Facts) -> dict[str, Any]:
        text = rate_limit_text(
            facts.get("model", "gpt-image-2"),
            what,
            limit=limit,
            used=limit,
            requested=1,
            seconds=float(facts.get("retry_after_seconds", "1")),
        )
        return body(
            text,
            "requests" if "request" in what else "tokens" if "token" in what else "input-images",
            "rate_limit_exceeded",
        )

    return build


def _always(
    message: str, kind: str, code: str | None = None, param: str | None = None
) -> Callable[[Facts], dict[str, Any]]:
    return lambda _facts: body(message, kind, code, param)


def _money(code: str, message: str) -> Row:
    return Row(f"429_{code}", 429, _always(message, "insufficient_quota", code), "money: no retry helps")


_OUT_OF_QUOTA = "You exceeded your current quota, please check your plan and billing details. For more information on this error, read the docs."
_SERVER_ERROR = "The server had an error while processing your request. Sorry about that!"
_OVERLOADED = "The engine is currently overloaded, please try again later"

_ROWS = [
    Row("400_moderation_blocked", 400, lambda f: moderation("output", f["request_id"]), "verdict on the picture"),
    Row("400_moderation_blocked_input", 400, lambda f: moderation("input", f["request_id"]), "verdict on the prompt"),
    Row(
        "400_content_policy_violation",
        400,
        lambda f: moderation("unknown", f["request_id"], "content_policy_violation"),
        "older spelling of the verdict",
    ),
    Row(
        "400_invalid_request",
        400,
        _always(
            "Invalid value: '7x7'. Supported values are: '1024x1024', '1024x1536', '1536x1024', and 'auto'.",
            "invalid_request_error",
            "invalid_value",
            "size",
        ),
        "our request is wrong",
    ),
    Row(
        "400_billing_hard_limit_reached",
        400,
        _always("Billing hard limit has been reached", "billing_limit_user_error", "billing_hard_limit_reached"),
        "money, older accounts",
    ),
    Row(
        "400_model_not_found", 400, lambda f: model_missing(f.get("model", "gpt-image-1")), "model retired, told as 400"
    ),
    Row("401_invalid_api_key", 401, lambda f: wrong_key(f.get("key", "sk-standin-0000")), "key refused"),
    Row(
        "401_ip_not_authorized",
        401,
        _always(
            "Your IP address is not authorized to access this resource.", "invalid_request_error", "ip_not_authorized"
        ),
        "address not on the list",
    ),
    Row(
        "401_organization_membership",
        401,
        _always("You must be a member of an organization to use the API.", "invalid_request_error", None),
        "key without organisation",
    ),
    Row(
        "403_unsupported_country",
        403,
        _always(
            "Country, region, or territory not supported", "request_forbidden", "unsupported_country_region_territory"
        ),
        "country",
    ),
    Row(
        "403_unverified_organization",
        403,
        _always(
            "Your organization must be verified to use the model. Please go to the organization settings and click on Verify Organization.",
            "invalid_request_error",
        ),
        "organisation not verified; code is null",
    ),
    Row(
        "403_missing_scope",
        403,
        _always(
            "You have insufficient permissions for this operation. Missing scopes: api.model.images.request.",
            "invalid_request_error",
            "missing_scope",
        ),
        "key without the scope",
    ),
    Row("404_model_not_found", 404, lambda f: model_missing(f.get("model", "gpt-image-1")), "model retired or closed"),
    Row("408_request_timeout", 408, _always("Request timed out.", "server_error", "request_timeout"), "transient"),
    Row(
        "409_conflict",
        409,
        _always("The request conflicted with another one. Please retry.", "conflict_error", "conflict"),
        "transient",
    ),
    Row(
        "413_payload_too_large",
        413,
        _always("Maximum content size limit exceeded.", "invalid_request_error"),
        "body too large",
    ),
    Row(
        "415_unsupported_media_type",
        415,
        _always(
            "Unsupported content type. This API method only accepts 'application/json' requests.",
            "invalid_request_error",
            "unsupported_content_type",
        ),
        "wrong Content-Type",
    ),
    Row(
        "422_unprocessable",
        422,
        _always("The request could not be processed.", "invalid_request_error"),
        "our request is wrong",
    ),
    Row("429_rate_limit", 429, _limited("input-images per min", 5), "IPM, with Retry-After", retry_after),
    Row("429_rate_limit_text_only", 429, _limited("input-images per min", 5), "IPM, the wait stands only in the text"),
    Row("429_rate_limit_requests", 429, _limited("requests per min (RPM)", 50), "RPM", retry_after),
    Row("429_rate_limit_tokens", 429, _limited("tokens per min (TPM)", 100_000), "TPM", retry_after),
    Row(
        "429_slow_down",
        429,
        _always(
            "Your request rate rose too steeply. Please slow down and increase it gradually.",
            "rate_limit_error",
            "slow_down",
        ),
        "ramp too steep",
        retry_after,
    ),
    Row(
        "503_slow_down",
        503,
        _always("Slow down", "rate_limit_error", "slow_down"),
        "the older status of slow_down",
        retry_after,
    ),
    _money("insufficient_quota", _OUT_OF_QUOTA),
    _money("credit_balance_exhausted", "Your credit balance is exhausted. Add credits to continue."),
    _money("organization_spend_limit_exceeded", "Your organization has reached its spend limit."),
    _money("project_spend_limit_exceeded", "Your project has reached its spend limit."),
    _money("organization_usage_limit_exceeded", "Your organization has reached its approved usage limit."),
    Row("500_server_error", 500, _always(_SERVER_ERROR, "server_error", "server_error"), "transient"),
    Row(
        "500_image_generation_server_error",
        500,
        _always(_SERVER_ERROR, "image_generation_server_error", "image_generation_failed"),
        "transient",
    ),
    Row(
        "503_server_is_overloaded",
        503,
        _always(_OVERLOADED, "service_unavailable_error", "server_is_overloaded"),
        "overload",
        retry_after,
    ),
    manner("200_no_b64_json", "billed; every item lacks b64_json"),
    manner("200_empty_data", "billed; `data` is empty"),
    manner("200_bad_base64", "billed; b64_json is no base64"),
    manner("200_not_a_picture", "billed; b64_json decodes to something else"),
    manner("200_wrong_size", "billed; the picture is 64x64, whatever was asked"),
    manner("200_stream_error", "billed; streamed call ends with an error event"),
    manner("200_refusal", "billed; text answer is a refusal"),
    manner("200_incomplete_max_output_tokens", "billed; text answer cut by max_output_tokens"),
    manner("200_incomplete_content_filter", "billed; text answer stopped by the content filter"),
    manner("200_failed_server_error", "billed; response status failed, error.code server_error"),
    manner("200_failed_rate_limit_exceeded", "billed; response status failed, error.code rate_limit_exceeded"),
    manner("200_failed_invalid_prompt", "billed; response status failed, error.code invalid_prompt"),
    manner("200_empty_text", "billed; text answer without any text"),
]

ROWS: dict[str, Row] = {row.name: row for row in _ROWS}
OPERATIONS = ("images.generations", "images.edits", "responses", "chat.completions", "models")
