"""Carry every change of a render into PostgreSQL, off the hot path, and know which ends are safely there.

Changes of one render between two writes are one change. PostgreSQL away: they wait here, newest only, and finalizers
hold; nothing is lost, because the renders themselves still say it. What was deleted while no operator watched is closed in
the archive after the first listing.
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from renderfleet_crds.conditions import ConditionType
from renderfleet_store.engine import StoreUnavailable
from renderfleet_store.mirror import Mirror, RenderSeen

from .cache import Key
from .clock import Clock
from .decide.view import Render
from .times import whole_seconds

log = structlog.get_logger(__name__)

BATCH = 200
PAUSE_SECONDS = 1.0
"""Changes are gathered for this long: a transaction costs the same for one row as for a hundred."""
LONGEST_PAUSE_SECONDS = 15.0
LATE_SECONDS = 60.0
"""An end that is not stored after this long, or an archive that fails for this long, is worth a write to those it keeps."""
YOUNG = timedelta(minutes=5)
"""A row that is no older may be of a render that a listing could not show yet: clocks differ."""


@dataclass(slots=True)
class Archive:
    """The way into the archive."""

    mirror: Mirror
    clock: Clock
    stored: Callable[[Key], None] = lambda key: None
    """Called for each finished render whose end is safely stored."""
    _waiting: dict[str, tuple[RenderSeen, float]] = field(default_factory=dict)
    _ends: dict[str, tuple[int, bool]] = field(default_factory=dict)
    """The run whose end is stored, and whether its deletion is, of finished renders that our finalizer still holds."""
    _listed: tuple[Collection[str], datetime] | None = None
    """UIDs that the first listing showed, until they were compared with the archive, and how old a row must be for it."""
    _something: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0
    """Since it last answered."""
    _failing_since: float = 0.0
    """When the first of these was (monotonic)."""

    def offer(self, body: dict[str, Any], *, deleted: bool = False) -> None:
        """Have a render's present state stored, soon.

        What is at its end and being deleted is stored as deleted: nobody may be there to see it go.
        """
        if not (body.get("status") or {}).get("phase") and not deleted:
            return  # nothing to tell yet: its first report comes within a second
        render = Render(body)
        deleted = deleted or (render.is_deleting and render.is_finished)
        uid = render.uid
        known = self._waiting.get(uid)
        since = known[1] if known else self.clock.monotonic()
        self._waiting[uid] = (RenderSeen(body, deleted or bool(known and known[0].deleted)), since)
        self._something.set()

    def compare(self, uids: Collection[str]) -> None:
        """Have all others marked as deleted, soon: a listing showed these, and they are all that there are."""
        self._listed = (uids, datetime.fromtimestamp(self.clock.now(), UTC) - YOUNG)
        self._something.set()

    def has_end(self, render: Render) -> bool:
        """The end that this render's status tells of is stored, and so is its deletion, if it is being deleted.

        What came after that end is stored, too: once the finalizer is off, no new operator would offer it again.
        """
        run, deleted = self._ends.get(render.uid, (None, False))
        is_stored = run == render.run and render.uid not in self._waiting
        return render.is_finished and is_stored and (deleted or not render.is_deleting)

    def why_late(self, render: Render) -> str | None:
        """Why a render's latest state is not stored yet; None while that takes no longer than it may."""
        _, since = self._waiting.get(render.uid, (None, None))
        if since is None:
            return None
        now = self.clock.monotonic()
        if self.failures and now - self._failing_since >= LATE_SECONDS:
            stamp = whole_seconds(self.clock.now() - (now - self._failing_since))
            return f"PostgreSQL has not answered since {stamp}; the operator's log says why"
        if now - since >= LATE_SECONDS:
            stamp = whole_seconds(self.clock.now() - (now - since))
            return f"PostgreSQL is slow: what became of it has waited to be stored since {stamp}"
        return None

    def late(self) -> list[Key]:
        """Finished renders that our finalizer holds, whose end is late, and that were not told so."""
        seen = (Render(one.body) for one, _ in self._waiting.values())
        return [
            Key(render.kind, render.namespace, render.name)
            for render in seen
            if self.why_late(render) is not None
            and render.is_finished
            and render.has_finalizer
            and render.condition(ConditionType.ARCHIVED) is None
        ]

    def forget(self, uid: str) -> None:
        """Its finalizer is off, or it is gone: nobody will ask again."""
        self._ends.pop(uid, None)

    def lag_seconds(self) -> float:
        """How long the oldest change has been waiting to be stored."""
        oldest = min((since for _, since in self._waiting.values()), default=None)
        return 0.0 if oldest is None else max(0.0, self.clock.monotonic() - oldest)

    def __len__(self) -> int:
        return len(self._waiting)

    async def run(self) -> None:
        """Store what is offered, until cancelled."""
        pause = PAUSE_SECONDS
        while True:
            self._something.clear()
            if not self._waiting and self._listed is None:
                await self._something.wait()
            try:
                await self.flush()
                await self._close_absent()
                pause = PAUSE_SECONDS
                self.failures = 0
            except StoreUnavailable as away:
                if not self.failures:
                    self._failing_since = self.clock.monotonic()
                self.failures += 1
                pause = min(LONGEST_PAUSE_SECONDS, max(1.0, pause * 2))
                log.warning("the archive does not answer", error=str(away), waiting=len(self._waiting), again_in=pause)
            await asyncio.sleep(pause)

    async def flush(self) -> None:
        """Store all that waits. Raises StoreUnavailable; what was not stored keeps waiting."""
        while self._waiting:
            batch = dict(list(self._waiting.items())[:BATCH])
            stored = await self.mirror.record([seen for seen, _ in batch.values()])
            for uid, entry in batch.items():
                if self._waiting.get(uid) is entry:
                    del self._waiting[uid]
                if uid in stored:
                    self._note(entry[0])

    async def _close_absent(self) -> None:
        listed = self._listed
        if listed is None:
            return
        if closed := await self.mirror.close_absent(*listed):
            log.info("renders were deleted while nobody watched", count=closed)
        if self._listed is listed:  # and not a newer one that came meanwhile
            self._listed = None

    def _note(self, seen: RenderSeen) -> None:
        render = Render(seen.body)
        if not render.is_finished or not render.has_finalizer:
            return
        self._ends[render.uid] = (render.run, seen.deleted)
        self.stored(Key(render.kind, render.namespace, render.name))
