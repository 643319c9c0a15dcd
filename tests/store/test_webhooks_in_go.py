"""What a receiver written in Go checks with the standard's own library: genuine is genuine, and nothing else is."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.receiver import receiver
from tests.support.renders import ended, seen

from renderfleet_api.webhooks.deliver import Courier
from renderfleet_api.webhooks.secrets import Safe, new_secret
from renderfleet_cluster.places import REPOSITORY
from renderfleet_providers.guarded import GuardedClient
from renderfleet_store import webhooks
from renderfleet_store.engine import transaction
from renderfleet_store.mirror import Mirror


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, compiled."""
    program = tmp_path_factory.mktemp("go") / "verify"
    subprocess.run(["go", "build", "-o", program, "."], cwd=REPOSITORY / "tests/support/verify_webhook", check=True)
    return program


async def test_the_library_for_go_takes_our_webhooks_and_no_others(
    engine: AsyncEngine, mirror: Mirror, verifier: Path
) -> None:
    safe, secrets = Safe("the server's own secret"), [new_secret(), new_secret()]
    async with receiver() as hook:
        endpoint = {
            "id": "we_1",
            "namespace": "rf-acme",
            "url": hook.url,
            "types": [],
            "secrets": [safe.seal(one) for one in secrets],
            "secret_rotated_at": datetime.now(UTC),
        }
        async with transaction(engine) as connection:
            await webhooks.add_endpoint(connection, endpoint)
        await mirror.record(seen(ended(status={"message": "schön, „fertig“ \u2028 🎬"})))
        assert await Courier(engine, safe, GuardedClient.trusting([hook.origin])).deliver_due() == 1
        [got] = hook.got

    def is_genuine(secret: str, body: str) -> bool:
        headers = [got.headers[f"webhook-{part}"] for part in ("id", "timestamp", "signature")]
        return subprocess.run([verifier, secret, *headers], input=body.encode(), check=False).returncode == 0

    assert "schön" in got.body
    # Right after a rotation a receiver may know either secret.
    assert [is_genuine(secret, got.body) for secret in secrets] == [True, True]
    assert not is_genuine(secrets[0], got.body + " ")
    assert not is_genuine(new_secret(), got.body)
