"""Decide what follows from a failed attempt. Pure.

category         then                                                             counts as an attempt
user             Failed, InputRefused                                             -
moderation       Failed, Moderated                                                -
transient        Retrying after a pause, DeadLettered when attempts are used up   yes
outage           as transient; the provider's breaker hears of it                 yes
internal         as transient                                                     yes
throttled        back into the queue; the provider slows down                     no
credential       back into the queue; the provider is held until a person acts    no
money            as credential                                                    no
disrupted        again at once; after the second time in a row with a pause;      no
                 back into the queue when the quota had no room for its pod
unknown_outcome  provider.onUnknownOutcome: hold -> Held; fail -> Failed; retry -> as transient, once

A failure that its vendor's table says is worth only n more attempts (`retryLimit`) is given up when it comes an n+1st time
in a row, however many attempts the render's own policy would still allow.
The pause is drawn evenly from 0 to a bound that doubles with each counted attempt ("full jitter"); the vendor's
Retry-After is a lower limit of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, assert_never

from renderfleet_crds.conditions import Reason
from renderfleet_crds.contract import Charged, ErrorCategory, Stage
from renderfleet_crds.phases import Phase

from .actions import News
from .view import COUNTED, Body, Render

RESENDS_OF_UNKNOWN = 1
"""However a call got lost: each resend may be charged once more."""
NO_POD = "NoPod"
"""Code of an attempt whose Job was taken back because the quota had no room for its pod."""

LOST_RUNNERS: Mapping[str, ErrorCategory] = {
    "OOMKilled": ErrorCategory.INTERNAL,
    "DeadlineExceeded": ErrorCategory.TRANSIENT,
    "Evicted": ErrorCategory.DISRUPTED,
    "Disrupted": ErrorCategory.DISRUPTED,
    "JobGone": ErrorCategory.DISRUPTED,
    NO_POD: ErrorCategory.DISRUPTED,
}
"""What a runner's end means when it left no result and cannot have paid; anything else is our own defect."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt failed."""

    category: ErrorCategory
    code: str
    message: str
    charged: Charged = Charged.NO
    retry_after_seconds: float | None = None
    cost_micros: int | None = None
    learned: Mapping[str, int] | None = None
    retry_limit: int | None = None
    """How many more attempts it is worth; None: as many as the render's own policy allows."""
    provider: str | None = None
    """Whose vendor failed; None: the render's own provider."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where the render goes."""

    phase: Phase
    reason: Reason
    message: str
    retry_in_seconds: float | None = None


def failure_of(result: Mapping[str, Any], cost_micros: int | None) -> Failure:
    """What a StageResult that is not done says."""
    return Failure(
        category=ErrorCategory(result.get("category") or ErrorCategory.INTERNAL),
        code=result.get("code") or "unnamed",
        message=result.get("message") or "the runner gave no reason",
        charged=Charged(result.get("charged") or Charged.NO),
        retry_after_seconds=result.get("retryAfterSeconds"),
        cost_micros=cost_micros,
        learned=result.get("learned") or None,
        retry_limit=result.get("retryLimit"),
        provider=result.get("failedProvider"),
    )


def verdict(
    render: Render, stage: Stage, failure: Failure, provider: Mapping[str, Any] | None, chance: float
) -> Verdict:
    """Where the render goes after this attempt of `stage`, which is still open in its status."""
    said = f"{failure.code}: {failure.message}"
    match failure.category:
        case ErrorCategory.USER:
            return Verdict(Phase.FAILED, Reason.INPUT_REFUSED, said)
        case ErrorCategory.MODERATION:
            return Verdict(Phase.FAILED, Reason.MODERATED, said)
        case ErrorCategory.TRANSIENT | ErrorCategory.OUTAGE | ErrorCategory.INTERNAL:
            return _again(render, stage, failure, chance)
        case ErrorCategory.THROTTLED:
            return _unspent(stage, Reason.PROVIDER_THROTTLED, said, 0.0)
        case ErrorCategory.CREDENTIAL | ErrorCategory.MONEY:
            return _unspent(stage, Reason.PROVIDER_HELD, said, 0.0)
        case ErrorCategory.DISRUPTED if failure.code == NO_POD:
            return _unspent(stage, Reason.QUOTA_EXHAUSTED, said, 0.0)
        case ErrorCategory.DISRUPTED:
            pause = _bound(render, _in_a_row(render, stage, "category", ErrorCategory.DISRUPTED) - 1) * chance
            return _unspent(stage, Reason.BACKING_OFF, said, pause)
        case ErrorCategory.UNKNOWN_OUTCOME:
            if stage is Stage.FINALIZE:  # it costs nothing to fetch a file twice
                return _again(render, stage, failure, chance)
            match (provider or {}).get("onUnknownOutcome", "hold"):
                case "retry":
                    return _again(render, stage, replace(failure, retry_limit=RESENDS_OF_UNKNOWN), chance, "category")
                case "fail":
                    return Verdict(Phase.FAILED, Reason.OUTCOME_UNKNOWN, said)
                case _:
                    return Verdict(
                        Phase.HELD,
                        Reason.OUTCOME_UNKNOWN,
                        f"{said}; raise spec.redrive to try again, which may be charged a second time",
                    )
        case unknown:
            assert_never(unknown)


def news_of(category: ErrorCategory) -> News | None:
    """What a failure tells about the vendor; None when it tells nothing."""
    match category:
        case ErrorCategory.USER | ErrorCategory.MODERATION:
            return News.ANSWERED
        case ErrorCategory.OUTAGE | ErrorCategory.UNKNOWN_OUTCOME:
            return News.BROKEN
        case ErrorCategory.THROTTLED:
            return News.THROTTLED
        case ErrorCategory.CREDENTIAL | ErrorCategory.MONEY:
            return News.HELD
        case ErrorCategory.TRANSIENT | ErrorCategory.INTERNAL | ErrorCategory.DISRUPTED:
            return None
        case unknown:
            assert_never(unknown)


def close_attempt(render: Render, ended_at: str, failure: Failure | None, charged: Charged) -> list[Body]:
    """The attempts with the open one ended."""
    attempts = render.attempts
    if not attempts or attempts[-1].get("endedAt"):
        return attempts
    closed = {**attempts[-1], "endedAt": ended_at, "charged": charged.value}
    if failure:
        closed |= {
            "category": failure.category.value,
            "code": failure.code[:128],
            "message": failure.message[:512],
        }
    return [*attempts[:-1], closed]


def _again(
    render: Render, stage: Stage, failure: Failure, chance: float, alike: Literal["code", "category"] = "code"
) -> Verdict:
    """`alike` says which failures before this one count against its limit."""
    used = render.counted_failures(stage) + 1
    allowed = int((render.spec.get("retryPolicy") or {}).get("maxAttempts", 3))
    said = f"{failure.code}: {failure.message}"
    if used >= allowed:
        return Verdict(Phase.DEAD_LETTERED, Reason.ATTEMPTS_EXHAUSTED, f"attempt {used} of {allowed} failed; {said}")
    mark = failure.code[:128] if alike == "code" else failure.category
    if failure.retry_limit is not None and _in_a_row(render, stage, alike, mark) > failure.retry_limit:
        message = f"attempt {used} of {allowed} failed in a way that another would not mend; {said}"
        return Verdict(Phase.DEAD_LETTERED, Reason.ATTEMPTS_EXHAUSTED, message)
    pause = max(_bound(render, used) * chance, failure.retry_after_seconds or 0.0)
    return Verdict(Phase.RETRYING, Reason.BACKING_OFF, f"attempt {used} of {allowed} failed; {said}", pause)


def _unspent(stage: Stage, reason: Reason, said: str, pause: float) -> Verdict:
    """Try again without having used an attempt. The vendor's part of a video is done: that one cannot queue again."""
    if stage is Stage.FINALIZE or reason is Reason.BACKING_OFF:
        return Verdict(Phase.RETRYING, reason, said, pause)
    return Verdict(Phase.QUEUED, reason, said)


def _bound(render: Render, failures: int) -> float:
    """Upper end of the pause after so many failures, in seconds; none after none."""
    if failures < 1:
        return 0.0
    policy = render.spec.get("retryPolicy") or {}
    first, most = float(policy.get("backoffSeconds", 5)), float(policy.get("maxBackoffSeconds", 600))
    return min(most, first * 2.0 ** min(failures - 1, 30))


def _in_a_row(render: Render, stage: Stage, field: str, value: str) -> int:
    """How often this stage just failed like this; the latest attempt, which fails now, is the first of the row."""
    row = 1
    for one in reversed(render.attempts[:-1]):
        if one["stage"] != stage or one.get(field) != value:
            break
        row += 1
    return row


__all__ = ["COUNTED", "LOST_RUNNERS", "Failure", "Verdict", "close_attempt", "failure_of", "news_of", "verdict"]
