"""Decide what a try means. Pure: no clock, no randomness, no I/O.

2xx                      -> delivered
410                      -> failed, and the endpoint is disabled: it said that it is gone for good
anything else            -> again after the schedule's next pause, or Retry-After when that is longer
the schedule is used up  -> failed; when nothing has got through for five days, the endpoint is disabled
Source of the schedule: the Standard Webhooks specification.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

PAUSES_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Between the first try and the second, and so on: ten tries within about three days and a half."""
JITTER = 0.2
LONGEST_RETRY_AFTER_SECONDS = 86_400
GIVE_UP_AFTER = timedelta(days=5)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the delivery and its endpoint."""

    state: str
    next_at: datetime | None = None
    disable: str | None = None
    """Why the endpoint is to be disabled, if so."""


def judge(
    *,
    status: int | None,
    tries_before: int,
    now: datetime,
    chance: float,
    retry_after_seconds: float | None = None,
    failing_since: datetime | None = None,
) -> Verdict:
    """What follows from a try; `status` is None without an answer, `chance` is evenly drawn from 0 to 1."""
    if status is not None and 200 <= status < 300:
        return Verdict("delivered")
    if status == 410:
        return Verdict("failed", disable="The endpoint answered 410 Gone.")
    if tries_before >= len(PAUSES_SECONDS):
        hopeless = failing_since is not None and now - failing_since > GIVE_UP_AFTER
        return Verdict("failed", disable="No delivery has succeeded for five days." if hopeless else None)
    pause = PAUSES_SECONDS[tries_before] * (1 + JITTER * chance)
    asked = min(retry_after_seconds or 0, LONGEST_RETRY_AFTER_SECONDS)
    return Verdict("pending", now + timedelta(seconds=max(pause, asked)))


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or a date; None when it says neither."""
    from email.utils import parsedate_to_datetime

    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (ValueError, TypeError):
        return None
