"""Deadlines, as a point in time that is handed on, so that nested work can never be given more than is left."""

import asyncio
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """`seconds` from now."""
        return cls(time.monotonic() + seconds)

    def seconds_left(self) -> float:
        """Never negative."""
        return max(0.0, self.at - time.monotonic())

    def earlier(self, seconds: float) -> "Deadline":
        """The same, with `seconds` kept back for what comes after."""
        return Deadline(self.at - seconds)

    def within(self, seconds: float) -> "Deadline":
        """This one, or `seconds` from now when that is sooner."""
        return Deadline(min(self.at, time.monotonic() + seconds))


class Stop:
    """Whether and when the pod was told to end."""

    def __init__(self) -> None:
        self._told = asyncio.Event()
        self._at = 0.0

    def tell(self) -> None:
        """SIGTERM has come. Later ones change nothing: the grace counts from the first."""
        if not self._told.is_set():
            self._at = time.monotonic()
            self._told.set()

    @property
    def is_told(self) -> bool:
        """Whether it has come."""
        return self._told.is_set()

    async def wait(self) -> None:
        """Until it comes."""
        await self._told.wait()

    def deadline(self, grace_seconds: float) -> Deadline:
        """When SIGKILL follows. Only meaningful once told."""
        return Deadline(self._at + grace_seconds)
