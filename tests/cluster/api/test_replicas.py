"""Several replicas are one API, and a restart forgets nothing."""

import asyncio
import signal
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url
from tests.support.api import Api, Tenant, api_process
from tests.support.postgres import Postgres, replica_of

from renderfleet_client import Cluster
from renderfleet_client.resources import Resource
from renderfleet_crds.kinds import VOICE_JOB

VOICE = {"text": "Welcome", "voiceId": "anna"}


async def test_one_key_makes_one_job_over_replicas_and_a_kill(
    api: Api, cluster: Cluster, tenant: Tenant, tmp_path: Path
) -> None:
    with api_process(tmp_path, api.environment) as second:
        async with second.client(tenant.key) as elsewhere:
            rush = [
                client.post("/voice", json=VOICE, headers={"Idempotency-Key": "over-all"})
                for _ in range(10)
                for client in (tenant.http, elsewhere)
            ]
            answers = await asyncio.gather(*rush)
        second.process.send_signal(signal.SIGKILL)
        second.process.wait()
    with api_process(tmp_path, api.environment) as third:
        async with third.client(tenant.key) as later:
            again = await later.post("/voice", json=VOICE, headers={"Idempotency-Key": "over-all"})
            other = await later.post("/voice", json={**VOICE, "text": "?"}, headers={"Idempotency-Key": "over-all"})

    [made] = (await cluster.list(Resource.of(VOICE_JOB), tenant.namespace)).items
    told = {one.json()["id"] for one in answers if one.status_code == 202}
    assert told == {made["metadata"]["uid"]} == {again.json()["id"]}
    assert {one.json()["code"] for one in answers if one.status_code != 202} <= {"idempotency_in_flight"}
    assert all("Retry-After" in one.headers for one in answers if one.status_code == 409)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_lists_come_from_the_replica_and_what_was_written_is_read_at_once(
    api: Api, api_database: str, postgres: Postgres, tenant: Tenant, tmp_path: Path
) -> None:
    with replica_of(postgres) as standby:
        replica = standby.url(str(make_url(api_database).database))

        def replay(verb: str) -> None:
            with psycopg.connect(standby.dsn(), autocommit=True) as connection:
                connection.execute(f"SELECT pg_wal_replay_{verb}()")

        with api_process(tmp_path, {**api.environment, "RENDERFLEET_REPLICA_URL": replica}) as reading:
            async with reading.client(tenant.key) as client:

                async def listed() -> list[str]:
                    return [one["id"] for one in (await client.get("/jobs")).json()["items"]]

                replay("pause")
                made = (await client.post("/voice", json=VOICE)).json()
                at_once = await client.get(f"/jobs/{made['id']}")
                behind = await listed()
                replay("resume")
                async with asyncio.timeout(20):
                    while await listed() != [made["id"]]:
                        await asyncio.sleep(0.05)
                standby.stop()
                without = await listed()

    assert (at_once.status_code, behind, without) == (200, [], [made["id"]])


async def test_readiness_tells_what_does_not_answer(api: Api, tmp_path: Path) -> None:
    async with api.client(None) as client:
        well = await client.get("/readyz")
    assert (well.status_code, set(well.json()["parts"].values())) == (200, {"ok"})

    lost = {**api.environment, "RENDERFLEET_S3_ENDPOINT": "http://127.0.0.1:9"}
    with api_process(tmp_path, lost) as half:
        async with half.client(None) as client:
            told = await client.get("/readyz")
    parts = told.json()["parts"]
    assert (told.status_code, parts["database"], parts["kubernetes"]) == (200, "ok", "ok")
    assert parts["storage"] != "ok"
