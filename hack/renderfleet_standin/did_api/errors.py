"""D-ID's error body (top level, no wrapper), its gateway's other shape, and the rows of its error table."""

from typing import Any

from starlette.responses import JSONResponse

from renderfleet_standin.core import Answer
from renderfleet_standin.rows import Row, manner, retry_after


def body(kind: str, description: str, details: Any = None) -> dict[str, Any]:
    """The error body."""
    return {"kind": kind, "description": description, "details": details}


def refuse(status: int, kind: str, description: str, details: Any = None) -> Answer:
    """An error answer to raise."""
    return Answer(JSONResponse(body(kind, description, details), status))


def bad_field(name: str, message: str) -> Answer:
    """A field that is missing or wrong."""
    return refuse(400, "BadRequestError", "validation_error", {name: {"message": message}})


def _row(status: int, kind: str, description: str, about: str, *, name: str | None = None) -> Row:
    words = kind.removesuffix("Error")
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in words)
    return Row(name or f"{status}{snake}", status, lambda _facts: body(kind, description), about)


def _gateway(name: str, status: int, message: str, about: str, *, after_bill: bool = False) -> Row:
    return Row(name, status, lambda _facts: {"message": message}, about, after_bill=after_bill)


JOB_ERRORS = {
    "job_face_error": ("FaceError", "face not detected"),
    "job_driver_error": ("DriverError", "the driver could not be applied"),
    "job_logo_error": ("LogoError", "the logo could not be read"),
    "job_source_error": ("SourceError", "could not read the source"),
    "job_unknown_error": ("UnknownError", "internal error"),
    "job_video_enhance_error": ("VideoEnhanceError", "the video could not be enhanced"),
}
"""Fault name -> kind and description in the talk's `error`."""

_ROWS = [
    _row(400, "BadRequestError", "validation_error", "input"),
    _row(400, "InvalidFileSizeError", "image size is too large", "more than 10 485 760 pixels"),
    _row(400, "InvalidImageResolutionError", "image resolution is too small", "under 160 pixels"),
    _row(400, "InvalidAudioDurationError", "audio is too long", "longer than 10 minutes"),
    _row(401, "AuthorizationError", "user unauthenticated", "key refused"),
    _row(402, "InsufficientCreditsError", "not enough credits", "money"),
    _row(403, "PermissionError", "you do not have permission to use this feature", "plan feature"),
    _row(404, "NotFoundError", "not found", "deleted, or not visible yet"),
    _row(409, "NotReadyError", "the talk is still being processed", "DELETE while processing"),
    _row(415, "UnsupportedMimeTypeError", "unsupported mime type", "upload type"),
    Row(
        "429_too_many_requests",
        429,
        lambda _f: body("TooManyRequestsError", "Too many requests"),
        "limit, in D-ID's shape",
        retry_after,
    ),
    _gateway("429_gateway", 429, "Too Many Requests", "limit, in the gateway's shape"),
    _row(451, "ImageModerationError", "image was flagged by moderation", "verdict"),
    _row(451, "CelebrityRecognizedError", "celebrity recognized", "verdict"),
    _row(451, "TextModerationError", "text was flagged by moderation", "verdict"),
    _row(451, "AudioModerationError", "audio was flagged by moderation", "verdict"),
    _row(500, "InternalServerError", "internal server error", "transient"),
    _gateway("502_gateway", 502, "Internal server error", "gateway"),
    _gateway("503_gateway", 503, "Service Unavailable", "gateway"),
    _gateway("504_gateway_timeout", 504, "Endpoint request timed out", "gateway; nothing was created"),
    _gateway(
        "504_gateway_timeout_after_bill", 504, "Endpoint request timed out", "gateway; the talk exists", after_bill=True
    ),
    *[
        manner(name, f"the talk ends in error with {kind}; credits are returned", 201)
        for name, (kind, _) in JOB_ERRORS.items()
    ],
    manner("job_rejected", "the talk ends as rejected; credits are returned", 201),
    manner("job_stuck", "the talk stays started for ever", 201),
    manner("job_unknown_status", "the talk shows a status nobody knows, for ever", 201),
    manner("job_video_without_audio", "the talk is done, its video has no sound", 201),
    manner("job_short_video", "the talk is done, its video has half of the audio's length", 201),
    manner("job_expired_result", "the talk is done, its result_url has expired", 201),
    manner("callback_lost", "the webhook is never called", 201),
    manner("callback_twice", "the webhook is called twice", 201),
    manner("callback_early", "the webhook is called when the talk starts, too", 201),
]

ROWS: dict[str, Row] = {row.name: row for row in _ROWS}
OPERATIONS = (
    "talks.create", "talks.get", "talks.list", "talks.delete", "images", "audios", "credits", "voices", "results",
)  # fmt: skip
