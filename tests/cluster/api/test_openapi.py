"""What the OpenAPI document says is what the API does, also for input that nobody thought of."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.api import Api, Tenant


async def test_schemathesis_finds_no_violation(api: Api, tenant: Tenant, tmp_path: Path) -> None:
    """Generated requests, alone and in chains; also none may be answered by a 500.

    Left out: that all input which fits the schema is accepted. "Exactly one of text and prompt" or "a key of your own
    media" cannot be said there. Event streams are left out since they do not end.
    """
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{api.url}/openapi.json"),
        *("-H", f"Authorization: Bearer {tenant.key}"),
        *("--exclude-path-regex", r"^/admin|/?events$"),
        *("--exclude-checks", "positive_data_acceptance"),
        *("-n", "8", "--request-timeout", "60", "--seed", "1"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False)

    assert done.returncode == 0, done.stdout[-6000:]
    assert "Tested: " in done.stdout


async def test_every_route_says_what_it_refuses(api: Api) -> None:
    async with api.client() as client:
        document = (await client.get("/openapi.json")).json()

    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answers = operation["responses"]
            assert {"401", "403", "422", "429", "503"} <= set(answers), (method, path)
            assert "application/problem+json" in answers["422"]["content"], (method, path)
            assert operation["description"], (method, path)
    assert "HTTPValidationError" not in json.dumps(document)


async def test_a_method_that_is_not_there_names_those_that_are(api: Api, tenant: Tenant) -> None:
    answer = await tenant.http.request("DELETE", "/webhooks")

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
    assert answer.json()["code"] == "method_not_allowed"
