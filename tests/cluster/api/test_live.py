"""Server-sent events: nothing is missed, nothing comes twice, over reconnects and restarts."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import Api, Tenant, api_process
from tests.support.wire import free_port

from renderfleet_store.engine import transaction


@dataclass
class Event:
    """One server-sent event."""

    type: str
    id: str
    data: dict[str, Any]


async def events(answer: httpx2.Response) -> AsyncIterator[Event]:
    """Events as they arrive."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if not line and "data" in fields:
            yield Event(fields.get("event", "message"), fields.get("id", ""), json.loads(fields["data"]))
            fields = {}
        name, _, value = line.partition(": ")
        if name:
            fields[name] = value


@asynccontextmanager
async def following(
    client: httpx2.AsyncClient, path: str, last: str | None = None
) -> AsyncIterator[AsyncIterator[Event]]:
    """An open event stream."""
    headers = {"Last-Event-ID": last} if last else {}
    async with client.stream("GET", path, headers=headers, timeout=60) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events(answer)


async def test_a_stream_tells_each_change_and_ends_with_the_whole_job(tenant: Tenant) -> None:
    job = await tenant.submit()

    async def play() -> None:
        await tenant.report(job, "Running", stage="synthesize")
        await tenant.succeed(job)

    async with following(tenant.http, job["links"]["events"]) as stream:
        first = await anext(stream)
        playing = asyncio.create_task(play())
        rest = [event async for event in stream]
    await playing

    told = [first, *rest]
    assert [(one.type, one.data["status"]) for one in told] == [
        ("changed", "Queued"),
        ("changed", "Running"),
        ("end", "Succeeded"),
        ("done", "Succeeded"),
    ]
    numbers = [int(one.id) for one in told]
    assert numbers[:3] == sorted(set(numbers[:3]))
    assert told[-1].data["resultUrl"].startswith("http")
    assert told[-1].data["finishedAt"]


async def test_a_change_arrives_well_before_the_next_poll(tenant: Tenant) -> None:
    job = await tenant.submit()
    async with following(tenant.http, job["links"]["events"]) as stream:
        await anext(stream)
        waits = []
        for progress in range(40, 45):
            begin = time.monotonic()
            patched = asyncio.create_task(tenant.report(job, "Running", message=f"step {progress}"))
            await anext(stream)
            waits.append(time.monotonic() - begin)
            await patched
    assert sorted(waits)[2] < 1.0


async def test_a_stream_goes_on_where_it_broke(tenant: Tenant) -> None:
    job = await tenant.submit()
    await tenant.report(job, "Running")
    async with following(tenant.http, job["links"]["events"]) as stream:
        queued, running = await anext(stream), await anext(stream)
    await tenant.succeed(job)

    async with following(tenant.http, job["links"]["events"], running.id) as stream:
        rest = [event async for event in stream]
    async with following(tenant.http, job["links"]["events"], queued.id) as stream:
        more = [event async for event in stream]

    assert [one.type for one in rest] == ["end", "done"]
    assert [one.type for one in more] == ["changed", "end", "done"]


async def test_a_tenants_stream_holds_its_jobs_and_no_others(tenant: Tenant, other: Tenant) -> None:
    async with following(tenant.http, "/events") as stream:
        hello = await anext(stream)
        assert hello.type == "hello"
        await other.submit()
        mine = await tenant.submit()
        first = await anext(stream)
        await tenant.report(mine, "Running")
        second = await anext(stream)
    assert [(one.data["id"], one.data["status"]) for one in (first, second)] == [
        (mine["id"], "Queued"),
        (mine["id"], "Running"),
    ]

    await tenant.succeed(mine)
    async with following(tenant.http, "/events", first.id) as stream:
        again = [await anext(stream) for _ in range(3)]
    assert [one.data.get("status") for one in again] == [None, "Running", "Succeeded"]


async def test_an_id_that_is_no_longer_kept_is_told_so(tenant: Tenant, engine: AsyncEngine) -> None:
    job = await tenant.submit()
    async with following(tenant.http, job["links"]["events"]) as stream:
        first = await anext(stream)
    await tenant.report(job, "Running")
    await tenant.succeed(job)
    await tenant.submit()
    async with transaction(engine) as connection:
        await connection.execute(
            text("DELETE FROM job_events WHERE seq <= (SELECT max(seq) FROM job_events WHERE uid = :uid)"),
            {"uid": job["id"]},
        )

    async with following(tenant.http, job["links"]["events"], first.id) as stream:
        told = [event.type async for event in stream]
    async with following(tenant.http, "/events", first.id) as stream:
        tenants = [(await anext(stream)).type for _ in range(2)]

    assert told == ["reset", "done"]
    assert tenants == ["reset", "hello"]


async def test_a_client_that_reconnects_survives_a_restart_without_loss(
    api: Api, tenant: Tenant, tmp_path: Path
) -> None:
    """The server goes down in the middle of a stream, at once, and comes back; ids say where to go on."""
    port = free_port()
    job = await tenant.submit()
    seen: list[Event] = []

    async def follow(client: httpx2.AsyncClient) -> None:
        while not seen or seen[-1].type != "done":
            try:
                last = seen[-1].id if seen else None
                async with following(client, f"/jobs/{job['id']}/events", last) as stream:
                    async for event in stream:
                        seen.append(event)  # noqa: PERF401  (kept when the stream breaks)
            except httpx2.TransportError:
                await asyncio.sleep(0.1)

    with api_process(tmp_path, api.environment, port=port) as first:
        client = first.client(tenant.key)
        following_it = asyncio.create_task(follow(client))
        await tenant.report(job, "Running")
        while len(seen) < 2:
            await asyncio.sleep(0.02)
        begin = time.monotonic()
        first.process.terminate()
        await asyncio.to_thread(first.process.wait, 20)
        went_down_in = time.monotonic() - begin
    await tenant.report(job, "Waiting")
    with api_process(tmp_path, api.environment, port=port):
        await tenant.report(job, "Finalizing")
        await tenant.succeed(job)
        async with asyncio.timeout(20):
            await following_it
    await client.aclose()

    assert went_down_in < 5
    assert [one.data["status"] for one in seen] == [
        "Queued", "Running", "Waiting", "Finalizing", "Succeeded", "Succeeded"
    ]  # fmt: skip


async def test_a_quiet_stream_is_kept_alive(tenant: Tenant) -> None:
    """Proxies close what says nothing for long."""
    async with tenant.http.stream("GET", "/events", timeout=30) as answer:
        assert answer.headers["x-accel-buffering"] == "no"
        async for line in answer.aiter_lines():
            if line.startswith(":"):
                break
        else:
            raise AssertionError("the stream ended without a heartbeat")


async def test_who_may_not_see_the_job_gets_no_stream(tenant: Tenant, other: Tenant) -> None:
    job = await tenant.submit()

    answer = await other.get(f"/jobs/{job['id']}/events")

    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
