"""Several replicas are one API, and a restart forgets nothing."""

import asyncio
import signal
from pathlib import Path

from tests.support.api import Api, Tenant, api_process

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
