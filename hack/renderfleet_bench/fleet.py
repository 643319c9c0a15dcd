"""The system that is measured: a real operator process with its PostgreSQL and its object storage, tenants and providers.

Everything is as in production but the sizes: limits are wide where throughput is measured (admission decides, but is
not the reason to wait) and narrow where waiting is.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from renderfleet_bench.children import Child
from renderfleet_bench.plane import SYSTEM_NAMESPACE, Plane
from renderfleet_bench.proc import cost_of, cpu_seconds_of_tree
from renderfleet_client.errors import ApiError, NotFound
from renderfleet_client.resources import JOBS, NAMESPACES, RESOURCE_QUOTAS, SECRETS, Resource
from renderfleet_cluster import programs
from renderfleet_cluster.places import REPOSITORY
from renderfleet_cluster.say import Trouble
from renderfleet_crds import kinds, meta
from renderfleet_store.migrate import migrate

TENANTS = Resource.of(kinds.RENDER_TENANT)
PROVIDERS = Resource.of(kinds.RENDER_PROVIDER)
BUCKET = "renderfleet"
STORAGE_USER, STORAGE_PASSWORD = "bench", "bench-only-not-secret"
VENDOR_SECRET = "bench-vendor"
READY_WITHIN_SECONDS = 120.0
MOST_IN_FLIGHT, MOST_PER_MINUTE, MOST_BURST = 10_000, 100_000, 10_000
"""The largest limits that a RenderProvider may have."""
STEADY_RESYNC_SECONDS = 120.0


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Fleet:
    """The operator and what it needs. The operator may be stopped and started again; the rest stays."""

    plane: Plane
    database_url: str
    storage_url: str
    logs: Path
    pids: dict[str, int]
    """Of PostgreSQL and the object storage."""
    operator: Child | None = None
    starts: int = 0
    port: int = field(default_factory=free_port)

    def environment(self) -> dict[str, str]:
        """The operator's settings; pools are those of the chart."""
        values = yaml.safe_load((REPOSITORY / "charts/renderfleet/values.yaml").read_text())
        return {
            "KUBECONFIG": str(self.plane.operator_kubeconfig),
            "RENDERFLEET_SYSTEM_NAMESPACE": SYSTEM_NAMESPACE,
            "RENDERFLEET_RUNNER_IMAGE": "renderfleet/runner:bench",
            "RENDERFLEET_DATABASE_URL": self.database_url,
            "RENDERFLEET_S3_ENDPOINT": self.storage_url,
            "RENDERFLEET_S3_BUCKET": BUCKET,
            "RENDERFLEET_S3_ACCESS_KEY_ID": STORAGE_USER,
            "RENDERFLEET_S3_SECRET_ACCESS_KEY": STORAGE_PASSWORD,
            "RENDERFLEET_POOLS": json.dumps(values["pools"]),
            "RENDERFLEET_HTTP_HOST": "127.0.0.1",
            "RENDERFLEET_HTTP_PORT": str(self.port),
            "RENDERFLEET_RESYNC_SECONDS": str(STEADY_RESYNC_SECONDS),
            "RENDERFLEET_IDENTITY": f"bench-{self.starts}",
        }

    async def start_operator(self, *prefix: str) -> float:
        """Start it and wait until it says that it is ready; returns the seconds from one to the other.

        `prefix` is a command to run it under, such as a profiler.
        """
        self.starts += 1
        command = [*prefix, sys.executable, "-m", "renderfleet_operator"]
        self.operator = Child("operator", command, self.logs / "operator.log", self.environment())
        begin = self.operator.started_at
        while not await asyncio.to_thread(self.is_ready):
            self.operator.check()
            if time.monotonic() - begin > READY_WITHIN_SECONDS:
                raise Trouble(
                    f"the operator is not ready after {READY_WITHIN_SECONDS:.0f} s:\n{self.operator.tail()}",
                    f"its whole log is {self.operator.log}",
                )
            await asyncio.sleep(0.05)
        return time.monotonic() - begin

    def is_ready(self) -> bool:
        """Whether its readiness page says 200."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def running_operator(self) -> Child:
        """The operator's process. Raises Trouble when there is none, or it has ended by itself."""
        if self.operator is None:
            raise Trouble("no operator is running", "start it first")
        self.operator.check()
        return self.operator

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time so far of everything that takes part, by name."""
        pids = {**self.plane.pids(), **self.pids, "operator": self.running_operator().pid}
        # The bench itself without its children: they are the others.
        own = cost_of(os.getpid()).cpu_seconds
        return {"bench": own, **{name: cpu_seconds_of_tree(pid) for name, pid in pids.items()}}

    def check(self) -> None:
        """Raises Trouble when the operator has ended by itself."""
        self.running_operator()

    async def stop_operator(self, number: signal.Signals = signal.SIGTERM) -> float:
        """End it; returns the seconds that took."""
        if self.operator is None:
            return 0.0
        took = await asyncio.to_thread(self.operator.stop, number)
        self.operator = None
        return took

    async def add_provider(
        self, name: str, *, in_flight: int = MOST_IN_FLIGHT, per_minute: int = MOST_PER_MINUTE, burst: int = MOST_BURST
    ) -> None:
        """A RenderProvider with these limits, and a price list, so that costs and budgets are counted too."""
        body = {
            "apiVersion": meta.API_VERSION,
            "kind": kinds.RENDER_PROVIDER.kind,
            "metadata": {"name": name},
            "spec": {
                "vendor": "openai",
                "baseUrl": "http://127.0.0.1:9/v1",
                "secretRef": {"name": VENDOR_SECRET},
                "limits": {"inFlight": in_flight, "perMinute": per_minute, "burst": burst},
                "prices": [{"unit": "images", "micros": 42_000}],
            },
        }
        await self.plane.cluster.create(PROVIDERS, body)

    async def add_tenant(self, name: str, *, concurrency: int = 10_000) -> None:
        """A RenderTenant; returns when its namespace and its quota are there and counted."""
        body = {
            "apiVersion": meta.API_VERSION,
            "kind": kinds.RENDER_TENANT.kind,
            "metadata": {"name": name},
            "spec": {
                "concurrency": concurrency,
                "maxObjectsPerKind": 1_000_000,
                "monthlyBudgetMicros": 10**12,
            },
        }
        await self.plane.cluster.create(TENANTS, body)
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while not await self._is_usable(meta.tenant_namespace(name)):
            self.check()
            if time.monotonic() > deadline:
                raise Trouble(f"tenant {name} has no counted quota", "see the operator's log")
            await asyncio.sleep(0.1)

    async def _is_usable(self, namespace: str) -> bool:
        try:
            await self.plane.cluster.get(NAMESPACES, namespace)
            quota = await self.plane.cluster.get(RESOURCE_QUOTAS, meta.QUOTA_NAME, namespace)
        except NotFound:
            return False
        return "pods" in (quota.get("status", {}).get("used") or {})

    async def until_jobs_end(self, namespace: str) -> None:
        """Wait until all Jobs of a namespace have ended.

        A render may be told its end before the Job controller has noticed the Job's: that tail belongs to the price.
        """
        begin = time.monotonic()
        while (await self.plane.cluster.list(JOBS, namespace, field_selector="status.successful!=1")).items:
            self.check()
            if time.monotonic() - begin > READY_WITHIN_SECONDS:
                raise Trouble("Jobs of finished renders do not end", "see the controller manager's log")
            await asyncio.sleep(0.25)


@asynccontextmanager
async def running(plane: Plane, logs: Path) -> AsyncIterator[Fleet]:
    """PostgreSQL, object storage and the operator, ready; gone when the context ends."""
    # The helper lives with the tests, which are no installed package.
    if str(REPOSITORY) not in sys.path:
        sys.path.insert(0, str(REPOSITORY))
    from tests.support.postgres import postgres_server

    programs.ensure([programs.VERSITYGW])
    async with AsyncExitStack() as stack:
        server = stack.enter_context(postgres_server())
        database_url = server.create_database("renderfleet")
        await asyncio.to_thread(migrate, database_url)
        port = free_port()
        (plane.scratch / "storage" / BUCKET).mkdir(parents=True, exist_ok=True)
        storage = Child(
            "object storage",
            [
                str(programs.VERSITYGW.path("versitygw")),
                *("--port", f"127.0.0.1:{port}", "--quiet", "posix", str(plane.scratch / "storage")),
            ],
            logs / "storage.log",
            {"ROOT_ACCESS_KEY": STORAGE_USER, "ROOT_SECRET_KEY": STORAGE_PASSWORD},
        )
        stack.callback(storage.stop)
        assert server.process is not None
        fleet = Fleet(
            plane=plane,
            database_url=database_url,
            storage_url=f"http://127.0.0.1:{port}",
            logs=logs,
            pids={"postgres": server.process.pid, "storage": storage.pid},
        )
        await _add_vendor_secret(plane)
        stack.push_async_callback(fleet.stop_operator)
        await fleet.start_operator()
        yield fleet


async def _add_vendor_secret(plane: Plane) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": VENDOR_SECRET, "namespace": SYSTEM_NAMESPACE},
        "stringData": {"api-key": "bench-only-not-secret"},
    }
    try:
        await plane.cluster.create(SECRETS, secret, SYSTEM_NAMESPACE)
    except ApiError as refusal:
        raise Trouble(f"the vendor's Secret cannot be made: {refusal}", "is the control plane well?") from refusal
