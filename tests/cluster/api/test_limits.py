"""Limits, as the one who meets them is told: how often, how much money, how many objects."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import Api, Tenant, api_process, make_tenant

from renderfleet_bench.proc import cost_of
from renderfleet_client import Cluster
from renderfleet_client.resources import Resource
from renderfleet_crds.kinds import RENDER_TENANT, VOICE_JOB
from renderfleet_crds.voice_job import TEXT_MAX_CHARACTERS
from renderfleet_store.engine import transaction

TENANTS = Resource.of(RENDER_TENANT)
VOICE = {"text": "Welcome", "voiceId": "anna"}


async def test_each_key_is_told_how_often_it_may_call(api: Api, tenant: Tenant, other: Tenant, tmp_path: Path) -> None:
    environment = {**api.environment, "RENDERFLEET_RATE_PER_SECOND": "0.01", "RENDERFLEET_RATE_BURST": "3"}
    with api_process(tmp_path, environment) as slow:
        async with slow.client(tenant.key) as client, slow.client(other.key) as another:
            answers = [await client.get("/jobs") for _ in range(4)]
            untouched = await another.get("/jobs")
            none = await client.get("/jobs")

    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert [one.headers["RateLimit"].split(";")[1] for one in answers] == ["r=2", "r=1", "r=0", "r=0"]
    assert {one.headers["RateLimit-Policy"] for one in answers} == {'"key";q=3;w=300'}
    assert (none.json()["code"], none.json()["retryable"]) == ("rate_limited", True)
    assert 50 < int(none.headers["Retry-After"]) <= 100
    assert untouched.status_code == 200


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET /healthz HTTP/1.1\r\nX-Much: " + b"x" * 200_000, id="one field without end"),
        pytest.param(b"GET /healthz HTTP/1.1\r\n" + b"X-Many: x\r\n" * 20_000, id="fields without end"),
        pytest.param(b"GET /" + b"x" * 200_000, id="an address without end"),
    ],
)
async def test_a_head_without_end_is_not_kept(api: Api, head: bytes) -> None:
    address = urlsplit(api.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    async with asyncio.timeout(20):
        with suppress(ConnectionError):
            writer.write(head)
            await writer.drain()
            assert not (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()


@pytest.mark.parametrize("announced", [True, False], ids=["says how long it is", "goes on and on"])
async def test_a_body_without_end_is_not_kept(api: Api, announced: bool) -> None:
    """Bodies are read before keys are looked at."""
    before = cost_of(api.process.pid).peak_rss_mib

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x" * 1_000_000

    headers = {"Content-Type": "application/json", **({"Content-Length": "200000000"} if announced else {})}
    async with api.client(None) as client:
        refused = await client.post("/voice", content=parts(), headers=headers)

    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert cost_of(api.process.pid).peak_rss_mib < before + 60


async def test_the_longest_list_is_no_body_without_end(tenant: Tenant) -> None:
    item = {"kind": "Teapot", "text": "ж" * TEXT_MAX_CHARACTERS}

    body, headers = json.dumps({"items": [item] * 100}), {"Content-Type": "application/json"}
    answer = await tenant.http.post("/jobs", content=body, headers=headers)

    assert (answer.status_code, answer.json()["accepted"]) == (200, 0)


async def test_a_used_up_budget_refuses_what_more_money_would_be_spent_on(
    api: Api, cluster: Cluster, tenant: Tenant
) -> None:
    async with api.client() as admin:
        await admin.patch(f"/admin/tenants/{tenant.name}", json={"monthlyBudgetMicros": 1000})
        month = datetime.now(UTC).strftime("%Y-%m")

        async def spend(micros: int, in_month: str) -> None:
            status = {"spentMicros": micros, "budgetMonth": in_month}
            await cluster.patch(TENANTS, tenant.name, {"status": status}, subresource="status")
            # A change by an administrator makes the API look again at once.
            await admin.patch(f"/admin/tenants/{tenant.name}", json={"displayName": f"{micros} in {in_month}"})

        await spend(999, month)
        made = await tenant.post("/voice", VOICE, Idempotency_Key="before")
        await spend(1000, month)
        refused = await tenant.post("/voice", VOICE)
        rehearsed = await tenant.post("/voice?dryRun=true", VOICE)
        many = (await tenant.post("/jobs", {"items": [{"kind": "VoiceJob", **VOICE}]})).json()
        again = await tenant.post("/voice", VOICE, Idempotency_Key="before")
        await spend(1000, "2020-01")
        next_month = await tenant.post("/voice", VOICE)

    assert (made.status_code, next_month.status_code) == (202, 202)
    assert (refused.status_code, refused.json()["code"]) == (403, "budget_exhausted")
    assert refused.json()["charged"] == "false"
    assert rehearsed.json()["code"] == many["results"][0]["problem"]["code"] == "budget_exhausted"
    assert again.json()["id"] == made.json()["id"]


async def test_the_object_that_used_the_limit_up_is_found_again(
    api: Api, cluster: Cluster, tenant: Tenant, engine: AsyncEngine
) -> None:
    """The process died between the cluster's answer and its row; meanwhile there is no room for another object."""
    small = await make_tenant(api, cluster, tenant.mirror, objects=1)
    first = (await small.post("/voice", VOICE, Idempotency_Key="last")).json()
    async with transaction(engine) as connection:
        await connection.execute(
            text("DELETE FROM idempotency WHERE namespace = :namespace"), {"namespace": small.namespace}
        )

    again = await small.post("/voice", VOICE, Idempotency_Key="last")
    other = await small.post("/voice", VOICE, Idempotency_Key="another")
    await small.http.aclose()

    assert (again.status_code, again.json().get("id")) == (202, first["id"])
    assert (other.status_code, other.json()["code"]) == (403, "storage_limit_reached")
    assert len((await cluster.list(Resource.of(VOICE_JOB), small.namespace)).items) == 1


async def test_a_key_is_rotated_without_a_gap(api: Api, tenant: Tenant, engine: AsyncEngine) -> None:
    keys = f"/admin/tenants/{tenant.name}/keys"
    async with api.client() as admin:
        old = (await admin.post(keys, json={"name": "robot", "scopes": ["read"], "expiresInDays": 10})).json()
        async with api.client(old["key"]) as user:
            assert (await user.get("/jobs")).status_code == 200
        new = (await admin.post(f"{keys}/{old['id']}/rotate", json={"overlapSeconds": 600})).json()
        listed = {one["id"]: one for one in (await admin.get(keys)).json()["items"]}
        for key in (old["key"], new["key"]):
            async with api.client(key) as user:
                assert (await user.get("/jobs")).status_code == 200
                assert (await user.post("/voice", json=VOICE)).json()["code"] == "scope_missing"
        twice = await admin.post(f"{keys}/{old['id']}/rotate", json={"overlapSeconds": 0})
        async with api.client(old["key"]) as user:
            assert (await user.get("/jobs")).status_code == 200
        newest = (await admin.post(f"{keys}/{new['id']}/rotate", json={"overlapSeconds": 0})).json()
        async with api.client(new["key"]) as user:
            gone = await user.get("/jobs")
        async with api.client(newest["key"]) as user:
            assert (await user.get("/jobs")).status_code == 200
        assert (await admin.post(f"{keys}/{new['id']}/rotate")).status_code == 404
        assert (await admin.post(f"{keys}/nothing/rotate")).status_code == 404

    assert (twice.status_code, twice.json()["code"]) == (409, "key_retiring")
    assert (new["name"], new["scopes"], new["key"] != old["key"]) == ("robot", ["read"], True)
    soon = datetime.now(UTC) + timedelta(seconds=601)
    assert datetime.fromisoformat(listed[old["id"]]["expiresAt"]) < soon
    life = datetime.fromisoformat(new["expiresAt"]) - datetime.now(UTC)
    assert timedelta(days=9) < life < timedelta(days=10, seconds=60)
    assert listed[old["id"]]["lastUsedAt"]
    assert listed[new["id"]]["lastUsedAt"] is None
    assert gone.status_code == 401
