"""Webhooks by the routes and the delivering process, as a customer meets them."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook
from tests.support.api import Api, Tenant, api_process
from tests.support.receiver import Receiver, receiver
from tests.support.wire import free_port, running


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


async def test_a_customer_is_told_of_the_end(api: Api, tenant: Tenant, hook: Receiver, tmp_path: Path) -> None:
    trusting = {
        "RENDERFLEET_WEBHOOK_TRUSTED_ORIGINS": json.dumps([hook.origin]),
        "RENDERFLEET_WEBHOOK_METRICS_PORT": str(free_port()),
    }
    environment = {**os.environ, **api.environment, **trusting}
    with (
        api_process(tmp_path, environment) as door,
        running([sys.executable, "-m", "renderfleet_api.webhooks"], tmp_path / "courier.log", environment),
    ):
        async with door.client(tenant.key) as client:
            made = (await client.post("/webhooks", json={"url": hook.url, "types": ["render.succeeded"]})).json()
            assert (await client.post(f"/webhooks/{made['id']}/test")).status_code == 202
            await hook.until(1, 60)
            job, other = await tenant.submit(), await tenant.submit()
            await tenant.report(other, "Failed")
            await tenant.succeed(job)
            await hook.until(2, 60)

            told = [Webhook(made["secret"]).verify(one.body, one.headers) for one in hook.got]
            assert [one["type"] for one in told] == ["webhook.test", "render.succeeded"]
            assert told[1]["data"]["id"] == job["id"]

            deliveries = await until_delivered(client, made["id"], 2)
            assert [one["type"] for one in deliveries] == ["render.succeeded", "webhook.test"]
            assert deliveries[0]["jobId"] == job["id"]
            assert deliveries[0]["log"][0]["status"] == 204
            again = await client.post(f"/webhooks/{made['id']}/deliveries/{deliveries[0]['id']}/resend")
            assert again.status_code == 202
            await hook.until(3, 60)
            assert hook.got[2].headers["webhook-id"] == deliveries[0]["eventId"]


async def until_delivered(client: Any, endpoint: str, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(30):
        while True:
            items: list[dict[str, Any]] = (await client.get(f"/webhooks/{endpoint}/deliveries")).json()["items"]
            if len([one for one in items if one["state"] == "delivered"]) >= count:
                return items
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "https://example.com:8443/hook",
        "https://user:pass@example.com/",
        "https://2130706433/",
        "ftp://example.com/",
        "not a url",
    ],
)
async def test_an_address_that_would_never_be_called_is_refused_at_once(tenant: Tenant, url: str) -> None:
    answer = await tenant.post("/webhooks", {"url": url})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "url")


async def test_endpoints_are_kept_apart_changed_and_removed(tenant: Tenant, other: Tenant) -> None:
    made = (await tenant.post("/webhooks", {"url": "https://hooks.example.com/a"})).json()
    place = f"/webhooks/{made['id']}"

    for method, path in [
        ("GET", place),
        ("DELETE", place),
        ("POST", f"{place}/rotate"),
        ("GET", f"{place}/deliveries"),
    ]:
        assert (await other.http.request(method, path)).status_code == 404
    assert (await other.get("/webhooks")).json()["items"] == []

    shown = (await tenant.get(place)).json()
    rotated = (await tenant.post(f"{place}/rotate")).json()
    changed = await tenant.http.patch(place, json={"enabled": False, "types": ["render.failed"], "description": "x"})

    assert "secret" not in shown
    assert rotated["secret"] != made["secret"]
    assert (changed.json()["enabled"], changed.json()["types"]) == (False, ["render.failed"])
    assert (await tenant.http.delete(place)).status_code == 204
    assert (await tenant.get(place)).status_code == 404
