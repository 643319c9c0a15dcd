"""Deadlines, as a point in time that is handed on, so that nested work can never be given more than is left."""

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
