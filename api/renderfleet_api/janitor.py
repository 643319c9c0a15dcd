"""Keeps the tables that grow by themselves from growing for ever; one of all replicas is at it at a time."""

import asyncio
import random
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from renderfleet_store.engine import StoreUnavailable, transaction
from renderfleet_store.prune import prune

from .settings import ApiSettings

log = structlog.get_logger(__name__)

_REST_SECONDS: Final = 600.0


async def keep_clean(engine: AsyncEngine, settings: ApiSettings) -> None:
    """Prune for ever, a batch at a time, with a rest when nothing is left."""
    while True:
        await asyncio.sleep(_REST_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311  (replicas take turns)
        try:
            while any((await clean_once(engine, settings)).values()):  # noqa: ASYNC110  (a rest between batches)
                await asyncio.sleep(1)
        except StoreUnavailable as away:
            log.warning("pruning waits for the database", error=str(away))
        except Exception:
            # Growing tables are a matter for tomorrow; an API without its janitor would be one, too.
            log.exception("pruning failed")


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
