"""Behind PgBouncer in transaction mode, and with a streaming replica."""

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from tests.support.postgres import Postgres, pgbouncer_before, replica_of
from tests.support.renders import ended, render, seen

from renderfleet_cluster import debian
from renderfleet_store import avatars, idempotency, jobs
from renderfleet_store.engine import StoreUnavailable, make_engine, single, transaction
from renderfleet_store.jobs import JobFilter
from renderfleet_store.mirror import Mirror
from renderfleet_store.wakeups import listen


@pytest.fixture
def pooled(postgres: Postgres, database: str) -> Iterator[str]:
    """The database's address through PgBouncer with two server connections."""
    debian.install({"/usr/sbin/pgbouncer": "pgbouncer"})
    with pgbouncer_before(postgres) as place:
        host, _, port = place.partition(":")
        yield make_url(database).set(host=host, port=int(port)).render_as_string(hide_password=False)


async def test_everything_works_when_few_server_connections_serve_many_clients(pooled: str) -> None:
    """Twenty clients on two connections: whatever a session remembers would be somebody else's next time."""
    engines = [make_engine(pooled, pooled=True, size=2) for _ in range(10)]

    async def use(number: int) -> None:
        engine = engines[number % 10]
        for turn in range(5):
            body = ended(namespace=f"rf-{number}")
            assert await Mirror(engine).record(seen(body, render(namespace=f"rf-{number}"))) >= {
                body["metadata"]["uid"]
            }
            assert await Mirror(engine).archived([body["metadata"]["uid"]])
            async with transaction(engine) as connection:
                await idempotency.reserve(connection, f"rf-{number}", str(turn), b"d")
                assert len(await jobs.page(connection, JobFilter(namespace=f"rf-{number}"), limit=100)) == 2 * turn + 2
                values = {
                    "id": f"{number}-{turn}",
                    "namespace": f"rf-{number}",
                    "key": f"{number}/{turn}",
                    "content_type": "image/png",
                    "bytes": 1,
                }
                await avatars.save(connection, values, preferred=True)
            async with single(engine) as connection:
                assert await jobs.get(connection, f"rf-{number}", body["metadata"]["uid"])

    async with asyncio.timeout(60):
        await asyncio.gather(*(use(number) for number in range(20)))
    for engine in engines:
        await engine.dispose()


async def test_a_connection_that_was_read_from_keeps_its_next_transaction_whole(pooled: str) -> None:
    engine = make_engine(pooled, pooled=True, size=1)
    async with single(engine) as connection:
        assert await jobs.get(connection, "n", "nothing") is None

    with pytest.raises(RuntimeError):
        async with transaction(engine) as connection:
            await idempotency.reserve(connection, "n", "k", b"d")
            raise RuntimeError

    async with transaction(engine) as connection:
        assert (await idempotency.reserve(connection, "n", "k", b"other")).uid is None, "the first one was rolled back"
    await engine.dispose()


async def test_wake_ups_come_over_the_direct_address(pooled: str, database: str) -> None:
    engine = make_engine(pooled, pooled=True)
    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def hear() -> None:
        async for one in listen(database):
            await heard.put(one)

    hearing = asyncio.create_task(hear())
    body = render()
    # Listening begins some time after the task does, so knock until it answers.
    async with asyncio.timeout(20):
        version = 0
        while heard.empty():
            version += 1
            body["metadata"]["resourceVersion"] = str(version)
            body["status"] = {"phase": "Running", "message": f"step {version}"}
            await Mirror(engine).record(seen(body))
            await asyncio.sleep(0.1)
    hearing.cancel()
    await engine.dispose()

    assert heard.get_nowait() == ("rf-acme", body["metadata"]["uid"])


async def test_a_replica_serves_lists_and_refuses_writes_as_unavailable(postgres: Postgres, database: str) -> None:
    primary = make_engine(database, pooled=True)
    await Mirror(primary).record(seen(ended()))
    with replica_of(postgres) as standby:
        replica = make_engine(standby.url(str(make_url(database).database)), pooled=True)
        await Mirror(primary).record(seen(ended()))
        async with asyncio.timeout(20):
            while True:
                async with transaction(replica) as connection:
                    if len(await jobs.page(connection, JobFilter(), limit=10)) == 2:
                        break
                await asyncio.sleep(0.05)
        # Right after a failover, the address of the primary may still lead to a standby.
        with pytest.raises(StoreUnavailable):
            await Mirror(replica).record(seen(ended()))
        async with transaction(replica) as connection:
            assert (await connection.execute(text("SELECT pg_is_in_recovery()"))).scalar() is True
        await replica.dispose()
    await primary.dispose()
