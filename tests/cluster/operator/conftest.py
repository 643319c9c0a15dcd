"""The whole operator against a real API server with real controllers; PostgreSQL and S3 are real, pods are played."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import SecretStr
from tests.support.databases import database, postgres
from tests.support.node import Node
from tests.support.wire import ObjectStore, Standin, object_store_process, standin_process

from renderfleet_client import Cluster
from renderfleet_client.errors import ApiError, NotFound
from renderfleet_client.resources import EVENTS, JOBS, NAMESPACES, SECRETS, Resource
from renderfleet_crds import meta
from renderfleet_crds.kinds import BY_KIND, RENDER_PROVIDER, RENDER_TENANT
from renderfleet_operator.app import Operator
from renderfleet_operator.settings import OperatorSettings
from renderfleet_store.engine import make_engine

__all__ = ["database", "postgres"]

Body = dict[str, Any]
SYSTEM = "renderfleet-system"
TENANTS = Resource.of(RENDER_TENANT)
PROVIDERS = Resource.of(RENDER_PROVIDER)
VENDOR_KEYS = {"openai": "sk-standin", "elevenlabs": "el-standin", "did": "did-user:did-pass"}
VENDOR_PATHS = {"openai": "/openai/v1", "elevenlabs": "/elevenlabs", "did": "/did"}


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store_process(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standin]:
    with standin_process(tmp_path_factory.mktemp("standin"), strict="false", talk_seconds="0.5") as process:
        yield process


@dataclass
class Fleet:
    """One operator at work in a cluster, and what a test does with it."""

    cluster: Cluster
    object_store: ObjectStore
    standin: Standin
    database: str
    node: Node
    tenant: str
    providers: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    operator: Operator | None = None
    _running: asyncio.Task[None] | None = None

    @property
    def namespace(self) -> str:
        return meta.tenant_namespace(self.tenant)

    async def start(self, **settings: Any) -> Operator:
        """Run an operator until `stop` or `kill`."""
        self.settings.update(settings)
        made = OperatorSettings(
            system_namespace=SYSTEM,
            runner_image="renderfleet/runner:test",
            database_url=SecretStr(self.database),
            http_port=0,
            callback_port=0,
            http_host="127.0.0.1",
            **{"lease_name": f"operator-{self.tenant}", "resync_seconds": 5, **self.settings},
        )
        access = Cluster(self.cluster.login, field_manager="renderfleet-operator")
        operator = Operator(made, access, self.object_store.media, make_engine(self.database, pooled=True))
        self.operator = operator
        self._running = asyncio.create_task(operator.run())
        async with asyncio.timeout(20):
            while not operator.is_listed:
                if self._running.done():
                    self._running.result()
                await asyncio.sleep(0.02)
        await self.tenant_ready()
        return operator

    async def stop(self) -> None:
        """As SIGTERM does."""
        if self.operator is not None and self._running is not None:
            self.operator.stop.set()
            await self._running
        self.operator = self._running = None

    async def kill(self) -> None:
        """As SIGKILL does: nothing is finished, nothing is given back."""
        assert self.operator is not None and self._running is not None
        self.operator.lease.is_held = False
        self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running
        with contextlib.suppress(NotFound):
            from renderfleet_client.resources import LEASES

            await self.cluster.delete(LEASES, f"operator-{self.tenant}", SYSTEM)
        self.operator = self._running = None

    async def tenant_ready(self) -> None:
        """Wait until renders may be applied; the first tenant after the CRDs takes longest."""

        async def is_ready() -> bool:
            tenant = await self.cluster.get(TENANTS, self.tenant)
            return (tenant.get("status") or {}).get("phase") == "Ready"

        await eventually(is_ready, 90)

    async def apply(self, kind: str, name: str, **spec: Any) -> Body:
        """What `kubectl apply` of a minimal manifest does."""
        specs: dict[str, dict[str, Any]] = {
            "AvatarRender": {"prompt": "a friendly guide", "count": 1, "provider": self.providers["openai"]},
            "VoiceJob": {
                "text": "Welcome aboard.",
                "voiceId": "21m00Tcm4TlvDq8ikWAM",
                "provider": self.providers["elevenlabs"],
            },
            "VideoRender": {"provider": self.providers["did"], "voiceProvider": self.providers["elevenlabs"]},
        }
        finalizers = spec.pop("finalizers", [meta.FINALIZER])
        body = {
            "apiVersion": meta.API_VERSION,
            "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace, "finalizers": finalizers},
            "spec": {**specs[kind], **spec},
        }
        return await self.cluster.create(Resource.of(BY_KIND[kind]), body, self.namespace)

    async def get(self, kind: str, name: str) -> Body:
        return await self.cluster.get(Resource.of(BY_KIND[kind]), name, self.namespace)

    async def edit(self, kind: str, name: str, **spec: Any) -> Body:
        return await self.cluster.patch(Resource.of(BY_KIND[kind]), name, {"spec": spec}, self.namespace)

    async def edit_provider(self, vendor: str, **spec: Any) -> Body:
        return await self.cluster.patch(PROVIDERS, self.providers[vendor], {"spec": spec})

    async def delete(self, kind: str, name: str) -> None:
        await self.cluster.delete(Resource.of(BY_KIND[kind]), name, self.namespace)

    async def until(self, kind: str, name: str, is_so: Callable[[Body], Any] | str, seconds: float = 15) -> Body:
        """The object once it is so; a word stands for its phase."""
        wanted = (lambda one: (one.get("status") or {}).get("phase") == is_so) if isinstance(is_so, str) else is_so
        last: Body = {}
        try:
            async with asyncio.timeout(seconds):
                while True:
                    last = await self.get(kind, name)
                    if wanted(last):
                        return last
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{kind} {name} is not {is_so} after {seconds} s: {last.get('status')}") from None

    async def jobs(self, uid: str | None = None) -> list[Body]:
        selector = f"{meta.UID_LABEL}={uid}" if uid else meta.KIND_LABEL
        return (await self.cluster.list(JOBS, self.namespace, label_selector=selector)).items

    async def events(self, uid: str) -> list[str]:
        listed = await self.cluster.list(EVENTS, self.namespace, field_selector=f"involvedObject.uid={uid}")
        return [one["reason"] for one in listed.items]


async def eventually(is_so: Callable[[], Awaitable[Any]], seconds: float = 15) -> Any:
    """What `is_so` gives once it gives something."""
    async with asyncio.timeout(seconds):
        while True:
            found = await is_so()
            if found:
                return found
            await asyncio.sleep(0.05)


@pytest.fixture
async def fleet(cluster: Cluster, object_store: ObjectStore, standin: Standin, database: str) -> AsyncIterator[Fleet]:
    """A tenant of its own, its providers, a node, and an operator that is not started yet."""
    standin.reset()
    tenant = f"t{uuid.uuid4().hex[:6]}"
    with contextlib.suppress(ApiError):
        await cluster.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})
    providers = {vendor: f"{vendor}-{tenant}" for vendor in VENDOR_KEYS}
    for vendor, name in providers.items():
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": SYSTEM},
            "stringData": {"api-key": VENDOR_KEYS[vendor]},
        }
        await cluster.create(SECRETS, secret, SYSTEM)
        provider = {
            "apiVersion": meta.API_VERSION,
            "kind": "RenderProvider",
            "metadata": {"name": name},
            "spec": {
                "vendor": vendor,
                "baseUrl": standin.base_url + VENDOR_PATHS[vendor],
                "secretRef": {"name": name},
                "pollSeconds": 1,
                "limits": {"inFlight": 20, "perMinute": 6000, "burst": 100},
                "prices": [{"unit": "images", "micros": 40_000}, {"unit": "characters", "micros": 30}],
            },
        }
        await cluster.create(PROVIDERS, provider)
    await cluster.create(
        TENANTS,
        {
            "apiVersion": meta.API_VERSION,
            "kind": "RenderTenant",
            "metadata": {"name": tenant},
            "spec": {"concurrency": 4},
        },
    )
    node = Node(cluster)
    serving = asyncio.create_task(node.serve())
    made = Fleet(cluster, object_store, standin, database, node, tenant, providers)
    yield made
    await made.stop()
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError, ApiError):
        await serving
    await _remove_all(cluster, made)


async def _remove_all(cluster: Cluster, made: Fleet) -> None:
    """So that the next operator, which watches the whole cluster, finds nothing of this one."""
    for kind in ("VideoRender", "VoiceJob", "AvatarRender"):
        resource = Resource.of(BY_KIND[kind])
        for body in (await cluster.list(resource)).items:
            name, namespace = body["metadata"]["name"], body["metadata"]["namespace"]
            with contextlib.suppress(NotFound):
                await cluster.patch(resource, name, {"metadata": {"finalizers": None}}, namespace)
                await cluster.delete(resource, name, namespace)
    for name in made.providers.values():
        with contextlib.suppress(NotFound):
            await cluster.delete(PROVIDERS, name)
    with contextlib.suppress(NotFound):
        await cluster.delete(TENANTS, made.tenant)
