"""The command line by REST against the live API, as a program of its own: what it prints, and to whom."""

import asyncio
import json
import os
import pty
import re
import sys
from dataclasses import dataclass

from tests.support.api import Api, Tenant
from tests.support.wire import ObjectStore

COLOUR_OR_MOVE = "\x1b["


@dataclass(frozen=True)
class Ran:
    """How a command went."""

    code: int
    out: str
    err: str


async def renderfleet(api: Api, key: str, *words: str) -> Ran:
    """A command whose output goes into pipes."""
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "renderfleet_cli", *words),
        env=environment(api, key),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(program.communicate(), 60)
    assert program.returncode is not None
    return Ran(program.returncode, out.decode(), err.decode())


async def in_a_terminal(api: Api, key: str, columns: int, *words: str) -> str:
    """What a command shows on a screen of this width."""
    ours, theirs = pty.openpty()
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "renderfleet_cli", *words),
        env={**environment(api, key), "COLUMNS": str(columns), "TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)

    def read() -> str:
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:
                # How Linux says that nobody holds the other end any more.
                return shown.decode()
            if not part:
                return shown.decode()
            shown += part

    shown = await asyncio.wait_for(asyncio.to_thread(read), 60)
    await program.wait()
    os.close(ours)
    return shown


def environment(api: Api, key: str) -> dict[str, str]:
    """No fleet but this one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RENDERFLEET_")}
    return {**kept, "RENDERFLEET_URL": api.url, "RENDERFLEET_KEY": key, "KUBECONFIG": "/absent"}


async def test_doctor_asks_the_api_for_all_that_it_stands_on(api: Api, tenant: Tenant, store: ObjectStore) -> None:
    before = await renderfleet(api, tenant.key, "doctor", "-o", "json")
    job = await tenant.submit()
    await store.media.write(f"media/{tenant.namespace}/{job['id']}/speech.mp3", b"speech", "audio/mpeg")
    await tenant.succeed(job)
    after = await renderfleet(api, tenant.key, "doctor", "-o", "json")

    assert after.code == 0, after.out
    verdicts = [{one["what"]: one["verdict"] for one in json.loads(ran.out)["findings"]} for ran in (before, after)]
    assert verdicts[0]["results"] == "skip"
    assert verdicts[1] == dict.fromkeys(("REST API", "database", "storage", "API key", "results"), "ok") | {
        "providers": "skip"
    }


async def test_a_refusal_speaks_of_flags(api: Api, tenant: Tenant) -> None:
    ran = await renderfleet(api, tenant.key, "submit", "voice", "--text", "", "--voice-id", "x", "--speed", "9")

    assert ran.code == 2
    assert "error: --speed: " in ran.err or "; --speed: " in ran.err
    assert "--text: " in ran.err
    assert "fix: `renderfleet submit voice --help`" in ran.err


async def test_pipes_get_text_and_screens_get_bars(api: Api, tenant: Tenant) -> None:
    job = await tenant.submit(name="greeting")
    long = "the voice does not exist in this account; ask its owner to share it with you, or choose another"
    await tenant.report(job, "Failed", reason="InputRefused", message=long)

    piped = await renderfleet(api, tenant.key, "watch", "greeting")
    narrow = await in_a_terminal(api, tenant.key, 60, "watch", "greeting")
    wide = await in_a_terminal(api, tenant.key, 140, "watch", "greeting")

    assert COLOUR_OR_MOVE not in piped.out + piped.err
    assert long in piped.out
    for shown in (narrow, wide):
        assert COLOUR_OR_MOVE in shown
        last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).partition("error: ")[0].split("\r")[-2]
        assert re.search(r"voicejob/gre.* ━+.* 30% .*Failed", last), (
            "a long message leaves room for name, bar and state"
        )
    for words in (("list",), ("top",), ("why", "greeting"), ("cost",), ("doctor",)):
        assert COLOUR_OR_MOVE not in (await renderfleet(api, tenant.key, *words)).out, words
