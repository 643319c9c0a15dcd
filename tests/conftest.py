"""What all tests share: which cluster pytest-kind drives, and a control plane without nodes for tests of the API alone."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from renderfleet_cluster import local, programs
from renderfleet_cluster.places import REPOSITORY, default_cluster_name, state_dir
from renderfleet_cluster.shape import Options

PLANE = os.environ.get("RENDERFLEET_TEST_PLANE", "tests") + os.environ.get("PYTEST_XDIST_WORKER", "").replace("gw", "-")
"""Two test runs on one machine need two names, and so do two workers of one run."""


def pytest_configure(config: pytest.Config) -> None:
    """Point pytest-kind at our kind-shaped front instead of having it download kind."""
    option = config.option
    if getattr(option, "kind_bin", None) is None:
        name = default_cluster_name()
        option.cluster_name = name
        option.kind_bin = str(REPOSITORY / "hack/cluster/kind")
        option.kind_kubectl_bin = str(programs.KUBECTL.path("kubectl"))
        kubeconfig = state_dir() / name / "kubeconfig"
        # pytest-kind touches this file before there is a cluster; its folder has to be there.
        kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        option.kubeconfig = str(kubeconfig)
        option.keep_cluster = True


class ByPlace(LoadScopeScheduling):
    """Which tests stay together when several workers share them out: those of a file, and all that use the one node.

    Tests over the wire go one by one: they are many, slow, and share nothing. (The plugin's own groups do not work with
    this pytest: it renames tests to mark them, and names are read-only now.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        match file.split("/")[1]:
            case "wire":
                return nodeid
            case "e2e":
                return "e2e"
            case _:
                return file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByPlace:
    """Called with `-n` only."""
    return ByPlace(config, log)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Path]:
    """Kubeconfig of a real API server with controllers and scheduler, but no node; our CRDs are not in it yet."""
    if local.shape_of(PLANE) is not None:
        local.down(PLANE)
    shape = local.up(PLANE, Options(control_plane_only=True))
    yield Path(shape.kubeconfig)
    local.down(PLANE)
