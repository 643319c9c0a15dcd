"""What has had its time goes; the archive stays."""

from datetime import timedelta

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.renders import ended, seen

from renderfleet_store.engine import transaction
from renderfleet_store.mirror import Mirror
from renderfleet_store.prune import prune
from renderfleet_store.tables import idempotency, job_ends, job_events, jobs, outbox

DAY = timedelta(days=1)


async def test_old_events_keys_and_news_go_and_the_archive_stays(engine: AsyncEngine, mirror: Mirror) -> None:
    await mirror.record(seen(ended(), ended()))
    async with transaction(engine) as connection:
        for table in ("job_events", "outbox"):
            await connection.execute(
                text(
                    f"UPDATE {table} SET created_at = now() - interval '2 days'"
                    f" WHERE uid = (SELECT min(uid) FROM {table})"
                )
            )
        await connection.execute(
            text(
                "INSERT INTO idempotency (namespace, key, request_digest, locked_until, created_at) VALUES"
                " ('n', 'old', '', now(), now() - interval '2 days'), ('n', 'new', '', now(), now())"
            )
        )
    async with transaction(engine) as connection:
        gone = await prune(connection, events=DAY, idempotency=DAY, outbox=DAY)

    assert gone == {"job_events": 1, "idempotency": 1, "outbox": 1}
    async with transaction(engine) as connection:
        left = {
            table.name: (await connection.execute(select(func.count()).select_from(table))).scalar()
            for table in (job_events, idempotency, outbox, jobs, job_ends)
        }
    assert left == {"job_events": 1, "idempotency": 1, "outbox": 1, "jobs": 2, "job_ends": 2}


async def test_one_prunes_at_a_time(engine: AsyncEngine) -> None:
    async with transaction(engine) as first, transaction(engine) as second:
        assert await prune(first, events=DAY, idempotency=DAY, outbox=DAY) != {}
        assert await prune(second, events=DAY, idempotency=DAY, outbox=DAY) == {}
