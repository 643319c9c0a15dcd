"""A vendor's callback hastens the end of a video; without it only the next poll would find it."""

from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import httpx2
from tests.support.node import real_runner

from .conftest import Fleet, eventually

HARBOUR = "https://callbacks.example"
SECRET = "a secret for callbacks"
VOICE = "21m00Tcm4TlvDq8ikWAM"


async def test_a_callback_is_a_hint_to_ask_the_vendor_now(fleet: Fleet, tmp_path: Path) -> None:
    fleet.node.program = real_runner(fleet.cluster, tmp_path)
    await fleet.edit_provider("did", pollSeconds=600)
    operator = await fleet.start(callback_url=HARBOUR, callback_secret=SECRET)
    await fleet.apply("VideoRender", "talk", avatarRef={"name": "face"}, script="Welcome aboard.", voiceId=VOICE)
    await fleet.apply("AvatarRender", "face")

    async def called_back() -> str | None:
        async with httpx2.AsyncClient() as session:
            seen = (await session.get(f"{fleet.standin.base_url}/_standin/calls")).json()["callbacks"]
        return next((one["webhook"] for one in seen if one["status_told"] == "done"), None)

    url = urlsplit(await eventually(called_back, 90))
    assert f"{url.scheme}://{url.netloc}" == HARBOUR
    video = await fleet.until("VideoRender", "talk", "Waiting")
    assert url.path.startswith(f"/callbacks/{video['metadata']['uid']}/")

    async with aiohttp.ClientSession(f"http://127.0.0.1:{operator.callback_door.port}") as session:
        async with session.post(url.path[:-1] + "!", json={"status": "done"}) as guessed:
            assert guessed.status == 404
        async with session.post(url.path, json={"status": "error"}) as answer:
            assert answer.status == 202

    done = await fleet.until("VideoRender", "talk", "Succeeded", 60)
    assert done["status"]["cost"]["actualMicros"] >= 0
