"""kopf's part: watch our own kinds and hand them in. Nothing is decided here, nothing is stored, nothing is patched.

Only `on.event` handlers: they need no finalizer, no annotation and no progress of kopf's own.
"""

import asyncio
import contextlib
import itertools
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import kopf
import uvloop

from renderfleet_client.login import Login

from .intake import PAGE, SOURCES, Intake, Source

SERVER_TIMEOUT_SECONDS = 300
INACTIVITY_SECONDS = 70.0
"""Bookmarks come every minute at the latest; a watch without any is dead."""
LONGEST_PAUSE_SECONDS = 15.0
OURS = tuple(source for source in SOURCES if source.is_ours)


class _Pauses:
    """Between tries of a request: growing, capped, jittered and without end, as kopf gives up when they end."""

    def __iter__(self) -> Iterator[float]:
        for count in itertools.count():
            yield min(LONGEST_PAUSE_SECONDS, 0.5 * 2.0 ** min(count, 10)) * random.uniform(0.5, 1.0)  # noqa: S311


class _NoDiff(kopf.DiffBaseStorage):
    """We never ask what changed, so nothing is copied to find out."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> Any:
        return {}

    def fetch(self, *, body: kopf.Body) -> Any:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    """`on.event` handlers have no progress to store."""

    def fetch(self, *, key: Any, body: kopf.Body) -> Any:
        return None

    def store(self, *, key: Any, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        return None

    def purge(self, *, key: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        return None

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


HandOver = Callable[[str, str | None, Any], None]
"""Takes (kind, event type or None for a listed object, raw body)."""


def make_registry(hand_over: HandOver, login: Login) -> kopf.OperatorRegistry:
    """Handlers for our own kinds."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.ConnectionInfo:
        """As the rest of the operator: kopf would pick any client library that happens to be installed."""
        return kopf.ConnectionInfo(
            server=login.server,
            ca_data=login.ca_data,
            insecure=login.insecure,
            token=login.token(),
            certificate_data=login.client_cert,
            private_key_data=login.client_key,
            default_namespace=login.default_namespace,
        )

    for source in OURS:
        _follow(registry, hand_over, source)
    return registry


def _follow(registry: kopf.OperatorRegistry, hand_over: HandOver, source: Source) -> None:
    resource = source.resource

    @kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id=f"{source.kind}-seen")
    async def seen(event: Any, **_: Any) -> None:
        hand_over(source.kind, event["type"], event["object"])


def make_settings() -> kopf.OperatorSettings:
    """kopf without all that it would do by itself."""
    settings = kopf.OperatorSettings()
    settings.process.ultimate_exiting_timeout = None
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = SERVER_TIMEOUT_SECONDS
    settings.watching.client_timeout = SERVER_TIMEOUT_SECONDS + 30
    settings.watching.inactivity_timeout = INACTIVITY_SECONDS
    settings.watching.chunk_size = PAGE
    settings.networking.error_backoffs = _Pauses()
    settings.networking.enforce_retry_after = True
    settings.queueing.idle_timeout = 0.1
    settings.queueing.exit_timeout = 0.5
    settings.persistence.diffbase_storage = _NoDiff()
    settings.persistence.progress_storage = _NoProgress()
    settings.persistence.consistency_timeout = 0
    return settings


class WatchThread:
    """kopf, in a thread and a loop of its own.

    When kopf ends it cancels every task of its loop, whoever made it, and it takes over the process's signals if it can:
    apart from us, it can do neither. What it sees comes over in batches.
    """

    def __init__(self, intake: Intake, login: Login) -> None:
        self._intake = intake
        self._login = login
        self._home = asyncio.get_running_loop()
        self._seen: deque[tuple[str, str | None, Any]] = deque()
        self._is_coming = False
        self._stop = threading.Event()

    async def run(self) -> None:
        """Watch until cancelled. Raises what ended kopf, e.g. an error line in a watch."""
        ended: asyncio.Future[None] = self._home.create_future()

        def finish(failed: BaseException | None) -> None:
            if ended.done():
                return
            if failed is None:
                ended.set_result(None)
            else:
                ended.set_exception(failed)

        def work() -> None:
            failed: BaseException | None = None
            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    runner.run(self._operate())
            except BaseException as problem:
                failed = problem if isinstance(problem, Exception) else RuntimeError(repr(problem))
            with contextlib.suppress(RuntimeError):  # the home loop is closed: nobody listens
                self._home.call_soon_threadsafe(finish, failed)

        thread = threading.Thread(target=work, name="watches", daemon=True)
        thread.start()
        try:
            await ended
        finally:
            self._stop.set()
            with contextlib.suppress(Exception):
                async with asyncio.timeout(5):
                    await asyncio.shield(ended)

    async def _operate(self) -> None:
        await kopf.operator(
            registry=make_registry(self._hand_over, self._login),
            settings=make_settings(),
            standalone=True,
            clusterwide=True,
            stop_flag=self._stop,
        )

    def _hand_over(self, kind: str, event: str | None, body: Any) -> None:
        """In the watches' thread: have this taken in at home."""
        self._seen.append((kind, event, body))
        if not self._is_coming:
            self._is_coming = True
            self._home.call_soon_threadsafe(self._take_in)

    def _take_in(self) -> None:
        """At home."""
        self._is_coming = False
        while self._seen:
            self._intake.heard(*self._seen.popleft())
