"""Keys, idempotency, avatars and pages against the real database."""

import asyncio
import os
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.renders import ended, render, seen

from renderfleet_store import avatars, idempotency, jobs, tenants
from renderfleet_store.engine import transaction
from renderfleet_store.jobs import JobFilter, Place
from renderfleet_store.mirror import Mirror
from renderfleet_store.tables import avatars as avatar_table


async def test_a_key_opens_until_it_expires_or_is_revoked(engine: AsyncEngine) -> None:
    async with transaction(engine) as connection:
        await tenants.ensure_tenant(connection, "acme", "rf-acme")
        for name, expires in [("good", None), ("old", datetime.now(UTC) - timedelta(seconds=1)), ("gone", None)]:
            await tenants.add_key(
                connection,
                identity=name,
                tenant="acme",
                name=name,
                prefix="rf_",
                digest=name.encode(),
                scopes=["read"],
                expires_at=expires,
            )
        assert await tenants.revoke_key(connection, "acme", "gone")
        assert not await tenants.revoke_key(connection, "acme", "gone")
        assert not await tenants.revoke_key(connection, "other", "good")

        found = await tenants.find_key(connection, b"good")
        assert found is not None
        assert (found["tenant"], found["namespace"], found["scopes"]) == ("acme", "rf-acme", ["read"])
        await tenants.note_use(connection, "good")
        assert await tenants.find_key(connection, b"old") is None
        assert await tenants.find_key(connection, b"gone") is None
        shown = await tenants.keys_of(connection, "acme")
        assert {row["id"] for row in shown if row["last_used_at"]} == {"good"}
        assert "digest" not in shown[0]


async def test_a_namespace_belongs_to_one_tenant(engine: AsyncEngine) -> None:
    async with transaction(engine) as connection:
        await tenants.ensure_tenant(connection, "acme", "rf-acme")
        await tenants.ensure_tenant(connection, "acme", "rf-acme")
    for name, namespace in [("thief", "rf-acme"), ("acme", "rf-other")]:
        with pytest.raises(tenants.UnknownTenant):
            async with transaction(engine) as connection:
                await tenants.ensure_tenant(connection, name, namespace)


async def test_one_of_many_requests_with_one_key_gets_through(engine: AsyncEngine) -> None:
    async def attempt() -> str:
        try:
            async with transaction(engine) as connection:
                reserved = await idempotency.reserve(connection, "rf-acme", "k", b"d")
            return reserved.uid or "go"
        except idempotency.InFlight:
            return "wait"

    assert sorted(await asyncio.gather(*(attempt() for _ in range(20)))) == ["go"] + ["wait"] * 19

    async with transaction(engine) as connection:
        await idempotency.complete(connection, [("rf-acme", "k", "uid-1")])
    assert await attempt() == "uid-1"
    with pytest.raises(idempotency.KeyReused):
        async with transaction(engine) as connection:
            await idempotency.reserve(connection, "rf-acme", "k", b"other")
    async with transaction(engine) as connection:
        assert (await idempotency.reserve(connection, "rf-other", "k", b"other")).uid is None


async def test_of_many_keys_at_once_each_new_one_is_reserved_once(engine: AsyncEngine) -> None:
    asked = [idempotency.Asked("n", key, key.encode()) for key in ("b", "used", "a", "b")]
    async with transaction(engine) as connection:
        await idempotency.reserve(connection, "n", "used", b"used")

    async with transaction(engine) as connection:
        assert await idempotency.reserve_new(connection, asked) == [True, False, True, False]
        await idempotency.complete(connection, [("n", "a", "uid-a"), ("n", "b", "uid-b")])

    async with transaction(engine) as connection:
        assert (await idempotency.reserve(connection, "n", "a", b"a")).uid == "uid-a"
        assert (await idempotency.reserve(connection, "n", "b", b"b")).uid == "uid-b"
        with pytest.raises(idempotency.InFlight):
            await idempotency.reserve(connection, "n", "used", b"used")


async def test_a_key_that_comes_twice_at_once_belongs_to_the_first_request(engine: AsyncEngine) -> None:
    others = [idempotency.Asked("n", f"k{number}", b"d") for number in range(30)]
    asked = [*others, *(idempotency.Asked("n", "twice", digest) for digest in (b"first", b"second"))]

    async with transaction(engine) as connection:
        assert await idempotency.reserve_new(connection, asked) == [True] * 31 + [False]
        await idempotency.complete(connection, [("n", "twice", "uid-1")])

    async with transaction(engine) as connection:
        assert (await idempotency.reserve(connection, "n", "twice", b"first")).uid == "uid-1"
        with pytest.raises(idempotency.KeyReused):
            await idempotency.reserve(connection, "n", "twice", b"second")


async def test_batches_with_the_same_keys_do_not_block_each_other(engine: AsyncEngine) -> None:
    asked = [idempotency.Asked("n", str(number), b"d") for number in range(50)]

    async def reserve(order: int) -> int:
        async with transaction(engine) as connection:
            return sum(await idempotency.reserve_new(connection, asked[::order]))

    won = await asyncio.gather(*(reserve(order) for order in (1, -1, 1, -1)))

    assert sum(won) == len(asked)


async def test_a_reservation_ends_by_release_unlock_or_time(engine: AsyncEngine) -> None:
    async with transaction(engine) as connection:
        await idempotency.reserve(connection, "n", "released", b"1")
        await idempotency.release(connection, "n", "released")
        await idempotency.reserve(connection, "n", "released", b"2")

        await idempotency.reserve(connection, "n", "unlocked", b"1")
        await idempotency.unlock(connection, "n", "unlocked")
    async with transaction(engine) as connection:
        await idempotency.reserve(connection, "n", "unlocked", b"1")
        await idempotency.reserve(connection, "n", "late", b"1")
        await connection.execute(
            text("UPDATE idempotency SET locked_until = now() - interval '1 s' WHERE key = 'late'")
        )
    async with transaction(engine) as connection:
        await idempotency.reserve(connection, "n", "late", b"1")


def avatar(number: int, namespace: str = "rf-acme") -> dict[str, object]:
    return {
        "id": f"{namespace}-{number}",
        "namespace": namespace,
        "name": f"face {number}",
        "key": f"media/{namespace}/{number}.png",
        "content_type": "image/png",
        "bytes": 10,
    }


async def test_fifty_who_want_to_be_preferred_leave_exactly_one(engine: AsyncEngine) -> None:
    async def save(number: int) -> None:
        async with transaction(engine) as connection:
            await avatars.save(connection, avatar(number), preferred=True)

    async with transaction(engine) as connection:
        await avatars.save(connection, avatar(0, "rf-other"), preferred=True)
    await asyncio.gather(*(save(number) for number in range(50)))

    async with transaction(engine) as connection:
        preferred = select(avatar_table.c.namespace).where(avatar_table.c.preferred)
        assert sorted((await connection.execute(preferred)).scalars()) == ["rf-acme", "rf-other"]
        assert len(await avatars.page(connection, "rf-acme", limit=100)) == 50


async def test_an_avatar_is_its_tenants_alone(engine: AsyncEngine) -> None:
    async with transaction(engine) as connection:
        await avatars.save(connection, avatar(1), preferred=True)
        assert await avatars.get(connection, "rf-other", "rf-acme-1") is None
        assert await avatars.change(connection, "rf-other", "rf-acme-1", name="mine", preferred=True) is None
        assert await avatars.remove(connection, "rf-other", "rf-acme-1") is None
        mine = await avatars.get(connection, "rf-acme", "rf-acme-1")
        assert mine is not None
        assert (mine["name"], mine["preferred"]) == ("face 1", True)


async def test_pages_show_every_job_once_newest_first(engine: AsyncEngine, mirror: Mirror) -> None:
    bodies = [render(created=f"2026-11-24T10:00:{second:02}Z") for second in (1, 1, 1, 2, 3, 3, 4)]
    foreign = render(namespace="rf-other")
    await mirror.record(seen(*bodies, foreign))

    shown: list[str] = []
    after: Place | None = None
    async with transaction(engine) as connection:
        while rows := await jobs.page(connection, JobFilter(namespace="rf-acme"), limit=2, after=after):
            shown += [row["uid"] for row in rows]
            after = Place(rows[-1]["created_at"], rows[-1]["uid"])

    expected = sorted(bodies, key=lambda b: (b["metadata"]["creationTimestamp"], b["metadata"]["uid"]), reverse=True)
    assert shown == [one["metadata"]["uid"] for one in expected]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (JobFilter(kind="VideoRender"), 1),
        (JobFilter(phases=["Failed", "Succeeded"]), 2),
        (JobFilter(labels={"team": "red"}), 1),
        (JobFilter(labels={"team": "red", "x": "y"}), 0),
        (JobFilter(client_reference="order-7"), 1),
        (JobFilter(provider="elevenlabs"), 3),
        (JobFilter(created_after=datetime(2026, 11, 24, 11, tzinfo=UTC)), 1),
        (JobFilter(created_before=datetime(2026, 11, 24, 11, tzinfo=UTC)), 3),
    ],
    ids=["kind", "phases", "label", "two labels", "reference", "provider", "after", "before"],
)
async def test_filters(engine: AsyncEngine, mirror: Mirror, wanted: JobFilter, expected: int) -> None:
    await mirror.record(
        seen(
            render(labels={"team": "red"}, spec={"clientReference": "order-7"}),
            ended("VideoRender"),
            ended(phase="Failed"),
            render(created="2026-11-24T11:00:00Z"),
        )
    )
    async with transaction(engine) as connection:
        assert len(await jobs.page(connection, wanted, limit=10)) == expected


async def test_the_first_page_of_many_jobs_reads_an_index_and_sorts_nothing(engine: AsyncEngine) -> None:
    async with transaction(engine, limit_seconds=60) as connection:
        await connection.execute(
            text(
                "INSERT INTO jobs (uid, kind, namespace, name, provider, phase, progress, run, attempt, labels, spec,"
                " status, resource_version, created_at) SELECT 'u' || n, 'VoiceJob', 'rf-' || n % 50, 'n', 'p',"
                " 'Succeeded', 100, 0, 1, '{}', '{}', '{}', n, now() - n * interval '1 s' FROM generate_series(1, :n) n"
            ),
            {"n": int(os.environ.get("RENDERFLEET_TEST_ROWS", "20000"))},
        )
        await connection.execute(text("ANALYZE jobs"))
        for condition in ("namespace = 'rf-1'", "namespace = 'rf-1' AND phase = 'Succeeded'"):
            plan = await connection.execute(
                text(f"EXPLAIN SELECT * FROM jobs WHERE {condition} ORDER BY created_at DESC, uid DESC LIMIT 50")
            )
            steps = "\n".join(plan.scalars())
            assert "Index Scan Backward" in steps, steps
            assert "Sort" not in steps, steps
