"""The one path for every kind and every event: observe, decide, execute."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

import structlog

from renderfleet_crds.kinds import RENDER_PROVIDER, RENDER_TENANT
from renderfleet_store.media import MediaUnavailable

from .archive import Archive
from .cache import Cache, Key
from .clock import Clock
from .decide.actions import Action, WriteStatus
from .decide.lifecycle import decide
from .decide.view import Render
from .errors import NotYet
from .execute import Executor
from .fleet import Fleet
from .intake import ADMISSION, PLACES
from .metrics import Metrics
from .observe import Observer
from .providers import Providers
from .queue import WorkQueue
from .tenants import Tenants

log = structlog.get_logger(__name__)

PLACES_EVERY_SECONDS = 1.0
PLACES_OF_MANY_EVERY_SECONDS = 5.0
MANY = 500
BUSY = 32
"""Keys ready at a time from which on reports of waiting stand back."""
SLOW_WORK_SECONDS = 0.25
"""Likewise when a look usually takes longer than this: the API server is busy, and news can wait."""
BUSY_REPORTS_PER_SECOND = 0.2
REASON_AGAIN_SECONDS = 2.0
"""A new reason to wait is told this soon after the last telling; a new position later."""
_REMEMBERED = 50_000


@dataclass(slots=True)
class ReportBudget:
    """How many writes may go into telling renders why they wait, and how far they are."""

    clock: Clock
    queue: WorkQueue
    per_second: float = 10.0
    every_seconds: float = 3.0
    _tokens: float = 0.0
    _at: float = 0.0
    _told: OrderedDict[Key, float] = field(default_factory=OrderedDict)

    def tokens(self) -> float:
        """Writes that may be made now."""
        now = self.clock.monotonic()
        is_busy = len(self.queue) > BUSY or self.queue.usual_seconds > SLOW_WORK_SECONDS
        rate = BUSY_REPORTS_PER_SECOND if is_busy else self.per_second
        self._tokens = min(self.per_second, self._tokens + (now - self._at) * rate) if self._at else self.per_second
        self._at = now
        return self._tokens

    def told_ago(self, key: Key) -> float:
        """Seconds since this render was last told."""
        at = self._told.get(key)
        return 1e9 if at is None else self.clock.monotonic() - at

    def allows(self, key: Key) -> bool:
        """A write that only tells this render's news may be made now."""
        return self.told_ago(key) >= REASON_AGAIN_SECONDS and self.tokens() >= 1

    def spent(self, key: Key) -> None:
        """It was made; what had to be, whatever the budget said, is owed for about a second of it and no longer."""
        self._tokens = max(-self.per_second, self._tokens - 1)
        self._told[key] = self.clock.monotonic()
        self._told.move_to_end(key)
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)


@dataclass(slots=True)
class Reconciler:
    """Does the work of one key."""

    cache: Cache
    fleet: Fleet
    queue: WorkQueue
    observer: Observer
    executor: Executor
    archive: Archive
    tenants: Tenants
    providers: Providers
    budget: ReportBudget
    metrics: Metrics
    clock: Clock

    async def __call__(self, key: Hashable) -> None:
        """Look at what `key` stands for, once."""
        assert isinstance(key, Key)
        match key.kind:
            case ADMISSION.kind:
                self._admit()
            case PLACES.kind:
                self._places()
            case RENDER_TENANT.kind:
                again = await self.tenants.reconcile(key.name)
                await self.tenants.report_spending(key.name)
                if again is not None:
                    self.queue.put(key, after=again)
            case RENDER_PROVIDER.kind:
                again = await self.providers.reconcile(key.name)
                if again is not None:
                    self.queue.put(key, after=max(0.1, again))
            case _:
                await self.render(key)

    async def render(self, key: Key) -> None:
        """Look at one render."""
        body = self.cache.render(key)
        if body is None:
            return
        render = Render(body)
        try:
            seen = await self.observer.observe(key, body)
            todo = decide(render, seen)
            self._count_report(key, render, todo)
            await self.executor.run(key, todo, seen)
        except MediaUnavailable as away:
            raise NotYet(f"object storage does not answer: {away}"[:200], 2) from away

    def _count_report(self, key: Key, before: Render, todo: list[Action]) -> None:
        for action in todo:
            if isinstance(action, WriteStatus) and _is_mere_news(before, action):
                self.budget.spent(key)

    def _admit(self) -> None:
        begun = self.clock.monotonic()
        keys, again_in = self.fleet.run_pass()
        self.metrics.admission_seconds.observe(self.clock.monotonic() - begun)
        for key in keys:
            self.queue.put(key)
        if again_in is not None:
            self.queue.put(ADMISSION, after=max(0.02, again_in))

    def _places(self) -> None:
        """Tell waiting renders where they stand, and finished ones that the archive keeps them.

        Those come first that were told nothing yet, as far as writes are left.
        """
        keys = [*self.fleet.run_places(), *self.archive.late()]
        left = int(self.budget.tokens())
        for key in sorted(keys, key=self.budget.told_ago, reverse=True)[: max(0, left)]:
            if self.budget.told_ago(key) >= self.budget.every_seconds:
                self.queue.put(key)
        is_much = len(keys) > MANY or self.fleet.reckoned() > MANY
        self.queue.put(PLACES, after=PLACES_OF_MANY_EVERY_SECONDS if is_much else PLACES_EVERY_SECONDS)


def _is_mere_news(before: Render, write: WriteStatus) -> bool:
    """The write moves nothing: it tells a position, a reason to wait, progress, or what the archive does."""
    return write.status.get("queue") is not None or write.status["phase"] == before.status.get("phase")
