"""Hear of changes as they are committed. A hint only: a lost connection loses wake-ups silently, so readers poll as well."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import structlog
from sqlalchemy.engine import make_url

from .engine import CONNECT_SECONDS
from .mirror import CHANNEL

log = structlog.get_logger(__name__)

_PAUSE_SECONDS = 2.0


async def listen(direct_url: str) -> AsyncIterator[tuple[str, str]]:
    """`(namespace, uid)` of each change, for ever; connects again by itself. The address must not lead to PgBouncer."""
    address = make_url(direct_url).set(drivername="postgresql").render_as_string(hide_password=False)
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                address, autocommit=True, connect_timeout=CONNECT_SECONDS, keepalives_idle=15
            ) as connection:
                await connection.execute(f"LISTEN {CHANNEL}")
                async for note in connection.notifies():
                    namespace, _, uid = note.payload.partition("/")
                    yield namespace, uid
        except psycopg.Error as lost:
            log.warning("wake-ups lost, polling goes on", error=type(lost).__name__)
        await asyncio.sleep(_PAUSE_SECONDS)
