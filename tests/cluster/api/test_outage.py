"""While PostgreSQL is away: what needs it says so and can be repeated, what does not goes on, and afterwards all is as before."""

import asyncio
from collections.abc import AsyncIterator

from tests.support.api import Tenant
from tests.support.postgres import Postgres

from renderfleet_client import Cluster
from renderfleet_client.resources import Resource
from renderfleet_crds.kinds import VOICE_JOB

from .test_live import Event, following

VOICE = {"text": "Welcome", "voiceId": "anna"}


async def _until(stream: AsyncIterator[Event], status: str) -> None:
    async for event in stream:
        if event.data.get("status") == status:
            return


async def test_while_the_database_is_away(tenant: Tenant, postgres: Postgres, cluster: Cluster) -> None:
    job = await tenant.submit()
    async with following(tenant.http, "/events") as stream:
        assert (await anext(stream)).type == "hello"
        postgres.stop()
        try:
            with_key = await tenant.post("/voice", VOICE, Idempotency_Key="k")
            reads = [await tenant.get(place) for place in (f"/jobs/{job['id']}", "/jobs", "/avatars", "/webhooks")]
            objects = (await cluster.list(Resource.of(VOICE_JOB), tenant.namespace)).items
            without_key = await tenant.post("/voice", VOICE)
        finally:
            await asyncio.to_thread(postgres.start)
        async with asyncio.timeout(30):
            while (later := await tenant.post("/voice", VOICE, Idempotency_Key="k")).status_code == 503:
                await asyncio.sleep(float(later.headers["Retry-After"]))
            await tenant.report(job, "Running")
            await _until(stream, "Running")

    for refused in (with_key, *reads):
        told = refused.json()
        assert (refused.status_code, told["code"]) == (503, "database_unavailable"), told
        assert (told["retryable"], told["charged"], refused.headers["Retry-After"]) == (True, "false", "5")
    assert [one["metadata"]["uid"] for one in objects] == [job["id"]], "nothing was made that could be made twice"
    assert (without_key.status_code, without_key.json()["status"]) == (202, "Queued")
    assert (await tenant.object_of(without_key.json()))["metadata"]["uid"] == without_key.json()["id"]
    assert later.status_code == 202
