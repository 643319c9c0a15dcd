"""Clears away what nobody comes for any more: old rows, of which one of all replicas at a time deletes a batch, and pictures
that a crash left without their avatar.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from renderfleet_crds import meta
from renderfleet_store import avatars, tenants
from renderfleet_store.engine import StoreUnavailable, transaction
from renderfleet_store.media import MediaStore, MediaUnavailable
from renderfleet_store.prune import prune

from .settings import ApiSettings

log = structlog.get_logger(__name__)

_ROWS_SECONDS: Final = 600.0
_PICTURES_SECONDS: Final = 6 * 3600.0
_LEFT_FOR: Final = timedelta(days=7)
"""A picture's row is written seconds after it; a database that is restored from a backup brings older ones back."""


async def keep_clean(engine: AsyncEngine, media: MediaStore, settings: ApiSettings) -> None:
    """Do it for ever, with a rest when nothing is left."""

    async def rows() -> None:
        while any((await clean_once(engine, settings)).values()):  # noqa: ASYNC110  (a rest between batches)
            await asyncio.sleep(1)

    async def pictures() -> None:
        await remove_orphans(engine, media, _LEFT_FOR)

    await asyncio.gather(_again_and_again(_ROWS_SECONDS, rows), _again_and_again(_PICTURES_SECONDS, pictures))


async def _again_and_again(rest_seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(rest_seconds * random.uniform(0.5, 1.5))  # noqa: S311  (replicas take turns)
        try:
            await work()
        except (StoreUnavailable, MediaUnavailable) as away:
            log.warning("cleaning waits", error=str(away))
        except Exception:
            # What is left lying about is a matter for tomorrow; an API without its janitor would be one, too.
            log.exception("cleaning failed")


async def clean_once(engine: AsyncEngine, settings: ApiSettings) -> dict[str, int]:
    """Delete one batch of what is too old; how many rows by table."""
    async with transaction(engine, limit_seconds=60) as connection:
        gone = await prune(
            connection,
            events=timedelta(days=settings.event_days),
            idempotency=timedelta(days=settings.idempotency_days),
            outbox=timedelta(days=settings.outbox_days),
        )
    if any(gone.values()):
        log.info("pruned", **gone)
    return gone


async def remove_orphans(engine: AsyncEngine, media: MediaStore, left_for: timedelta) -> int:
    """Delete pictures that were stored so long ago, to be an avatar's, and that no avatar leads to; how many.

    Raises StoreUnavailable and MediaUnavailable.
    """
    before = datetime.now(UTC) - left_for
    gone = 0
    async with transaction(engine) as connection:
        namespaces = await tenants.namespaces(connection)
    for namespace in namespaces:
        async for files in media.pages(meta.avatar_prefix(namespace)):
            old = {one.key for one in files if one.modified_at < before}
            async with transaction(engine) as connection:
                orphans = old - await avatars.keys_among(connection, namespace, old)
            for key in orphans:
                await media.delete(key)
            gone += len(orphans)
    if gone:
        log.info("pictures without an avatar removed", count=gone)
    return gone
