"""Decide which cluster is meant: one that is there already, kind where an engine answers, or our own local one.

wanted    engine answers   a local cluster of the name is up   -> provider
existing  -                -                                      existing
kind      -                -                                      kind
local     -                -                                      local
auto      -                yes                                    local
auto      yes              no                                     kind
auto      no               no                                     local
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Protocol

from renderfleet_cluster import existing, images, kind, local
from renderfleet_cluster.say import Trouble
from renderfleet_cluster.shape import Options

NAMES = ("auto", "existing", "kind", "local")
ENGINES = ("docker", "podman", "nerdctl")


class Provider(Protocol):
    """The verbs, whatever stands behind them."""

    def up(self, options: Options) -> None:
        """Start, or say that it runs."""

    def down(self) -> None:
        """End, leaving nothing."""

    def status(self) -> tuple[str, bool]:
        """Text for a person, and whether all is well."""
        ...

    def kubeconfig(self) -> str:
        """Path of the kubeconfig; Trouble when there is no cluster."""
        ...

    def load(self, built: Sequence[images.Built]) -> None:
        """Put images into the cluster; those that are in stay as they are."""


class LocalProvider:
    """The cluster of our own processes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def up(self, options: Options) -> None:
        local.up(self._name, options)

    def down(self) -> None:
        local.down(self._name)

    def status(self) -> tuple[str, bool]:
        shape = local.shape_of(self._name)
        if shape is None:
            return f"no local cluster {self._name}; start it with: python -m renderfleet_cluster up", False
        return local.status(shape)

    def kubeconfig(self) -> str:
        shape = local.shape_of(self._name)
        if shape is None:
            raise Trouble(f"no local cluster {self._name}", "start it with: python -m renderfleet_cluster up")
        return str(shape.kubeconfig)

    def load(self, built: Sequence[images.Built]) -> None:
        shape = local.shape_of(self._name)
        if shape is None:
            raise Trouble(f"no local cluster {self._name}", "start it with: python -m renderfleet_cluster up")
        images.import_into_containerd(shape, built)


def default_name() -> str:
    """The provider that the environment asks for."""
    return os.environ.get("RENDERFLEET_CLUSTER_PROVIDER") or "auto"


def answering_engine() -> str | None:
    """The first container engine that answers. A client alone is no engine: it is asked, not looked for."""
    for engine in ENGINES:
        if shutil.which(engine):
            try:
                if subprocess.run([engine, "info"], capture_output=True, check=False, timeout=10).returncode == 0:
                    return engine
            except subprocess.TimeoutExpired:
                continue
    return None


def choose(wanted: str, name: str, *, for_control_plane_only: bool = False) -> Provider:
    """The provider for a cluster of this name, by the table above."""
    if wanted not in NAMES:
        raise Trouble(f"no provider {wanted!r}", f"RENDERFLEET_CLUSTER_PROVIDER is one of {', '.join(NAMES)}")
    if wanted == "existing":
        return existing.ExistingProvider()
    if wanted == "local" or for_control_plane_only or (wanted == "auto" and local.shape_of(name)):
        return LocalProvider(name)
    engine = answering_engine()
    if wanted == "kind":
        if engine is None:
            raise Trouble(
                "no container engine answers, kind needs one",
                f"start one of {', '.join(ENGINES)}, or use the local provider",
            )
        return kind.KindProvider(name, engine)
    return kind.KindProvider(name, engine) if engine else LocalProvider(name)
