"""A control plane of its own for the suites: real etcd, API server, controllers and scheduler, and our CRDs in it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import yaml

from renderfleet_client import Cluster, resources
from renderfleet_client.errors import AlreadyExists
from renderfleet_cluster import local
from renderfleet_cluster.places import REPOSITORY
from renderfleet_cluster.shape import Options
from renderfleet_faults.manager import SYSTEM_NAMESPACE

_ESTABLISHED_WITHIN_SECONDS = 20


@asynccontextmanager
async def plane(name: str) -> AsyncIterator[Cluster]:
    """Administrator's access to a fresh control plane that knows our kinds; taken down with the block."""
    if local.shape_of(name) is not None:
        await asyncio.to_thread(local.down, name)
    shape = await asyncio.to_thread(local.up, name, Options(control_plane_only=True))
    try:
        async with await Cluster.connect(str(shape.kubeconfig), field_manager="renderfleet-faults") as cluster:
            await _install_crds(cluster)
            with suppress(AlreadyExists):
                await cluster.create(resources.NAMESPACES, {"metadata": {"name": SYSTEM_NAMESPACE}})
            yield cluster
    finally:
        await asyncio.to_thread(local.down, name)


async def _install_crds(cluster: Cluster) -> None:
    names = []
    for file in sorted((REPOSITORY / "crds/manifests").glob("*.yaml")):
        body = yaml.safe_load(file.read_text())
        await cluster.create(resources.CRDS, body)
        names.append(body["metadata"]["name"])
    async with asyncio.timeout(_ESTABLISHED_WITHIN_SECONDS):
        for name in names:
            while not await _is_established(cluster, name):
                await asyncio.sleep(0.1)


async def _is_established(cluster: Cluster, name: str) -> bool:
    crd = await cluster.get(resources.CRDS, name)
    return any(
        one["type"] == "Established" and one["status"] == "True" for one in crd.get("status", {}).get("conditions", [])
    )
