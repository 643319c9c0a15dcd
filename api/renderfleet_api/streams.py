"""Live updates: one reader of the database per process feeds all listeners.

A wake-up says which namespaces have news; every two seconds all that somebody listens to are asked anyway, since a
wake-up may be lost. Each namespace has its own cursor: numbers become visible in order only within one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

import orjson
import structlog
from prometheus_client import Gauge
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncEngine

from renderfleet_store import jobs, wakeups
from renderfleet_store.engine import StoreUnavailable, transaction

log = structlog.get_logger(__name__)

LISTENERS = Gauge("renderfleet_api_listeners", "Open event streams")
_POLL_SECONDS = 2.0
_GATHER_SECONDS = 0.02
"""Wake-ups this close together are answered by one query."""
_BACKLOG = 1000


class Lagging(Exception):
    """This listener reads too slowly; it must start again from its last event."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job. Its data are encoded once, however many listen."""

    seq: int
    namespace: str
    uid: str
    type: str
    json: str

    @classmethod
    def of(cls, row: RowMapping) -> Self:
        """A row of `job_events`."""
        return cls(row["seq"], row["namespace"], row["uid"], row["type"], orjson.dumps(row["data"]).decode())


@dataclass(eq=False)
class Listener:
    """One open stream: the events of a namespace, or of one job in it."""

    namespace: str
    uid: str | None
    queue: "asyncio.Queue[Event | None]" = field(default_factory=lambda: asyncio.Queue(_BACKLOG))
    lagging: bool = False

    def offer(self, event: Event | None) -> None:
        """Hand over an event; None ends the stream."""
        try:
            self.queue.put_nowait(event)
        except asyncio.QueueFull:
            self.lagging = True

    async def next(self) -> Event | None:
        """The next event, or None when the process is going down. Raises Lagging."""
        if self.lagging:
            raise Lagging
        return await self.queue.get()


class Hub:
    """Hands events to listeners, without gaps and in order."""

    def __init__(self, engine: AsyncEngine, direct_url: str, poll_seconds: float = _POLL_SECONDS) -> None:
        self._engine = engine
        self._direct_url = direct_url
        self._poll_seconds = poll_seconds
        self._listeners: dict[str, set[Listener]] = {}
        self._cursors: dict[str, int] = {}
        self._woken: set[str] = set()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    async def start(self) -> None:
        """Begin to read."""
        self._tasks = [asyncio.create_task(self._hear()), asyncio.create_task(self._read())]

    def end_streams(self) -> None:
        """End all streams, so that the server can go down; clients resume elsewhere."""
        self._closed = True
        for listeners in self._listeners.values():
            for one in listeners:
                one.offer(None)

    async def close(self) -> None:
        """End all streams and stop reading."""
        self.end_streams()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    @asynccontextmanager
    async def listen(self, namespace: str, uid: str | None = None) -> AsyncIterator[Listener]:
        """Subscribe. Everything committed from now on arrives; read what was before from the database *after* this."""
        listener = Listener(namespace, uid)
        if namespace not in self._cursors:
            async with transaction(self._engine) as connection:
                self._cursors.setdefault(namespace, await jobs.latest_event(connection, namespace))
        if self._closed:
            listener.offer(None)
        self._listeners.setdefault(namespace, set()).add(listener)
        LISTENERS.inc()
        try:
            yield listener
        finally:
            LISTENERS.dec()
            self._listeners[namespace].discard(listener)
            if not self._listeners[namespace]:
                del self._listeners[namespace]
                self._cursors.pop(namespace, None)

    async def _hear(self) -> None:
        async for namespace, _ in wakeups.listen(self._direct_url):
            if namespace in self._listeners:
                self._woken.add(namespace)
                self._wake.set()

    async def _read(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._poll_seconds):
                    await self._wake.wait()
                await asyncio.sleep(_GATHER_SECONDS)
                wanted = self._woken & self._listeners.keys()
            except TimeoutError:
                wanted = set(self._listeners)
            self._woken = set()
            self._wake.clear()
            try:
                await self._hand_out(wanted)
            except StoreUnavailable as away:
                log.warning("events wait for the database", error=str(away))
            except Exception:
                # This task feeds every stream of the process: it may fail, it may not end.
                log.exception("events could not be read")

    async def _hand_out(self, namespaces: set[str]) -> None:
        cursors = {name: self._cursors[name] for name in namespaces if name in self._cursors}
        if not cursors:
            return
        async with transaction(self._engine) as connection:
            rows = await jobs.news(connection, cursors)
        for event in map(Event.of, rows):
            namespace = event.namespace
            if namespace not in self._cursors or event.seq <= self._cursors[namespace]:
                continue
            self._cursors[namespace] = event.seq
            for listener in self._listeners.get(namespace, ()):
                if listener.uid is None or listener.uid == event.uid:
                    listener.offer(event)
