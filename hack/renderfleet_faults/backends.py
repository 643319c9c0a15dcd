"""What a fleet needs besides Kubernetes, as private processes on loopback: vendor stand-in, object storage, PostgreSQL.

All three are the real programs; they live as long as the block that starts them, in a folder of its own.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from renderfleet_cluster import debian, programs
from renderfleet_cluster.places import REPOSITORY
from renderfleet_store.migrate import migrate

BUCKET = "renderfleet"
_START_SECONDS = 60.0
_STOP_SECONDS = 5.0


class Child(Protocol):
    """A process below us, as asyncio handles its own."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None:
        """None while it lives."""
        ...

    def terminate(self) -> None:
        """SIGTERM."""
        ...

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        ...


@dataclass
class Process:
    """A program we started, in a process group of its own, with its output in a file."""

    name: str
    child: Child
    log: Path

    @property
    def is_alive(self) -> bool:
        return self.child.returncode is None

    async def kill(self) -> None:
        """SIGKILL for all of its group; returns when the program itself is reaped.

        A program that has ended is left alone: by now its number may be somebody else's.
        """
        if self.is_alive:
            with suppress(ProcessLookupError):
                os.killpg(self.child.pid, signal.SIGKILL)
        await self.child.wait()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not listen."""
        if self.is_alive:
            with suppress(ProcessLookupError):
                self.child.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.child.wait(), _STOP_SECONDS)
        await self.kill()

    def tail(self, characters: int = 2000) -> str:
        """The end of its output."""
        return self.log.read_text(errors="replace")[-characters:]


async def start(name: str, command: list[str], folder: Path, environment: Mapping[str, str]) -> Process:
    """Start a program in `folder`; its output goes to `<name>.log` there, behind what is in it.

    It dies with us, however we end: a harness that is itself killed must not leave its victims behind.
    """
    log = folder / f"{name}.log"
    with log.open("ab") as sink:
        child = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "--", *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sink,
            stderr=asyncio.subprocess.STDOUT,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
        )
    return Process(name, child, log)


def plain_environment(**more: str) -> dict[str, str]:
    """The environment for our programs: what a login needs, none of the caller's RENDERFLEET_* settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RENDERFLEET_", "KUBE"))}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Backends:
    """Where they are."""

    standin_url: str
    storage_url: str
    access_key: str
    secret_key: str
    database_url: str
    processes: list[Process] = field(default_factory=list)

    def storage_environment(self, endpoint: str | None = None) -> dict[str, str]:
        """RENDERFLEET_S3_* for programs; `endpoint` leads them through a proxy."""
        return {
            "RENDERFLEET_S3_ENDPOINT": endpoint or self.storage_url,
            "RENDERFLEET_S3_BUCKET": BUCKET,
            "RENDERFLEET_S3_REGION": "us-east-1",
            "RENDERFLEET_S3_ACCESS_KEY_ID": self.access_key,
            "RENDERFLEET_S3_SECRET_ACCESS_KEY": self.secret_key,
        }

    def check(self) -> None:
        """Raises RuntimeError with the log of a process that has ended by itself."""
        for process in self.processes:
            if not process.is_alive:
                raise RuntimeError(f"{process.name} has ended: {process.tail()}")


@asynccontextmanager
async def backends(folder: Path) -> AsyncIterator[Backends]:
    """All three, ready, and gone with the block."""
    # The helper lives with the tests, which are no installed package.
    if str(REPOSITORY) not in sys.path:
        sys.path.insert(0, str(REPOSITORY))
    from tests.support.postgres import postgres_server

    await asyncio.to_thread(debian.install, debian.MEDIA_PACKAGES)
    await asyncio.to_thread(programs.ensure, [programs.VERSITYGW])
    async with AsyncExitStack() as stack:
        server = stack.enter_context(postgres_server())
        database = server.create_database("renderfleet")
        await asyncio.to_thread(migrate, database)
        standin_port, storage_port = free_port(), free_port()
        bucket = folder / "storage" / BUCKET
        bucket.mkdir(parents=True)
        access_key, secret_key = "faults", "faults-only-not-secret"
        standin = await start(
            "standin",
            [sys.executable, "-m", "renderfleet_standin"],
            folder,
            plain_environment(
                RENDERFLEET_STANDIN_PORT=str(standin_port),
                RENDERFLEET_STANDIN_STRICT="false",
                RENDERFLEET_STANDIN_TALK_SECONDS="0.5",
                RENDERFLEET_STANDIN_DATA_DIR=str(folder / "standin"),
            ),
        )
        stack.push_async_callback(standin.kill)
        storage = await start(
            "storage",
            [
                str(programs.VERSITYGW.path("versitygw")),
                *("--port", f"127.0.0.1:{storage_port}", "--quiet", "posix", str(bucket.parent)),
            ],
            folder,
            plain_environment(ROOT_ACCESS_KEY=access_key, ROOT_SECRET_KEY=secret_key),
        )
        stack.push_async_callback(storage.kill)
        made = Backends(
            f"http://127.0.0.1:{standin_port}",
            f"http://127.0.0.1:{storage_port}",
            access_key,
            secret_key,
            database,
            [standin, storage],
        )
        await _answers(f"{made.standin_url}/healthz", standin)
        await _answers(made.storage_url, storage)
        yield made


async def _answers(url: str, process: Process) -> None:
    """Wait for any answer at all. Raises RuntimeError with the log when there is none."""
    deadline = asyncio.get_running_loop().time() + _START_SECONDS
    async with aiohttp.ClientSession() as session:
        while True:
            with suppress(aiohttp.ClientError):
                async with session.get(url):
                    return
            if not process.is_alive or asyncio.get_running_loop().time() > deadline:
                raise RuntimeError(f"{process.name} does not answer at {url}: {process.tail()}")
            await asyncio.sleep(0.1)


class Standin:
    """The stand-in's control door."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._door = f"{url}/_standin"
        self._session = session

    async def ledger(self) -> list[dict[str, Any]]:
        """Every billed call, oldest first."""
        async with self._session.get(f"{self._door}/ledger") as answer:
            answer.raise_for_status()
            entries: list[dict[str, Any]] = (await answer.json())["entries"]
            return entries

    async def add_fault(self, **rule: Any) -> None:
        """Script a fault, see the stand-in's help."""
        async with self._session.post(f"{self._door}/faults", json=rule) as answer:
            if answer.status != 201:
                raise RuntimeError(f"the stand-in refuses the fault {rule}: {await answer.text()}")
