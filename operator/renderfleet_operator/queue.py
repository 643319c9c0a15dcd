"""The work queue: which key is looked at next. A key stands for an object; what happened to it does not matter.

A key is in the queue once at most, and at one worker at most: what arrives for it meanwhile makes it due again.
Two lanes: urgent work (a runner ended, a status is due) goes before new starts, so that a flood of new renders cannot
delay the ends of others. A key may be put for later; an earlier time wins. A key whose work raised comes back after a
pause that doubles with each failure.
"""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field

import structlog

from .clock import Clock

log = structlog.get_logger(__name__)

Work = Callable[[Hashable], Awaitable[None]]

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 30.0
LONGEST_EXPECTED_PAUSE_SECONDS = 3.0
"""For what others are known to be doing: it should not wait for us once they have."""


@dataclass(slots=True)
class Watcher:
    """What the queue tells of itself; replaced by metrics."""

    waited: Callable[[float], None] = lambda seconds: None
    worked: Callable[[float], None] = lambda seconds: None
    failed: Callable[[], None] = lambda: None


@dataclass(slots=True)
class WorkQueue:
    """Keys and the workers that serve them."""

    work: Work
    clock: Clock
    workers: int = 16
    watcher: Watcher = field(default_factory=Watcher)
    _urgent: deque[Hashable] = field(default_factory=deque)
    _normal: deque[Hashable] = field(default_factory=deque)
    _ready: dict[Hashable, float] = field(default_factory=dict)
    """Keys in one of the lanes, and since when."""
    _busy: dict[Hashable, bool | None] = field(default_factory=dict)
    """Keys at a worker; a value says that they are due again, True: urgently."""
    _later: list[tuple[float, int, Hashable]] = field(default_factory=list)
    _due: dict[Hashable, float] = field(default_factory=dict)
    """The time that counts of a delayed key; older entries of the heap are stale."""
    _failures: dict[Hashable, int] = field(default_factory=dict)
    _count: "itertools.count[int]" = field(default_factory=itertools.count)
    _something: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _is_closing: bool = False
    _timer: asyncio.TimerHandle | None = None
    usual_seconds: float = 0.0
    """How long work takes lately (exponentially weighted)."""
    beat: float = 0.0
    """When a worker last took or finished something (monotonic)."""

    def put(self, key: Hashable, *, after: float = 0.0, urgent: bool = False) -> None:
        """Have `key` looked at, now or `after` so many seconds."""
        if after > 0:
            self._put_later(key, after)
            return
        self._due.pop(key, None)
        if key in self._busy:
            self._busy[key] = urgent or bool(self._busy[key])
            return
        if key in self._ready:
            if urgent:
                self._urgent.append(key)  # its place in the other lane is passed over when its turn comes
            return
        self._ready[key] = self.clock.monotonic()
        (self._urgent if urgent else self._normal).append(key)
        self._something.set()

    def forget(self, key: Hashable) -> None:
        """Drop what is planned for a key that is no more."""
        self._due.pop(key, None)
        self._failures.pop(key, None)

    def __len__(self) -> int:
        return len(self._ready)

    async def drain(self) -> None:
        """Take nothing more, and wait until what is in hand is done."""
        self._is_closing = True
        while self._busy:
            self._idle.clear()
            await self._idle.wait()

    def oldest_seconds(self) -> float:
        """How long the longest-waiting key has been ready."""
        oldest = next(iter(self._ready.values()), None)
        return max(0.0, self.clock.monotonic() - oldest) if oldest is not None else 0.0

    async def run(self) -> None:
        """Serve keys until cancelled."""
        self._something = asyncio.Event()
        if self._ready:
            self._something.set()
        self.beat = self.clock.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(self.workers):
                group.create_task(self._serve(), name=f"worker-{number}")

    async def _serve(self) -> None:
        while True:
            while self._is_closing or not (self._urgent or self._normal):
                self._something.clear()
                await self._something.wait()
            key = (self._urgent or self._normal).popleft()
            if key in self._ready:
                await self.serve(key)

    async def serve(self, key: Hashable) -> None:
        """Do the work of one key that was taken from a lane."""
        begun = self.beat = self.clock.monotonic()
        self.watcher.waited(begun - self._ready.pop(key, begun))
        self._busy[key] = None
        try:
            await self.work(key)
        except asyncio.CancelledError:
            raise
        except Exception as failed:
            self._retry(key, failed)
        else:
            self._failures.pop(key, None)
        finally:
            again = self._busy.pop(key)
            if not self._busy:
                self._idle.set()
            self.beat = self.clock.monotonic()
            self.usual_seconds += 0.05 * (self.beat - begun - self.usual_seconds)
            self.watcher.worked(self.beat - begun)
            if again is not None:
                self.put(key, urgent=again)

    def _retry(self, key: Hashable, failed: Exception) -> None:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(count - 1, 20))
        self.watcher.failed()
        asked = getattr(failed, "retry_after_seconds", None)
        expected = getattr(failed, "is_expected", False)
        if asked:
            pause = max(min(pause, LONGEST_EXPECTED_PAUSE_SECONDS) if expected else pause, float(asked))
        say = log.info if expected else log.warning
        say(
            "work failed",
            key=str(key),
            error=f"{type(failed).__name__}: {failed}"[:300],
            again_in=pause,
            failures=count,
        )
        if not expected and count == 1:
            log.debug("where", key=str(key), exc_info=failed)
        self.put(key, after=pause)

    def _put_later(self, key: Hashable, after: float) -> None:
        due = self.clock.monotonic() + after
        known = self._due.get(key)
        if known is not None and known <= due:
            return
        self._due[key] = due
        heapq.heappush(self._later, (due, next(self._count), key))
        if self._later[0][2] == key:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._later:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        pause = max(0.0, self._later[0][0] - self.clock.monotonic())
        self._timer = loop.call_later(pause, self.wake)

    def wake(self) -> None:
        """Make ready what is due by now."""
        now = self.clock.monotonic()
        while self._later and self._later[0][0] <= now + 0.001:
            due, _, key = heapq.heappop(self._later)
            if self._due.get(key) == due:
                del self._due[key]
                self.put(key)
        if len(self._later) > 1024 and len(self._later) > 4 * len(self._due):
            self._later = [entry for entry in self._later if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._later)
        self._arm()
