"""The client that the guide teaches, against the live API; the guide's own lines are what runs."""

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.api import Api, Tenant
from tests.support.wire import ObjectStore

from renderfleet_cli.client import Fleet
from renderfleet_cli.errors import Failed, Misused
from renderfleet_cluster.places import REPOSITORY

GUIDE = REPOSITORY / "docs/guides/python-client.md"


def block(number: int) -> str:
    """A code block of the guide."""
    blocks: list[str] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    return blocks[number]


async def job_of(tenant: Tenant, kind: str) -> dict[str, Any]:
    """The newest job of a kind, as soon as there is one."""
    async with asyncio.timeout(30):
        while True:
            items: list[dict[str, Any]] = (await tenant.get("/jobs", kind=kind)).json()["items"]
            if items:
                return items[0]
            await asyncio.sleep(0.1)


async def test_the_guide_s_lines_work(api: Api, tenant: Tenant, store: ObjectStore, tmp_path: Path) -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-u", "-c", block(0)),
        cwd=tmp_path,
        env={**os.environ, "RENDERFLEET_URL": api.url, "RENDERFLEET_KEY": tenant.key},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert program.stdout is not None
    job = await job_of(tenant, "VoiceJob")
    # Its first line says that it listens: what happens from here on must come by the stream.
    lines = [await asyncio.wait_for(program.stdout.readline(), 30)]
    await store.media.write(f"media/{tenant.namespace}/{job['id']}/speech.mp3", b"speech", "audio/mpeg")
    await tenant.report(job, "Running", reason="Started")
    lines.append(await asyncio.wait_for(program.stdout.readline(), 30))
    await tenant.succeed(job, reason="MediaReady")
    rest, _ = await asyncio.wait_for(program.communicate(), 30)

    told = b"".join([*lines, rest]).decode()
    assert program.returncode == 0, told
    assert re.sub(" +\n", "\n", told).splitlines() == ["Queued 0", "Running 30 Started", "Succeeded 100 MediaReady"]
    assert (tmp_path / "speech.mp3").read_bytes() == b"speech"


async def test_a_video_names_what_it_is_made_of(api: Api, tenant: Tenant) -> None:
    def run() -> None:
        with Fleet(api.url, tenant.key) as fleet:
            exec(block(1), {"fleet": fleet, "print": lambda _: None})

    running = asyncio.create_task(asyncio.to_thread(run))
    job = await job_of(tenant, "VideoRender")
    assert (await tenant.object_of(job))["spec"]["avatarRef"] == {"name": "guide", "index": 1}
    await tenant.succeed(job)
    await asyncio.wait_for(running, 30)


async def test_waiting_for_what_ends_badly_raises(api: Api, tenant: Tenant) -> None:
    with Fleet(api.url, tenant.key) as fleet:
        voice = await asyncio.to_thread(lambda: fleet.submit("voice", text="Hello", voice_id="anna", name="hello"))
        waiting = asyncio.create_task(asyncio.to_thread(fleet.wait, voice))
        await tenant.report(await job_of(tenant, "VoiceJob"), "Failed", reason="InputRefused", message="no such voice")

        with pytest.raises(Failed, match="voicejob/hello ended as Failed: no such voice"):
            await asyncio.wait_for(waiting, 30)
        with pytest.raises(Failed, match="not over in time"):
            await asyncio.to_thread(
                fleet.wait, fleet.submit("voice", text="Hello", voice_id="anna"), timeout_seconds=0.5
            )
        with pytest.raises(Misused, match="text"):
            fleet.submit("voice", text="", voice_id="anna")
        assert [one.name for one in fleet.renders(kind="voice", limit=5) if one.id == voice.id] == ["hello"]
        assert fleet.get("voice/hello").message == "no such voice"
