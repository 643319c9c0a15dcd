"""Let go of what has had its time. Jobs, ends and media rows stay; they are the archive."""

from datetime import timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_LOCK: Final = 0x52465052
_BATCH: Final = 5000
_OLD: Final = {
    "job_events": ("seq", "created_at"),
    "idempotency": ("ctid", "created_at"),
    "outbox": ("id", "created_at"),
}


async def prune(
    connection: AsyncConnection, *, events: timedelta, idempotency: timedelta, outbox: timedelta
) -> dict[str, int]:
    """Delete one batch of each; how many rows by table. Does nothing while another process is at it.

    Deliveries go with their outbox row. Call again as long as a table's batch comes back full.
    """
    mine = await connection.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    if not mine.scalar():
        return {}
    ages = {"job_events": events, "idempotency": idempotency, "outbox": outbox}
    gone: dict[str, int] = {}
    for table, (key, when) in _OLD.items():
        statement = text(
            f"DELETE FROM {table} WHERE {key} = ANY(ARRAY("  # noqa: S608
            f"SELECT {key} FROM {table} WHERE {when} < now() - :age ORDER BY {when} LIMIT {_BATCH}))"
        )
        gone[table] = (await connection.execute(statement, {"age": ages[table]})).rowcount
    return gone
