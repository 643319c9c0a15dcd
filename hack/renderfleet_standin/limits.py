"""Limits that are really kept: so many per window of time."""

import time
from collections import deque
from collections.abc import Callable


class Window:
    """At most `limit` units in any `seconds`; a limit of 0 means none."""

    def __init__(self, limit: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.seconds = seconds
        self._clock = clock
        self._taken: deque[tuple[float, int]] = deque()

    def _forget_old(self) -> None:
        while self._taken and self._taken[0][0] <= self._clock() - self.seconds:
            self._taken.popleft()

    @property
    def used(self) -> int:
        """Units taken in the window that ends now."""
        self._forget_old()
        return sum(units for _, units in self._taken)

    @property
    def reset_seconds(self) -> float:
        """Seconds until the window is empty again."""
        self._forget_old()
        return max(0.0, self._taken[-1][0] + self.seconds - self._clock()) if self._taken else 0.0

    def wait_for(self, units: int) -> float:
        """Seconds until `units` fit, 0.0 if they fit now; a request larger than the limit waits for a whole window."""
        if self.limit == 0 or self.used + units <= self.limit:
            return 0.0
        excess = self.used + units - self.limit
        for at, taken in self._taken:
            excess -= taken
            if excess <= 0:
                return max(0.001, at + self.seconds - self._clock())
        return self.seconds

    def take(self, units: int) -> None:
        """Count `units` as used now."""
        self._taken.append((self._clock(), units))

    def clear(self) -> None:
        """Forget what was taken."""
        self._taken.clear()
