"""The operator under test: the real program as a process, started, killed, started again.

Its modules are loaded once, in a nursery: they cost more CPU than all else that a start does.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from renderfleet_faults.apiproxy import ApiProxy
from renderfleet_faults.backends import Backends, Process, free_port, plain_environment
from renderfleet_faults.nursery import VENDOR_MODULES, Nursery

SYSTEM_NAMESPACE = "renderfleet-system"
RESYNC_SECONDS = 5
"""Much shorter than in production: a lost watch line costs at most this long."""
READY_WITHIN_SECONDS = 60.0
_LOOK_EVERY_SECONDS = 0.02
_NOTICE_SECONDS = 0.5
_LOST_LEASE = 3
"""Its exit code."""
_LAST_WORDS = 500
PROGRAM = "renderfleet_operator"
MODULES = ("renderfleet_operator.app", *VENDOR_MODULES)


@dataclass
class Manager:
    """See the module. At most one operator lives at a time."""

    folder: Path
    nursery: Nursery
    proxy: ApiProxy
    backends: Backends
    storage_url: str
    settings: Mapping[str, str] = field(default_factory=dict)
    """More RENDERFLEET_* settings."""
    start_seconds: list[float] = field(default_factory=list)
    """From the start of each process to its /readyz."""
    lost_leases: int = 0
    """How often it ended by itself since it could not renew its Lease in time: right, if the machine was busy."""
    falls: list[str] = field(default_factory=list)
    """How it ended whenever it did so by itself for another reason: a defect."""
    _process: Process | None = None
    _is_to_live: bool = False
    """Nobody here has ended it."""
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def keep(self) -> None:
        """As a kubelet does: start it again when it has ended by itself. Until cancelled."""
        while True:
            await asyncio.sleep(_NOTICE_SECONDS)
            async with self._starting:
                if self._process is None or self._process.is_alive or not self._is_to_live:
                    continue
                code = await self._process.child.wait()
                if code == _LOST_LEASE:
                    self.lost_leases += 1
                else:
                    self.falls.append(f"{self._process.name} ended with {code}: {self._process.tail(_LAST_WORDS)}")
                with suppress(RuntimeError):  # it ends while it starts: once more
                    await self._start()

    async def start(self) -> None:
        """Start it and wait until it is ready. Raises RuntimeError with its log when it does not get there."""
        async with self._starting:
            if self._process is None or not self._process.is_alive:
                await self._start()

    async def _start(self) -> None:
        self._is_to_live = True
        self.folder.mkdir(exist_ok=True)
        life = self.proxy.new_life()
        port = free_port()
        kubeconfig = self.folder / "kubeconfig"
        self.proxy.write_kubeconfig(kubeconfig)
        begin = time.monotonic()
        self._process = await self.nursery.start(
            f"operator-{life}",
            self.folder,
            plain_environment(
                KUBECONFIG=str(kubeconfig),
                RENDERFLEET_SYSTEM_NAMESPACE=SYSTEM_NAMESPACE,
                RENDERFLEET_RUNNER_IMAGE="played-by-the-node",
                RENDERFLEET_DATABASE_URL=self.backends.database_url,
                RENDERFLEET_RESYNC_SECONDS=str(RESYNC_SECONDS),
                RENDERFLEET_HTTP_HOST="127.0.0.1",
                RENDERFLEET_HTTP_PORT=str(port),
                # A container that starts again in its pod keeps its name, and with it the Lease.
                RENDERFLEET_IDENTITY="operator-under-test",
                **self.backends.storage_environment(self.storage_url),
                **self.settings,
            ),
        )
        await self._ready(self._process, f"http://127.0.0.1:{port}/readyz")
        self.start_seconds.append(time.monotonic() - begin)

    async def kill(self) -> None:
        """SIGKILL; returns when it is dead."""
        self._is_to_live = False
        if self._process is not None:
            await self._process.kill()

    async def stop(self) -> None:
        """SIGTERM, as a Deployment does."""
        self._is_to_live = False
        if self._process is not None:
            await self._process.stop()

    def complaints(self) -> list[str]:
        """Lines of all its logs at level error, the same ones once: a crash that heals is still worth a look."""
        found: dict[str, None] = {}
        for log in sorted(self.folder.glob("operator-*.log")):
            for line in log.read_text(errors="replace").splitlines():
                with suppress(ValueError):
                    said = json.loads(line)
                    if isinstance(said, dict) and said.get("level") in {"error", "critical"}:
                        found[f"{said.get('message')} {said.get('error', '')}".strip()] = None
        return list(found)

    async def _ready(self, process: Process, url: str) -> None:
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        async with aiohttp.ClientSession() as session:
            while True:
                with suppress(aiohttp.ClientError):
                    async with session.get(url) as answer:
                        if answer.status == 200:
                            return
                if not process.is_alive or time.monotonic() > deadline:
                    raise RuntimeError(f"the operator did not become ready: {process.tail()}")
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
