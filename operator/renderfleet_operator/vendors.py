"""Ask vendors what is free to ask: how a job is, whether one exists, whether an account works again."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from renderfleet_crds.contract import ErrorCategory
from renderfleet_crds.render_provider import Price
from renderfleet_providers import costs
from renderfleet_providers.errors import VendorError
from renderfleet_providers.ports import Adapter, Health, JobState, TalkingVideoMaker, VendorJobSeen
from renderfleet_providers.registry import connect

from .cache import Cache, Key
from .clock import Clock, chance_of
from .decide.actions import Answer, News, TellProvider
from .decide.observed import VendorLook
from .decide.view import Render
from .errors import NotYet
from .secrets import VendorKeys

log = structlog.get_logger(__name__)

QUESTION_SECONDS = 30.0
"""Total time for one free question."""
AT_A_TIME = 8
"""Looks per provider at a time."""
GRACE_SECONDS = 30.0
"""A vendor may not know a job that it has just accepted."""
_NEWS = {
    ErrorCategory.CREDENTIAL: News.HELD,
    ErrorCategory.MONEY: News.HELD,
    ErrorCategory.THROTTLED: News.THROTTLED,
}
"""What a refused look tells of the account; told once a minute, however many jobs are looked at."""


@dataclass(slots=True)
class VendorDesk:
    """Open lines to the vendors: one per provider, opened anew when its spec or key changes."""

    cache: Cache
    keys: VendorKeys
    _lines: dict[str, tuple[tuple[int, str], Adapter]] = field(default_factory=dict)

    async def adapter(self, provider: str) -> Adapter:
        """A line to a provider. Raises CredentialsMissing, NotYet."""
        body = self.cache.providers.get(provider)
        if body is None:
            raise NotYet(f"there is no RenderProvider {provider}", 10)
        key = await self.keys.read(provider)
        mark = (int(body["metadata"].get("generation") or 0), key.version)
        known = self._lines.get(provider)
        if known is not None and known[0] == mark:
            return known[1]
        spec = body["spec"]
        made = connect(spec["vendor"], spec["baseUrl"], key.value, spec.get("options") or {}, QUESTION_SECONDS)
        self._lines[provider] = (mark, made)
        if known is not None:
            await known[1].aclose()
        return made

    async def video_maker(self, provider: str) -> TalkingVideoMaker:
        """As `adapter`, for a vendor that makes videos."""
        made = await self.adapter(provider)
        if not isinstance(made, TalkingVideoMaker):
            raise NotYet(f"{provider} makes no videos", 60)
        return made

    async def probe(self, provider: str) -> Health:
        """Ask something free that needs the key. Raises VendorError, CredentialsMissing."""
        return await (await self.adapter(provider)).probe()

    async def close(self) -> None:
        """Close all lines."""
        for _, line in self._lines.values():
            await line.aclose()
        self._lines.clear()

    def cost_micros(self, render: Render, usage: dict[str, int] | None) -> int | None:
        """What these counts cost by the providers' price lists; None without counts or prices."""
        if not usage:
            return None
        own, script = costs.split_usage(usage)
        total, priced = 0, False
        for name, counts in zip(render.providers, (own, script), strict=False):
            prices = self.prices(name)
            priced = priced or bool(prices)
            total += costs.cost_micros(counts, prices)
        return total if priced else None

    def prices(self, provider: str) -> list[Price]:
        """A provider's price list."""
        spec = (self.cache.providers.get(provider) or {}).get("spec") or {}
        return [Price.model_construct(unit=one["unit"], micros=int(one["micros"])) for one in spec.get("prices") or ()]


@dataclass(slots=True)
class _Watched:
    key: Key
    provider: str
    job_id: str
    since: float
    failures: int = 0
    is_asking: bool = False


@dataclass(slots=True)
class VendorWatch:
    """Looks at vendors' jobs now and then: the reason why no pod lives while a vendor works.

    Looks are spread by jitter, at most a few per provider at a time, and come at once when somebody says `look_now`.
    """

    desk: VendorDesk
    clock: Clock
    moved: Callable[[Key], None]
    """Called when a look shows something new."""
    tell: Callable[[TellProvider], None] = lambda news: None
    looks: dict[str, VendorLook] = field(default_factory=dict)
    """The last look by the render's UID, be it at a job of an earlier attempt."""
    discarded: dict[str, dict[str, Answer]] = field(default_factory=dict)
    """By the render's UID and the vendor's id of a job: the answer to being told that nobody waits for it."""
    _watched: dict[str, _Watched] = field(default_factory=dict)
    _due: list[tuple[float, int, str]] = field(default_factory=list)
    _count: "itertools.count[int]" = field(default_factory=itertools.count)
    _something: asyncio.Event = field(default_factory=asyncio.Event)
    _asking: dict[str, int] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def watch(self, key: Key, uid: str, provider: str, job_id: str) -> None:
        """Look at this job until it ends or is forgotten."""
        known = self._watched.get(uid)
        if known is not None and known.job_id == job_id:
            return
        self.looks.pop(uid, None)
        self._watched[uid] = _Watched(key, provider, job_id, self.clock.monotonic())
        spread = self._pause(provider) * chance_of(uid, job_id)
        self._plan(uid, spread)

    def look_at(self, uid: str, job_id: str | None) -> VendorLook | None:
        """The last look at this very job of a render."""
        look = self.looks.get(uid)
        return look if look is not None and look.job_id == job_id else None

    def look_now(self, uid: str) -> bool:
        """Somebody says that there is news; False when nobody waits for that render's job."""
        if uid not in self._watched:
            return False
        self._plan(uid, 0.0)
        return True

    def forget(self, uid: str) -> None:
        """Nobody waits for it any more."""
        self._watched.pop(uid, None)
        self.looks.pop(uid, None)
        self.discarded.pop(uid, None)

    def discard(self, uid: str, job_id: str, answer: Answer) -> None:
        """The vendor was told to forget this job: look no more, but keep what was seen, for the bill."""
        self._watched.pop(uid, None)
        self.discarded.setdefault(uid, {})[job_id] = answer

    def __len__(self) -> int:
        return len(self._watched)

    async def run(self) -> None:
        """Look, until cancelled."""
        try:
            while True:
                self._something.clear()
                pause = self._start_due()
                try:
                    async with asyncio.timeout(pause):
                        await self._something.wait()
                except TimeoutError:
                    pass
        finally:
            for task in self._tasks:
                task.cancel()

    def _start_due(self) -> float | None:
        """Begin what is due; comes back with the seconds until the next one."""
        now = self.clock.monotonic()
        while self._due and self._due[0][0] <= now:
            _, _, uid = heapq.heappop(self._due)
            watched = self._watched.get(uid)
            if watched is None or watched.is_asking:
                continue
            if self._asking.get(watched.provider, 0) >= AT_A_TIME:
                self._plan(uid, 0.2)
                continue
            watched.is_asking = True
            self._asking[watched.provider] = self._asking.get(watched.provider, 0) + 1
            task = asyncio.create_task(self._ask(uid, watched))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return max(0.0, self._due[0][0] - now) if self._due else None

    async def _ask(self, uid: str, watched: _Watched) -> None:
        asked_pause = 0.0
        try:
            look = await self.look(watched.key, watched.provider, watched.job_id, watched.since)
            watched.failures = 0
        except (VendorError, NotYet) as failed:
            watched.failures += 1
            look = None
            asked_pause = failed.retry_after_seconds or 0.0
            log.info("no look at a vendor's job", provider=watched.provider, error=str(failed)[:200])
        except Exception:
            watched.failures += 1
            look = None
            log.exception("no look at a vendor's job", provider=watched.provider)
        finally:
            watched.is_asking = False
            self._asking[watched.provider] -= 1
        if self._watched.get(uid) is not watched:
            return
        pause = self._pause(watched.provider) * (0.8 + 0.4 * chance_of(uid, self.clock.monotonic()))
        self._plan(uid, max(asked_pause, pause * 2 ** min(watched.failures, 4)))
        if look is not None:
            self._note(uid, watched, look)

    def _note(self, uid: str, watched: _Watched, look: VendorLook) -> None:
        before = self.looks.get(uid)
        self.looks[uid] = look
        if look.state != "working":
            self._watched.pop(uid, None)
        if (
            before is None
            or before.state != look.state
            or before.vendor_status != look.vendor_status
            or abs((before.progress or 0) - (look.progress or 0)) >= 5
            or look.progress is None
        ):
            self.moved(watched.key)

    async def look(self, key: Key, provider: str, job_id: str, since: float) -> VendorLook | None:
        """One look. None when the vendor does not know the job yet. Raises VendorError, NotYet."""
        maker = await self.desk.video_maker(provider)
        body = self.desk.cache.render(key)
        try:
            seen = await maker.look(job_id)
        except VendorError as failed:
            if news := _NEWS.get(failed.category):
                token = f"look/{provider}/{failed.category}/{int(self.clock.now() // 60)}"
                message = f"{failed.code}: {failed.message}"
                self.tell(TellProvider(provider, token, news, message, failed.retry_after_seconds))
            if failed.category is not ErrorCategory.USER:
                raise
            if self.clock.monotonic() - since < GRACE_SECONDS:
                return None
            return VendorLook(
                state="failed",
                at=self.clock.now(),
                vendor_status="unknown",
                category=ErrorCategory.TRANSIENT,
                code=failed.code,
                message=failed.message,
                job_id=job_id,
            )
        return self._as_look(job_id, seen, Render(body) if body else None)

    def _as_look(self, job_id: str, seen: VendorJobSeen, render: Render | None) -> VendorLook:
        error = seen.error
        cost = self.desk.cost_micros(render, _usage(seen, render)) if render and seen.state is JobState.DONE else None
        return VendorLook(
            state=seen.state.value,
            at=self.clock.now(),
            vendor_status=seen.vendor_status,
            progress=seen.progress,
            result_url=seen.result_url,
            cost_micros=cost,
            category=error.category.value if error else None,
            code=error.code if error else None,
            message=error.message if error else None,
            retry_limit=error.retry_limit if error else None,
            job_id=job_id,
            **({"charged": error.charged} if error else {}),
        )

    def _pause(self, provider: str) -> float:
        spec: dict[str, Any] = (self.desk.cache.providers.get(provider) or {}).get("spec") or {}
        return float(spec.get("pollSeconds", 5))

    def _plan(self, uid: str, after: float) -> None:
        heapq.heappush(self._due, (self.clock.monotonic() + after, next(self._count), uid))
        self._something.set()


def _usage(seen: VendorJobSeen, render: Render) -> dict[str, int]:
    """What the job is counted as: what the vendor was seen to take for it goes before the adapter's guess by its length."""
    taken = (render.status.get("provider") or {}).get("credits")
    return {**seen.usage, **({"credits": int(taken)} if taken is not None else {})}
