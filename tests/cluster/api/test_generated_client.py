"""A client that is generated from our OpenAPI document, in an environment of its own, works against the live API."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.api import Api, Tenant

from renderfleet_cluster.places import REPOSITORY

INPUT = REPOSITORY / "tests/data/input/generated-client"


def run(*command: str | Path, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "warning" not in done.stdout.lower(), done.stdout


def generate(document: str, folder: Path) -> Path:
    """The generator's Python, beside which the package `fleet_client` now is.

    Its requirements are locked apart from ours: it wants an older typer.
    """
    uv, python = REPOSITORY / ".venv/bin/uv", folder / "venv/bin/python"
    run(uv, "venv", "--quiet", "--python", sys.executable, folder / "venv", cwd=folder)
    lock = INPUT / "requirements.txt"
    run(uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, lock, cwd=folder)
    (folder / "openapi.json").write_text(document)
    (folder / "generator.yaml").write_text("post_hooks: []\npackage_name_override: fleet_client\n")
    generator = [python, "-m", "openapi_python_client", "generate", "--path", "openapi.json", "--meta", "none"]
    run(*generator, "--config", "generator.yaml", "--output-path", folder / "fleet_client", cwd=folder)
    return python


async def test_a_generated_client_submits_waits_and_lists(api: Api, tenant: Tenant, tmp_path: Path) -> None:
    document = (await tenant.get("/openapi.json")).text
    python = await asyncio.to_thread(generate, document, tmp_path)
    program = await asyncio.create_subprocess_exec(
        *(str(python), str(INPUT / "program.py"), api.url, tenant.key),
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert program.stdout is not None
    identity = (await asyncio.wait_for(program.stdout.readline(), 60)).decode().strip()
    if identity:
        await tenant.succeed((await tenant.get(f"/jobs/{identity}")).json())
    rest, errors = await asyncio.wait_for(program.communicate(), 60)
    assert program.returncode == 0, errors.decode()[-3000:]
    told = json.loads(rest)

    assert told["result"].startswith("http")
    assert (told["progress"], told["output"], told["listed"]) == (100, "speech", [identity])
    assert told["many"] == ["VoiceJob", "AvatarRender"]
    assert told["code"] == "invalid_request"
    assert "exactly one of text and prompt" in told["errors"][0]
