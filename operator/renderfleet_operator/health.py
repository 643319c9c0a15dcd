"""Decide whether the process is well. Pure; the kubelet asks often and starts it anew when it is not.

ill         a key is ready and no worker moved for two minutes, or a watch told nothing although there was something to tell
not ready   it leads and has not listed everything; a stand-by replica is ready to take over
"""

from collections.abc import Mapping

STANDSTILL_SECONDS = 120.0
"""A key that is ready, and no worker moved, for this long: the process is stuck."""


def why_ill(
    *,
    is_listed: bool,
    oldest_seconds: float,
    idle_seconds: float,
    watch_ages: Mapping[str, float],
    resync_seconds: float,
) -> str | None:
    """What stands still, or None.

    oldest_seconds  how long the longest-waiting key has been ready
    idle_seconds    since a worker last took or finished something
    watch_ages      since each watch was heard, or a list proved that it had nothing to tell
    """
    if not is_listed:
        return None
    if oldest_seconds > STANDSTILL_SECONDS and idle_seconds > STANDSTILL_SECONDS:
        return f"the queue stands still: a key is ready for {oldest_seconds:.0f} s"
    limit = 4 * resync_seconds + 60
    dead = [f"{kind} ({age:.0f} s)" for kind, age in watch_ages.items() if age > limit]
    return f"no watch tells of: {', '.join(dead)}" if dead else None


def why_not_ready(*, leads: bool, is_listed: bool) -> str | None:
    """What is still missing, or None."""
    return "the caches are not filled yet" if leads and not is_listed else None
