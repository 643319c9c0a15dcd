"""What the API server can answer besides success, told apart by what it means for the caller.

ApiError                     any refusal; `status`, `reason`, `message`, `details` as the server gave them
├─ NotFound                  404
├─ AlreadyExists             409 reason AlreadyExists
├─ Conflict                  409: somebody wrote in between, or a precondition did not hold
├─ Gone                      410: the resourceVersion is too old, list again
├─ Invalid                   422, and 400 of strict field validation: the object breaks its schema or a CEL rule
├─ Forbidden                 403: RBAC or an admission policy
│  └─ QuotaExceeded          403 exceeded quota: wait, it is not an error of the object
├─ QuotaNotReady             quota not computed yet (403), its object contended (409) or too slow (500): try again soon
├─ TooManyRequests           429; `retry_after_seconds`
└─ Unavailable               5xx, or no connection: the outcome of a write is unknown

Quota refusals arrive as plain 403s and 409s (kubernetes#67761), so they are known by their text and details, never by
the number alone.
"""

from typing import Any


class ApiError(Exception):
    """A refusal by the API server."""

    def __init__(
        self,
        status: int,
        reason: str = "",
        message: str = "",
        details: dict[str, Any] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.details = details or {}
        self.retry_after_seconds = retry_after_seconds

    @property
    def causes(self) -> list[dict[str, str]]:
        """For Invalid: which fields, as `{field, reason, message}`."""
        return self.details.get("causes") or []


class NotFound(ApiError):
    """No such object."""


class AlreadyExists(ApiError):
    """The name is taken; perhaps by our own earlier, unanswered POST."""


class Conflict(ApiError):
    """Somebody wrote in between, or a UID or resourceVersion precondition did not hold."""


class Gone(ApiError):
    """The resourceVersion to continue from is no longer kept."""


class Invalid(ApiError):
    """The object breaks its schema or a CEL rule; sending it again will not help."""


class Forbidden(ApiError):
    """Not allowed."""


class QuotaExceeded(Forbidden):
    """The namespace's ResourceQuota is used up; a wait, not a failure."""


class QuotaNotReady(ApiError):
    """The quota could not be charged just now: not computed yet, contended, or too slow."""


class TooManyRequests(ApiError):
    """The API server asks for a pause."""


class Unavailable(ApiError):
    """The server failed or did not answer: a write may or may not have happened."""


def error_from(status: int, body: Any, retry_after: str | None = None) -> ApiError:
    """The error that a Status object means; `body` may be anything a proxy made up."""
    given: dict[str, Any] = body if isinstance(body, dict) else {"message": str(body)[:500]}
    reason = str(given.get("reason") or "")
    message = str(given.get("message") or "")
    details: dict[str, Any] = given.get("details") or {}
    try:
        pause = float(retry_after) if retry_after else float(details["retryAfterSeconds"])
    except (KeyError, TypeError, ValueError):
        pause = None
    return _kind(status, reason, message, details)(status, reason, message, details, pause)


def _kind(status: int, reason: str, message: str, details: dict[str, Any]) -> type[ApiError]:
    match status:
        case 403 if "exceeded quota" in message:
            return QuotaExceeded
        case 403 if "status unknown for quota" in message:
            return QuotaNotReady
        case 409 if details.get("kind") == "resourcequotas":
            return QuotaNotReady
        case 500 if "resource quota" in message.lower():
            return QuotaNotReady
        case 403:
            return Forbidden
        case 404:
            return NotFound
        case 409:
            return AlreadyExists if reason == "AlreadyExists" else Conflict
        case 410:
            return Gone
        case 400 | 422:
            return Invalid
        case 429:
            return TooManyRequests
        case _ if status >= 500:
            return Unavailable
        case _:
            return ApiError
