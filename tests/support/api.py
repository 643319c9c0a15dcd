"""The API as a process of its own, with a real database, a real API server and a real object store behind it."""

import asyncio
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from renderfleet_client import Cluster, resources
from renderfleet_client.resources import Resource
from renderfleet_crds import meta
from renderfleet_crds.kinds import BY_KIND
from renderfleet_store.mirror import Mirror, RenderSeen

from .renders import output
from .wire import ObjectStore, free_port, running, wait_until

ADMIN_KEY = "admin-key-of-the-tests"


@dataclass
class Api:
    """Where the API listens, and what its settings were."""

    url: str
    environment: dict[str, str]
    log: Path
    process: "subprocess.Popen[bytes]" = field(repr=False)

    def client(self, key: str | None = ADMIN_KEY, **more: Any) -> httpx2.AsyncClient:
        """A client with this key."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=30, **more)


def api_environment(database: str, kubeconfig: Path, store: ObjectStore, **more: str) -> dict[str, str]:
    """The settings of an API process."""
    return {
        "RENDERFLEET_DATABASE_URL": database,
        "RENDERFLEET_KEY_SECRET": "a secret for the tests only",
        "RENDERFLEET_ADMIN_KEY": ADMIN_KEY,
        "RENDERFLEET_KUBECONFIG": str(kubeconfig),
        "RENDERFLEET_API_HOST": "127.0.0.1",
        "RENDERFLEET_S3_ENDPOINT": store.endpoint,
        "RENDERFLEET_S3_BUCKET": "media",
        "RENDERFLEET_S3_ACCESS_KEY_ID": "renderfleet",
        "RENDERFLEET_S3_SECRET_ACCESS_KEY": "renderfleet-secret",
        "RENDERFLEET_TENANT_READY_SECONDS": "0.5",
        "RENDERFLEET_RATE_PER_SECOND": "100000",
        "RENDERFLEET_RATE_BURST": "100000",
        **more,
    }


@contextmanager
def api_process(folder: Path, environment: dict[str, str], *, port: int | None = None) -> Iterator[Api]:
    """`python -m renderfleet_api`, ready to serve."""
    listening = port or free_port()
    env = {**environment, "RENDERFLEET_API_PORT": str(listening)}
    log = folder / f"api-{listening}.log"
    with running([sys.executable, "-m", "renderfleet_api"], log, env) as process:
        url = f"http://127.0.0.1:{listening}"

        def ready() -> bool:
            assert process.poll() is None, log.read_text()[-3000:]
            try:
                return httpx2.get(f"{url}/readyz").is_success
            except httpx2.TransportError:
                return False

        wait_until(ready, "the API's start", 60)
        yield Api(url, environment, log, process)


@dataclass
class Tenant:
    """A tenant with a key, and the means to play the operator for it."""

    name: str
    namespace: str
    key: str
    http: httpx2.AsyncClient
    cluster: Cluster
    mirror: Mirror

    async def post(self, path: str, body: dict[str, Any] | None = None, **headers: str) -> httpx2.Response:
        """POST JSON; underscores in header names stand for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(path, json=body, headers=named)

    async def get(self, path: str, **params: Any) -> httpx2.Response:
        """GET with a query."""
        return await self.http.get(path, params=params)

    async def submit(self, kind: str = "VoiceJob", **more: Any) -> dict[str, Any]:
        """A job that was accepted."""
        path, body = {
            "AvatarRender": ("/avatars/previews", {"prompt": "a friendly face"}),
            "VoiceJob": ("/voice", {"text": "Hello", "voiceId": "anna"}),
            "VideoRender": (
                "/videos",
                {"avatarKey": f"media/{self.namespace}/a.png", "audioKey": f"media/{self.namespace}/a.mp3"},
            ),
        }[kind]
        answer = await self.post(path, {**body, **more})
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    async def object_of(self, job: dict[str, Any]) -> dict[str, Any]:
        """The custom resource behind a job."""
        return await self.cluster.get(Resource.of(BY_KIND[job["kind"]]), job["name"], self.namespace)

    async def report(self, job: dict[str, Any], phase: str, **status: Any) -> dict[str, Any]:
        """Write status as the operator would, and mirror it; the custom resource after that."""
        patched = await self.cluster.patch(
            Resource.of(BY_KIND[job["kind"]]),
            job["name"],
            {"status": {"phase": phase, "progress": 100 if phase == "Succeeded" else 30, **status}},
            self.namespace,
            subresource="status",
        )
        await self.mirror.record([RenderSeen(patched)])
        return patched

    async def succeed(self, job: dict[str, Any], **status: Any) -> dict[str, Any]:
        """Let the job end well with its main output."""
        return await self.report(
            job,
            "Succeeded",
            outputs=[output(job["kind"], job["id"], self.namespace)],
            finishedAt=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            attempt=1,
            **status,
        )


async def make_tenant(api: Api, cluster: Cluster, mirror: Mirror, *, objects: int | None = None) -> Tenant:
    """A tenant as the admin routes and the operator make it, in a namespace of its own."""
    name = f"t{secrets.token_hex(4)}"
    async with api.client() as admin:
        made = await admin.post("/admin/tenants", json={"name": name})
        assert made.status_code == 202, made.text
        key = (await admin.post(f"/admin/tenants/{name}/keys", json={"name": "test"})).json()["key"]
    namespace = meta.tenant_namespace(name)
    await cluster.create(
        resources.NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    )
    if objects is not None:
        quota = {
            "hard": {f"count/{kind.plural}.{meta.GROUP}": str(objects) for kind in BY_KIND.values() if kind.stages}
        }
        await cluster.create(
            resources.RESOURCE_QUOTAS,
            {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": meta.QUOTA_NAME}, "spec": quota},
            namespace,
        )
        await _until_counted(cluster, namespace, quota["hard"])
    return Tenant(name, namespace, key, api.client(key), cluster, mirror)


async def _until_counted(cluster: Cluster, namespace: str, hard: dict[str, str]) -> None:
    """Until its controller has counted, a quota refuses everything.

    The controller looks at kinds that are new to it every five minutes only, or when a spec changes: so it is changed.
    """
    async with asyncio.timeout(180):
        while True:
            for _ in range(40):
                found = await cluster.get(resources.RESOURCE_QUOTAS, meta.QUOTA_NAME, namespace)
                if hard.keys() <= ((found.get("status") or {}).get("used") or {}).keys():
                    return
                await asyncio.sleep(0.2)
            for changed in (dict.fromkeys(hard), hard):
                patch = {"spec": {"hard": changed}}
                await cluster.patch(resources.RESOURCE_QUOTAS, meta.QUOTA_NAME, patch, namespace)
