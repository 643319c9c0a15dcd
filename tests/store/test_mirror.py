"""What the cluster says becomes rows: newest wins, each end once, and nothing odd holds the rest up."""

import asyncio
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.postgres import Postgres
from tests.support.renders import ended, render, seen

from renderfleet_store.engine import StoreUnavailable, make_engine, transaction
from renderfleet_store.mirror import Mirror, RenderSeen
from renderfleet_store.tables import (
    deliveries,
    job_ends,
    job_events,
    jobs,
    outbox,
    usage,
    videos,
    voice_assets,
    webhook_endpoints,
)


async def rows(engine: AsyncEngine, table: Any, *order: Any) -> list[Any]:
    async with transaction(engine) as connection:
        return list((await connection.execute(select(table).order_by(*order))).mappings())


async def test_a_resource_that_nobody_has_looked_at_is_queued(engine: AsyncEngine, mirror: Mirror) -> None:
    body = render()

    assert await mirror.record(seen(body)) == {body["metadata"]["uid"]}

    [row] = await rows(engine, jobs)
    assert (row["phase"], row["progress"], row["kind"], row["namespace"]) == ("Queued", 0, "VoiceJob", "rf-acme")


@pytest.mark.parametrize("order", [(1, 2), (2, 1), (2, 2)], ids=["in order", "late news", "twice"])
async def test_only_a_newer_version_wins(engine: AsyncEngine, mirror: Mirror, order: tuple[int, int]) -> None:
    versions = {
        1: render(uid="0" * 32, version=9, status={"phase": "Queued"}),
        2: render(uid="0" * 32, version=10, status={"phase": "Running", "progress": 30}),
    }
    for one in order:
        assert await mirror.record(seen(versions[one])) == {"0" * 32}

    [row] = await rows(engine, jobs)
    assert (row["phase"], row["resource_version"]) == ("Running", 10)


async def test_one_batch_may_hold_several_sights_of_one_render(engine: AsyncEngine, mirror: Mirror) -> None:
    uid = "1" * 32
    first, second = render(uid=uid, version=3), render(uid=uid, version=4, status={"phase": "Running"})

    await mirror.record(seen(second, first))

    assert [row["phase"] for row in await rows(engine, jobs)] == ["Running"]


async def test_each_end_is_written_once_with_all_that_follows_from_it(engine: AsyncEngine, mirror: Mirror) -> None:
    body = ended("VoiceJob", status={"script": "Hello harbour"})
    later = {**body, "metadata": {**body["metadata"], "resourceVersion": "11", "finalizers": []}}

    for one in (body, body, later):
        await mirror.record(seen(one))

    [end] = await rows(engine, job_ends)
    [event] = await rows(engine, job_events)
    [news] = await rows(engine, outbox)
    [spent] = await rows(engine, usage)
    [asset] = await rows(engine, voice_assets)
    assert (end["run"], end["phase"]) == (0, "Succeeded")
    assert (event["type"], event["data"]["status"]) == ("end", "Succeeded")
    assert (news["type"], news["data"]["id"]) == ("render.succeeded", body["metadata"]["uid"])
    assert (spent["micros"], spent["currency"]) == (40_000, "USD")
    assert (asset["script"], asset["duration_seconds"], asset["voice_id"]) == ("Hello harbour", 2.5, "anna")


async def test_a_succeeded_video_is_listed_with_its_poster(engine: AsyncEngine, mirror: Mirror) -> None:
    body = ended("VideoRender")
    body["status"]["outputs"].append({**body["status"]["outputs"][0], "name": "poster", "key": "media/rf-acme/p.jpg"})

    await mirror.record(seen(body))

    [video] = await rows(engine, videos)
    assert video["poster_key"] == "media/rf-acme/p.jpg"


async def test_each_run_has_an_end_of_its_own(engine: AsyncEngine, mirror: Mirror) -> None:
    uid = "2" * 32
    dead = ended(phase="DeadLettered", uid=uid, version=10)
    again = render(uid=uid, version=11, status={"phase": "Queued", "run": 1}, spec={"redrive": 1})
    done = ended(phase="Succeeded", uid=uid, version=12, run=1)

    await mirror.record(seen(dead))
    assert await mirror.archived([uid]) == {uid}
    await mirror.record(seen(again))
    assert await mirror.archived([uid]) == set()
    await mirror.record(seen(done))
    assert await mirror.archived([uid]) == {uid}

    assert [(e["run"], e["phase"]) for e in await rows(engine, job_ends, job_ends.c.run)] == [
        (0, "DeadLettered"),
        (1, "Succeeded"),
    ]
    assert sorted(e["type"] for e in await rows(engine, outbox)) == ["render.dead_lettered", "render.succeeded"]


async def test_a_change_that_nobody_can_see_is_no_event(engine: AsyncEngine, mirror: Mirror) -> None:
    uid = "3" * 32
    await mirror.record(seen(render(uid=uid, version=1, status={"phase": "Running", "progress": 10})))
    await mirror.record(
        seen(render(uid=uid, version=2, status={"phase": "Running", "progress": 10, "observedGeneration": 4}))
    )
    await mirror.record(seen(render(uid=uid, version=3, status={"phase": "Running", "progress": 20})))

    assert [event["data"]["progress"] for event in await rows(engine, job_events, job_events.c.seq)] == [10, 20]


async def test_a_deleted_object_keeps_its_row(engine: AsyncEngine, mirror: Mirror) -> None:
    body = ended()
    await mirror.record(seen(body))
    await mirror.record([RenderSeen(body, deleted=True)])
    await mirror.record([RenderSeen(body, deleted=True)])

    [row] = await rows(engine, jobs)
    assert row["deleted_at"] is not None
    assert [event["type"] for event in await rows(engine, job_events, job_events.c.seq)] == ["end", "deleted"]


async def test_what_was_deleted_while_nobody_watched_is_marked_after_the_next_listing(
    engine: AsyncEngine, mirror: Mirror
) -> None:
    there, gone, young = (render(uid=letter * 32, status=ended()) for letter in "abc")
    young["metadata"]["creationTimestamp"] = "2100-01-01T00:00:00Z"
    await mirror.record(seen(there, gone, young))
    before = datetime(2099, 1, 1, tzinfo=UTC)

    assert await mirror.close_absent({"a" * 32}, before) == 1
    assert await mirror.close_absent({"a" * 32}, before) == 0

    found = {row["uid"][0]: row["deleted_at"] is not None for row in await rows(engine, jobs)}
    assert found == {"a": False, "b": True, "c": False}
    told = await rows(engine, job_events, job_events.c.seq)
    assert [event["uid"][0] for event in told if event["type"] == "deleted"] == ["b"]


async def test_a_listing_that_shows_nothing_marks_everything(engine: AsyncEngine, mirror: Mirror) -> None:
    await mirror.record(seen(render(uid="a" * 32, status={"phase": "Running"})))

    assert await mirror.close_absent(set(), datetime(2099, 1, 1, tzinfo=UTC)) == 1


async def test_text_that_postgres_cannot_hold_is_stored_all_the_same(engine: AsyncEngine, mirror: Mirror) -> None:
    await mirror.record(seen(render(spec={"text": "nul \x00 and backslash-u \\u0000"})))

    [row] = await rows(engine, jobs)
    assert row["spec"]["text"] == "nul \ufffd and backslash-u \\u0000"


async def test_an_odd_object_does_not_hold_up_the_others(engine: AsyncEngine, mirror: Mirror) -> None:
    good = [render() for _ in range(6)]
    odd = render(status={"phase": "Running", "progress": 10**12})
    nameless = {"kind": "VoiceJob", "metadata": {"uid": "x", "resourceVersion": "1"}}

    stored = await mirror.record(seen(*good[:3], odd, nameless, *good[3:]))

    assert stored == {one["metadata"]["uid"] for one in good}
    assert len(await rows(engine, jobs)) == 6


async def test_an_end_is_told_to_every_endpoint_that_asked_for_it(engine: AsyncEngine, mirror: Mirror) -> None:
    async with transaction(engine) as connection:
        for name, namespace, types, enabled in [
            ("all", "rf-acme", [], True),
            ("failures", "rf-acme", ["render.failed"], True),
            ("off", "rf-acme", [], False),
            ("foreign", "rf-other", [], True),
        ]:
            await connection.execute(
                webhook_endpoints.insert().values(
                    id=name, namespace=namespace, url="https://x", types=types, secrets=[b"s"], enabled=enabled
                )
            )

    await mirror.record(seen(ended(phase="Succeeded"), ended(phase="Failed")))

    type_of = {event["id"]: event["type"] for event in await rows(engine, outbox)}
    told = sorted([(one["endpoint_id"], type_of[one["event_id"]]) for one in await rows(engine, deliveries)])
    assert told == [("all", "render.failed"), ("all", "render.succeeded"), ("failures", "render.failed")]


async def test_two_writers_of_the_same_renders_neither_block_nor_double(engine: AsyncEngine, database: str) -> None:
    bodies = [ended(namespace=f"rf-{number % 3}") for number in range(60)]
    other = make_engine(database, pooled=True)

    async def write(target: AsyncEngine, seed: int) -> None:
        shuffled = bodies[:]
        random.Random(seed).shuffle(shuffled)
        for start in range(0, len(shuffled), 7):
            await Mirror(target).record(seen(*shuffled[start : start + 7]))

    async with asyncio.timeout(30):
        await asyncio.gather(*(write(target, seed) for seed in range(4) for target in (engine, other)))
    await other.dispose()

    for table in (jobs, job_ends, outbox, usage, voice_assets):
        assert len(await rows(engine, table)) == 60, table.name
    assert len([one for one in await rows(engine, job_events) if one["type"] == "end"]) == 60


async def test_events_of_a_namespace_become_visible_in_their_order(engine: AsyncEngine, database: str) -> None:
    """A reader that always goes on from the highest number it saw must miss nothing, however many write."""
    reader = make_engine(database, pooled=True)
    got: list[int] = []
    done = asyncio.Event()

    async def read() -> None:
        while True:
            over = done.is_set()
            query = select(job_events.c.seq).where(job_events.c.seq > (got[-1] if got else 0))
            async with transaction(reader) as connection:
                got.extend((await connection.execute(query.order_by(job_events.c.seq))).scalars())
            if over:
                return

    async def write() -> None:
        for _ in range(40):
            await Mirror(engine).record(seen(render(), render()))

    reading = asyncio.create_task(read())
    await asyncio.gather(*(write() for _ in range(6)))
    done.set()
    await reading
    await reader.dispose()

    assert len(got) == 6 * 40 * 2


async def test_while_the_server_is_away_the_caller_is_told_to_try_again() -> None:
    from tests.support.postgres import postgres_server

    from renderfleet_store.migrate import migrate

    def prepared() -> tuple[Any, Postgres]:
        context = postgres_server()
        server = context.__enter__()
        migrate(server.url())
        return context, server

    context, server = await asyncio.to_thread(prepared)
    try:
        engine = make_engine(server.url(), pooled=True)
        mirror = Mirror(engine)
        await mirror.record(seen(render(uid="4" * 32)))
        server.stop()
        with pytest.raises(StoreUnavailable):
            await mirror.record(seen(ended(uid="4" * 32)))
        with pytest.raises(StoreUnavailable):
            await mirror.archived(["4" * 32])

        await asyncio.to_thread(server.start)
        assert await mirror.record(seen(ended(uid="4" * 32))) == {"4" * 32}
        assert await mirror.archived(["4" * 32]) == {"4" * 32}

        server.freeze()
        with pytest.raises(StoreUnavailable):
            async with transaction(engine, limit_seconds=1) as connection:
                await connection.execute(text("SELECT 1"))
        server.thaw()
        async with transaction(engine) as connection:
            assert (await connection.execute(select(func.count()).select_from(job_ends))).scalar() == 1
        await engine.dispose()
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)
