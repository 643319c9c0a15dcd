"""The kind provider: a cluster in containers, where a container engine answers."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from renderfleet_cluster import programs
from renderfleet_cluster import shape as shapes
from renderfleet_cluster.places import state_dir
from renderfleet_cluster.say import Trouble, line, step
from renderfleet_cluster.shape import Options

if TYPE_CHECKING:
    from renderfleet_cluster.images import Built


class KindProvider:
    """A kind cluster with the same node labels as the local one."""

    def __init__(self, name: str, engine: str) -> None:
        self._name = name
        self._engine = engine

    def up(self, options: Options) -> None:
        """Create the cluster unless kind knows it."""
        if options.audit_log or options.controller_flags is not shapes.ControllerFlags.TUNED:
            raise Trouble(
                "kind clusters here have neither an audit log nor default controller flags", "use --provider local"
            )
        programs.ensure([programs.KUBECTL])
        if self._is_there():
            line(f"kind cluster {self._name} is running")
            return
        with step(f"kind: creating cluster {self._name} with {self._engine}", usual_seconds=60):
            self._kind(
                *("create", "cluster", "--name", self._name, "--config", "-", "--wait", "120s", *self._where()),
                stdin=json.dumps(cluster_config(options)),
            )

    def down(self) -> None:
        """Delete the cluster."""
        self._kind("delete", "cluster", "--name", self._name, *self._where())
        self._kubeconfig_path().unlink(missing_ok=True)
        if self._kubeconfig_path().parent.is_dir():
            self._kubeconfig_path().parent.rmdir()

    def status(self) -> tuple[str, bool]:
        """Whether kind lists the cluster."""
        there = self._is_there()
        return f"kind cluster {self._name} ({self._engine}): {'running' if there else 'absent'}", there

    def kubeconfig(self) -> str:
        """Path of the kubeconfig that kind wrote."""
        path = self._kubeconfig_path()
        if not path.exists():
            if not self._is_there():
                raise Trouble(f"no kind cluster {self._name}", "start it with: python -m renderfleet_cluster up")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._kind("export", "kubeconfig", "--name", self._name, *self._where())
        return str(path)

    def load(self, built: Sequence[Built]) -> None:
        """Hand the images to kind; it skips those that the node has."""
        for image in built:
            self._kind("load", "docker-image", "--name", self._name, image.reference, image.alias)

    def _kubeconfig_path(self) -> Path:
        return state_dir() / self._name / "kubeconfig"

    def _where(self) -> list[str]:
        return ["--kubeconfig", str(self._kubeconfig_path())]

    def _is_there(self) -> bool:
        return self._name in self._kind("get", "clusters").split()

    def _kind(self, *arguments: str, stdin: str | None = None) -> str:
        programs.ensure([programs.KIND])
        result = subprocess.run(
            [programs.KIND.path("kind"), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "KIND_EXPERIMENTAL_PROVIDER": self._engine},
        )
        if result.returncode:
            raise Trouble(
                f"kind {' '.join(arguments[:2])}: {result.stderr.strip()[-1500:]}",
                "kind pulls its node image from a registry; without one use --provider local",
            )
        return result.stdout


def cluster_config(options: Options) -> dict[str, Any]:
    """kind's description of a one-node cluster like the local one."""
    patches = []
    if options.taint_pools:
        registration = {"taints": shapes.pool_taints()}
        patches.append(json.dumps({"kind": "InitConfiguration", "nodeRegistration": registration}))
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [{"role": "control-plane", "labels": shapes.pool_labels(), "kubeadmConfigPatches": patches}],
    }
