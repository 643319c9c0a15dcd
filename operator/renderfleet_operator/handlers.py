"""kopf's part: watch what we follow and hand it in. Nothing is decided here, nothing is stored, nothing is patched.

Only `on.event` handlers: they need no finalizer, no annotation and no progress of kopf's own.
"""

import asyncio
import itertools
import random
from collections.abc import Iterator
from typing import Any

import kopf

from renderfleet_client.login import Login

from .intake import SOURCES, Intake, Source

SERVER_TIMEOUT_SECONDS = 300.0
INACTIVITY_SECONDS = 70.0
"""Bookmarks come every minute at the latest; a watch without any is dead."""
PAGE = 500
LONGEST_PAUSE_SECONDS = 15.0


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


def make_registry(intake: Intake, login: Login) -> kopf.OperatorRegistry:
    """Handlers for all that we follow."""
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

    for source in SOURCES:
        _follow(registry, intake, source)
    return registry


def _follow(registry: kopf.OperatorRegistry, intake: Intake, source: Source) -> None:
    resource = source.resource
    where = (
        (resource.group, resource.version, resource.plural) if resource.group else (resource.version, resource.plural)
    )

    @kopf.on.event(*where, registry=registry, id=f"{source.kind}-seen")
    async def seen(event: Any, **_: Any) -> None:
        intake.heard(source.kind, event["type"], event["object"])


def make_settings() -> kopf.OperatorSettings:
    """kopf without all that it would do by itself."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = SERVER_TIMEOUT_SECONDS
    settings.watching.client_timeout = SERVER_TIMEOUT_SECONDS + 30
    settings.watching.inactivity_timeout = INACTIVITY_SECONDS
    settings.watching.chunk_size = PAGE
    settings.networking.error_backoffs = _Pauses()
    settings.networking.enforce_retry_after = True
    settings.queueing.idle_timeout = 1.0
    settings.queueing.exit_timeout = 0.5
    settings.persistence.diffbase_storage = _NoDiff()
    settings.persistence.progress_storage = _NoProgress()
    settings.persistence.consistency_timeout = 0
    for source in SOURCES:
        resource = source.resource
        where = (
            (resource.group, resource.version, resource.plural)
            if resource.group
            else (resource.version, resource.plural)
        )
        if source.label_selector:
            settings.watching.label_selectors[where] = source.label_selector
        if source.field_selector:
            settings.watching.field_selectors[where] = source.field_selector
    return settings


async def watch(intake: Intake, login: Login, stop: asyncio.Event) -> None:
    """Watch until `stop` is set or a signal comes. Raises what ended kopf, e.g. an error line in a watch."""
    stop_flag: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def pass_on() -> None:
        await stop.wait()
        if not stop_flag.done():
            stop_flag.set_result(None)

    passing = asyncio.create_task(pass_on())
    try:
        await kopf.operator(
            registry=make_registry(intake, login),
            settings=make_settings(),
            standalone=True,
            clusterwide=True,
            stop_flag=stop_flag,
        )
    finally:
        passing.cancel()
