"""What the OpenAPI document says is what the API does, also for input that nobody thought of."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.api import ADMIN_KEY, Api, Tenant

from renderfleet_client import Cluster
from renderfleet_client.resources import Resource
from renderfleet_cluster.places import REPOSITORY
from renderfleet_crds import meta
from renderfleet_crds.kinds import RENDER_PROVIDER

CONFIG = REPOSITORY / "tests/data/input/schemathesis.toml"


@pytest.fixture
async def provider(cluster: Cluster) -> AsyncIterator[None]:
    """The one that CONFIG names; other tests have theirs in the same cluster."""
    providers, name = Resource.of(RENDER_PROVIDER), "schemathesis"
    spec = {"vendor": "openai", "baseUrl": "https://api.example", "secretRef": {"name": "x"}, "limits": {}}
    body = {"apiVersion": meta.API_VERSION, "kind": RENDER_PROVIDER.kind, "metadata": {"name": name}, "spec": spec}
    await cluster.create(providers, body)
    yield
    await cluster.delete(providers, name)


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize(
    ("paths", "most_examples"),
    [
        pytest.param(("--exclude-path-regex", r"^/admin|/?events$"), 8, id="routes of a tenant"),
        pytest.param(("--include-path-regex", "^/admin"), 4, id="routes of an administrator"),
    ],
)
async def test_schemathesis_finds_no_violation(
    api: Api, tenant: Tenant, tmp_path: Path, paths: tuple[str, str], most_examples: int
) -> None:
    """Generated requests, alone and in chains; also none may be answered by a 500.

    Left out: that all input which fits the schema is accepted. "Exactly one of text and prompt" or "a key of your own
    media" cannot be said there. Event streams are left out since they do not end.
    """
    is_admin = "^/admin" in paths
    if is_admin:
        await tenant.report(await tenant.submit("VoiceJob"), "DeadLettered")
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{api.url}/openapi.json"),
        *("-H", f"Authorization: Bearer {ADMIN_KEY if is_admin else tenant.key}", *paths),
        *("--exclude-checks", "positive_data_acceptance"),
        *("-n", str(most_examples), "--request-timeout", "60", "--seed", "1"),
    ]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False
    )

    assert done.returncode == 0, done.stdout[-6000:]
    assert "Tested: " in done.stdout
    links = re.search(r"API Links: +(\d+) covered", done.stdout)
    assert links is not None
    assert int(links[1]) > 0, done.stdout[-3000:]


async def test_every_link_leads_to_an_operation_with_all_that_it_needs(api: Api) -> None:
    async with api.client() as client:
        document = (await client.get("/openapi.json")).json()
    operations = {
        operation["operationId"]: (path, operation)
        for path, there in document["paths"].items()
        for operation in there.values()
    }
    linked: dict[str, set[str]] = {}
    for name, (_, operation) in operations.items():
        for answer in operation["responses"].values():
            for link in answer.get("links", {}).values():
                target, _ = operations[link["operationId"]]
                assert set(link["parameters"]) <= set(re.findall(r"{(\w+)}", target)), (name, link)
                assert set(link["parameters"]) | {"name"} >= set(re.findall(r"{(\w+)}", target)), (name, link)
                linked.setdefault(name, set()).add(link["operationId"])

    for made in ("preview_avatar", "create_voice", "create_video", "cancel_job", "retry_job", "get_job"):
        assert linked[made] == {"get_job", "cancel_job", "retry_job", "follow_job"}
    assert linked["save_avatar"] == {"get_avatar", "change_avatar", "delete_avatar"}
    assert {"rotate_secret", "send_test", "delete_endpoint"} <= linked["create_endpoint"]
    assert linked["create_key"] == {"rotate_key", "revoke_key"}


async def test_every_route_says_what_it_refuses(api: Api) -> None:
    async with api.client() as client:
        document = (await client.get("/openapi.json")).json()

    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answers = operation["responses"]
            assert {"401", "403", "422", "429", "503"} <= set(answers), (method, path)
            assert ("413" in answers) == ("requestBody" in operation), (method, path)
            assert "application/problem+json" in answers["422"]["content"], (method, path)
            assert operation["description"], (method, path)
    assert "HTTPValidationError" not in json.dumps(document)


async def test_a_method_that_is_not_there_names_those_that_are(api: Api, tenant: Tenant) -> None:
    answer = await tenant.http.request("DELETE", "/webhooks")

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
    assert answer.json()["code"] == "method_not_allowed"
