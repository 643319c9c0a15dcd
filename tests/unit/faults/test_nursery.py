"""A program that is started many times loads its modules once, and is a process of its own each time."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from renderfleet_faults.nursery import Nursery, nursery

MODULE = """
import time

LOADED = time.monotonic_ns()
"""
PROGRAM = """
import os, sys, time
from tiny_module import LOADED

STARTED = time.monotonic_ns()
print(LOADED, STARTED, os.getpid(), os.environ.get("NAME"), os.environ.get("LEFT_OVER"), os.getcwd(), flush=True)
if os.environ.get("WAITS"):
    time.sleep(60)
if "CODE" in os.environ:
    sys.exit(int(os.environ["CODE"]))
"""


@pytest.fixture
async def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Nursery]:
    (tmp_path / "tiny_module.py").write_text(MODULE)
    (tmp_path / "tiny_program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("LEFT_OVER", "from the harness")
    async with nursery("tiny_program", tmp_path, "tiny_module") as one:
        yield one


async def test_each_start_is_a_process_with_its_own_environment_and_folder(made: Nursery, tmp_path: Path) -> None:
    processes = [await made.start(name, tmp_path, {"NAME": name}) for name in ("a", "b")]
    assert [await one.child.wait() for one in processes] == [0, 0]

    said = [one.log.read_text().split() for one in processes]

    assert said[0][0] == said[1][0], "loaded once"
    assert said[0][1] != said[1][1], "begun each time"
    assert [words[2] for words in said] == [str(one.child.pid) for one in processes]
    assert [words[3:] for words in said] == [[name, "None", str(tmp_path)] for name in ("a", "b")]


async def test_how_it_ended_is_told(made: Nursery, tmp_path: Path) -> None:
    process = await made.start("a", tmp_path, {"CODE": "3"})

    assert await process.child.wait() == 3
    assert not process.is_alive


@pytest.mark.parametrize(("way", "code"), [("kill", -signal.SIGKILL), ("stop", -signal.SIGTERM)])
async def test_it_can_be_ended(made: Nursery, tmp_path: Path, way: str, code: int) -> None:
    process = await made.start("a", tmp_path, {"WAITS": "1"})
    while not process.tail():
        await asyncio.sleep(0.01)

    await getattr(process, way)()

    assert process.child.returncode == code
