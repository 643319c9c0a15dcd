"""From an end in the mirror to a receiver: signed, at least once, and no longer than the receiver wants it."""

import asyncio
import base64
import json
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from standardwebhooks import Webhook
from tests.support.decoy import decoy
from tests.support.receiver import Receiver, receiver
from tests.support.renders import ended, seen

from renderfleet_api.webhooks.deliver import Courier
from renderfleet_api.webhooks.secrets import Safe, new_secret
from renderfleet_providers.guarded import GuardedClient
from renderfleet_store import webhooks
from renderfleet_store.engine import transaction
from renderfleet_store.mirror import Mirror
from renderfleet_store.tables import deliveries, webhook_endpoints

SAFE = Safe("the server's own secret")
SECRET = new_secret()


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


def courier(engine: AsyncEngine, hook: Receiver, **more: Any) -> Courier:
    return Courier(engine, SAFE, GuardedClient.trusting([hook.origin]), **more)


async def add_endpoint(engine: AsyncEngine, hook: Receiver, **more: Any) -> None:
    values = {
        "id": "we_1",
        "namespace": "rf-acme",
        "url": hook.url,
        "types": [],
        "secrets": [SAFE.seal(SECRET)],
        **more,
    }
    async with transaction(engine) as connection:
        await webhooks.add_endpoint(connection, values)


async def rows(engine: AsyncEngine, table: Any) -> list[Any]:
    async with transaction(engine) as connection:
        return list((await connection.execute(select(table))).mappings())


async def make_due(engine: AsyncEngine) -> None:
    async with transaction(engine) as connection:
        await connection.execute(text("UPDATE deliveries SET next_at = now()"))


async def test_an_end_arrives_signed_so_that_other_programs_agree(
    engine: AsyncEngine, mirror: Mirror, hook: Receiver
) -> None:
    await add_endpoint(engine, hook)
    body = ended()
    await mirror.record(seen(body))

    assert await courier(engine, hook).deliver_due() == 1
    assert await courier(engine, hook).deliver_due() == 0

    [got] = hook.got
    event = Webhook(SECRET).verify(got.body, got.headers)
    assert event["type"] == "render.succeeded"
    assert (event["data"]["id"], event["data"]["status"]) == (body["metadata"]["uid"], "Succeeded")
    assert datetime.fromisoformat(event["timestamp"]).tzinfo is not None
    # OpenSSL, which shares no code with us, comes to the same signature.
    signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.{got.body}"
    key = base64.b64decode(SECRET.removeprefix("whsec_")).hex()
    command = ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key}", "-binary"]
    other = base64.b64encode(subprocess.run(command, input=signed.encode(), capture_output=True, check=True).stdout)
    assert got.headers["webhook-signature"] == f"v1,{other.decode()}"
    [row] = await rows(engine, deliveries)
    assert (row["state"], row["tries"], row["log"][0]["status"]) == ("delivered", 1, 204)


async def test_a_failure_is_tried_again_with_the_same_id(engine: AsyncEngine, mirror: Mirror, hook: Receiver) -> None:
    await add_endpoint(engine, hook)
    await mirror.record(seen(ended()))
    answers = iter([(503, {"retry-after": "40"}), (302, {"location": hook.origin}), (200, {})])
    hook.answer = lambda _: next(answers)

    await courier(engine, hook).deliver_due()
    [row] = await rows(engine, deliveries)
    pause = row["next_at"] - datetime.now(UTC)
    assert timedelta(seconds=30) < pause < timedelta(seconds=50)
    [endpoint] = await rows(engine, webhook_endpoints)
    assert endpoint["failing_since"] is not None

    for _ in range(2):
        await make_due(engine)
        await courier(engine, hook).deliver_due()

    [row] = await rows(engine, deliveries)
    [endpoint] = await rows(engine, webhook_endpoints)
    assert row["state"] == "delivered"
    assert [(one["status"], one["error"]) for one in row["log"]] == [
        (503, "http_503"),
        (None, "redirected"),
        (200, None),
    ]
    assert len({one.headers["webhook-id"] for one in hook.got}) == 1
    assert [one.path for one in hook.got] == ["/hook"] * 3
    assert endpoint["failing_since"] is None


async def test_gone_means_gone(engine: AsyncEngine, mirror: Mirror, hook: Receiver) -> None:
    await add_endpoint(engine, hook)
    hook.answer = lambda _: (410, {})
    await mirror.record(seen(ended(), ended()))

    await courier(engine, hook, at_once=1).deliver_due()
    await courier(engine, hook).deliver_due()
    await mirror.record(seen(ended()))
    await courier(engine, hook).deliver_due()

    [endpoint] = await rows(engine, webhook_endpoints)
    assert (endpoint["enabled"], endpoint["disabled_reason"]) == (False, "The endpoint answered 410 Gone.")
    assert len(hook.got) == 1


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://127.0.0.1:{port}/hook", "scheme_refused"),
        ("https://127.0.0.1:{port}/hook", "address_not_public"),
        ("https://localhost:{port}/hook", "address_not_public"),
        ("https://[::ffff:127.0.0.1]:{port}/hook", "address_not_public"),
        ("https://2130706433:{port}/hook", "bad_host"),
        ("https://user@127.0.0.1:{port}/hook", "userinfo_refused"),
        ("https://127.0.0.1:1/hook", "port_refused"),
        pytest.param("https://hooks.example.test:{port}/hook", "address_not_public", id="a name that leads inside now"),
    ],
)
async def test_a_receiver_inside_our_network_is_not_reached(
    engine: AsyncEngine, mirror: Mirror, hook: Receiver, url: str, error: str
) -> None:
    async def leads_inside(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    async with decoy() as inside:
        await add_endpoint(engine, hook, url=url.format(port=inside.port))
        await mirror.record(seen(ended()))
        await Courier(engine, SAFE, GuardedClient(port=inside.port, resolver=leads_inside)).deliver_due()

    assert inside.connections == 0
    [row] = await rows(engine, deliveries)
    assert row["log"][0]["error"] == error


async def test_both_secrets_sign_after_a_rotation(engine: AsyncEngine, mirror: Mirror, hook: Receiver) -> None:
    new = new_secret()
    await add_endpoint(engine, hook, secrets=[SAFE.seal(new), SAFE.seal(SECRET)], secret_rotated_at=datetime.now(UTC))
    await mirror.record(seen(ended()))

    await courier(engine, hook).deliver_due()

    for secret in (new, SECRET):
        Webhook(secret).verify(hook.got[0].body, hook.got[0].headers)


async def test_many_workers_share_the_work(engine: AsyncEngine, mirror: Mirror, hook: Receiver) -> None:
    await add_endpoint(engine, hook)
    await mirror.record(seen(*(ended() for _ in range(60))))
    hook.delay_seconds = 0.02

    async def work() -> None:
        while await courier(engine, hook, at_once=5).deliver_due():
            pass

    await asyncio.gather(*(work() for _ in range(4)))

    assert len(hook.got) == 60
    assert len({one.headers["webhook-id"] for one in hook.got}) == 60


async def test_what_a_dead_worker_had_claimed_is_sent_by_another(
    engine: AsyncEngine, mirror: Mirror, hook: Receiver
) -> None:
    await add_endpoint(engine, hook)
    await mirror.record(seen(ended()))
    async with transaction(engine) as connection:
        assert len(await webhooks.claim_due(connection, limit=5, lease_seconds=0.3)) == 1

    assert await courier(engine, hook).deliver_due() == 0
    await asyncio.sleep(0.4)
    assert await courier(engine, hook).deliver_due() == 1
    assert len(hook.got) == 1


async def test_resend_and_replay(engine: AsyncEngine, mirror: Mirror, hook: Receiver) -> None:
    begin = datetime.now(UTC) - timedelta(seconds=5)
    await mirror.record(seen(ended("VoiceJob"), ended(phase="Failed")))
    await add_endpoint(engine, hook, types=["render.succeeded"])
    await mirror.record(seen(ended("VideoRender")))
    await courier(engine, hook).deliver_due()
    assert len(hook.got) == 1

    async with transaction(engine) as connection:
        endpoint = await webhooks.get_endpoint(connection, "rf-acme", "we_1")
        assert endpoint is not None
        [delivery] = await webhooks.deliveries_of(connection, "we_1", limit=10)
        assert await webhooks.resend(connection, "we_1", delivery["id"])
        assert not await webhooks.resend(connection, "we_other", delivery["id"])
    await courier(engine, hook).deliver_due()
    assert [one.headers["webhook-id"] for one in hook.got] == [hook.got[0].headers["webhook-id"]] * 2

    async with transaction(engine) as connection:
        assert await webhooks.replay(connection, endpoint, begin, datetime.now(UTC)) == 2
        assert await webhooks.replay(connection, endpoint, begin, begin) == 0
    await courier(engine, hook).deliver_due()
    kinds = [json.loads(one.body)["data"]["kind"] for one in hook.got[2:]]
    assert sorted(kinds) == ["VideoRender", "VoiceJob"]


async def test_the_log_of_tries_is_bounded(engine: AsyncEngine, mirror: Mirror, hook: Receiver) -> None:
    await add_endpoint(engine, hook)
    await mirror.record(seen(ended()))
    [row] = await rows(engine, deliveries)
    async with transaction(engine) as connection:
        for number in range(webhooks.LOG_TRIES + 5):
            tried = webhooks.Tried(datetime.now(UTC), 500 + number, "no", 1, "pending", datetime.now(UTC))
            await webhooks.settle(connection, row["id"], tried)

    [row] = await rows(engine, deliveries)
    assert [row["log"][0]["status"], row["log"][-1]["status"], len(row["log"])] == [505, 524, 20]
