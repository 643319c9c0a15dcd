"""Times as the API writes them. Pure: nobody here asks what time it is."""

from datetime import UTC, datetime
from functools import lru_cache


def rfc3339(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds, from seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def whole_seconds(seconds: float) -> str:
    """RFC 3339 as the types of Kubernetes itself want it: no fraction."""
    return _whole(int(seconds))


@lru_cache(maxsize=64)
def _whole(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=8192)
def seconds_of(text: str) -> float:
    """Seconds since 1970. Raises ValueError for what is no RFC 3339 time: status is ours alone, so that is a defect."""
    return datetime.fromisoformat(text).timestamp()
