"""A control plane of its own for the suites: real etcd, API server, controllers and scheduler, and our CRDs in it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from renderfleet_client import Cluster, resources
from renderfleet_cluster import local, supervisor
from renderfleet_cluster.places import REPOSITORY
from renderfleet_cluster.shape import Options, Shape
from renderfleet_crds import kinds, meta
from renderfleet_faults.manager import SYSTEM_NAMESPACE

_PREFIX = "faults-"
_WITHIN_SECONDS = 60
_COUNTS = [f"count/{kind.plural}.{meta.GROUP}" for kind in kinds.RENDERS]


@asynccontextmanager
async def plane(suite: str) -> AsyncIterator[Cluster]:
    """Administrator's access to a fresh control plane that knows our kinds; taken down with the block.

    Each run has its own, so that two people may run suites on one machine; those of runs that were killed are removed.
    """
    for left in left_behind([shape.name for shape in local.all_shapes()]):
        await asyncio.to_thread(local.down, left)
    name = f"{_PREFIX}{suite}-{os.getpid()}"
    shape = await asyncio.to_thread(local.up, name, Options(control_plane_only=True))
    try:
        async with await Cluster.connect(str(shape.kubeconfig), field_manager="renderfleet-faults") as cluster:
            await _install_crds(cluster)
            _restart_controllers(shape)
            await cluster.create(resources.NAMESPACES, {"metadata": {"name": SYSTEM_NAMESPACE}})
            await _quotas_count_renders(cluster)
            yield cluster
    finally:
        await asyncio.to_thread(local.down, name)


def left_behind(names: Iterable[str]) -> list[str]:
    """Those of our planes, or folders, whose run is no more: a name ends in the number of its process."""
    found = []
    for name in names:
        number = name.rpartition("-")[2]
        if name.startswith(_PREFIX) and number.isdigit() and not Path(f"/proc/{number}").exists():
            found.append(name)
    return found


async def _install_crds(cluster: Cluster) -> None:
    names = []
    for file in sorted((REPOSITORY / "crds/manifests").glob("*.yaml")):
        body = yaml.safe_load(file.read_text())
        await cluster.create(resources.CRDS, body)
        names.append(body["metadata"]["name"])
    async with asyncio.timeout(_WITHIN_SECONDS):
        for name in names:
            while not _is_established(await cluster.get(resources.CRDS, name)):
                await asyncio.sleep(0.1)


def _is_established(crd: dict[str, Any]) -> bool:
    conditions = crd.get("status", {}).get("conditions") or ()  # null in the first moments
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def _restart_controllers(shape: Shape) -> None:
    """The quota controller looks for new kinds every 30 s only, but always when it starts."""
    for process in supervisor.read(shape.processes_file):
        if process.name == "kube-controller-manager" and process.is_alive:
            os.kill(process.pid, signal.SIGTERM)


async def _quotas_count_renders(cluster: Cluster) -> None:
    """A quota that is made before its controller knows our kinds refuses every render for minutes; wait that out."""
    quota = {"metadata": {"name": "probe"}, "spec": {"hard": dict.fromkeys(_COUNTS, "1")}}
    async with asyncio.timeout(_WITHIN_SECONDS):
        while True:
            await cluster.create(resources.RESOURCE_QUOTAS, quota, SYSTEM_NAMESPACE)
            for _ in range(10):
                await asyncio.sleep(0.2)
                seen = await cluster.get(resources.RESOURCE_QUOTAS, "probe", SYSTEM_NAMESPACE)
                counted = seen.get("status", {}).get("used", {})
                if all(count in counted for count in _COUNTS):
                    break
            await cluster.delete(resources.RESOURCE_QUOTAS, "probe", SYSTEM_NAMESPACE)
            if all(count in counted for count in _COUNTS):
                return
