"""How long, how much and when, for people."""

from datetime import UTC, datetime

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def moment(text: str | None) -> datetime | None:
    """A point in time out of RFC 3339, or None for none. Raises ValueError for anything else."""
    if not text:
        return None
    when = datetime.fromisoformat(text)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def seconds_between(start: datetime | None, end: datetime | None) -> float | None:
    """Seconds from one moment to a later one, never less than 0: clocks of two machines differ."""
    if start is None or end is None:
        return None
    return max(0.0, (end - start).total_seconds())


def spell(seconds: float) -> str:
    """A length of time in words, in one unit or two: `40 seconds`, `2 hours 5 minutes`."""
    whole = round(seconds)
    if whole < 1:
        return "less than a second"
    for size, name, smaller_size, smaller in (
        (_DAY, "day", _HOUR, "hour"),
        (_HOUR, "hour", _MINUTE, "minute"),
    ):
        if whole >= size:
            rest = whole % size // smaller_size
            return _count(whole // size, name) + (f" {_count(rest, smaller)}" if rest else "")
    if whole >= _MINUTE * 2:
        return _count(min(59, round(whole / _MINUTE)), "minute")
    return _count(whole, "second")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def plural(number: int, noun: str) -> str:
    """`1 render`, `2 renders`."""
    return _count(number, noun)


def age(seconds: float | None) -> str:
    """A length of time in a table's column, as kubectl writes it: `45s`, `5m12s`, `3h`, `2d4h`."""
    if seconds is None:
        return ""
    whole = int(max(0, seconds))
    if whole < 2 * _MINUTE:
        return f"{whole}s"
    if whole < 10 * _MINUTE:
        return f"{whole // _MINUTE}m" + (f"{whole % _MINUTE}s" if whole % _MINUTE else "")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 8 * _HOUR:
        return f"{whole // _HOUR}h" + (f"{whole % _HOUR // _MINUTE}m" if whole % _HOUR >= _MINUTE else "")
    if whole < 2 * _DAY:
        return f"{whole // _HOUR}h"
    if whole < 8 * _DAY:
        return f"{whole // _DAY}d" + (f"{whole % _DAY // _HOUR}h" if whole % _DAY >= _HOUR else "")
    return f"{whole // _DAY}d"


def money(micros: int | None, currency: str = "USD") -> str:
    """Millionths of a currency unit as an exact amount: `0.0315 USD`; at least two decimals, empty for None."""
    if micros is None:
        return ""
    sign = "-" if micros < 0 else ""
    units, rest = divmod(abs(micros), 1_000_000)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{units:,}.{decimals} {currency}"


def clock(when: datetime) -> str:
    """The time of day where the reader is."""
    return when.astimezone().strftime("%H:%M:%S")


def utc_now() -> datetime:
    """The present."""
    return datetime.now(UTC)
