"""Our CRDs in a real API server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from renderfleet_client import Cluster, resources
from renderfleet_cluster.places import REPOSITORY


@pytest.fixture(scope="session")
def crds_installed(control_plane: Path) -> Path:
    """Kubeconfig of a control plane that knows our kinds, applied with strict field validation."""

    async def install() -> None:
        async with await Cluster.connect(str(control_plane)) as cluster:
            names = []
            for file in sorted((REPOSITORY / "crds/manifests").glob("*.yaml")):
                body = yaml.safe_load(file.read_text())
                await cluster.create(resources.CRDS, body)
                names.append(body["metadata"]["name"])
            for name in names:
                await _established(cluster, name)

    asyncio.run(install())
    return control_plane


async def _established(cluster: Cluster, name: str) -> None:
    for _ in range(100):
        crd = await cluster.get(resources.CRDS, name)
        conditions = (crd.get("status") or {}).get("conditions") or []
        if any(one["type"] == "Established" and one["status"] == "True" for one in conditions):
            broken = [one for one in conditions if one["type"] == "NonStructuralSchema"]
            assert broken == []
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{name} was not established within 10 s")


@pytest.fixture
async def cluster(crds_installed: Path) -> AsyncIterator[Cluster]:
    """Administrator's access to the control plane."""
    async with await Cluster.connect(str(crds_installed)) as access:
        yield access
