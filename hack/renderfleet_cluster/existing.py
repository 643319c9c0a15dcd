"""A cluster that is there already: used as it is, never started, filled or removed by this tool."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from renderfleet_cluster import programs
from renderfleet_cluster.say import Trouble, line
from renderfleet_cluster.shape import Options

if TYPE_CHECKING:
    from renderfleet_cluster.images import Built


DEFAULT_REGISTRY = "docker.io/"
"""What containerd puts in front of a name that names no registry."""


class ExistingProvider:
    """The cluster behind the current context of KUBECONFIG."""

    def up(self, options: Options) -> None:
        """Check that the cluster answers; options are the business of whoever runs it."""
        del options
        line(f"using the existing cluster, context {self._context()}: {self._kubectl('version').splitlines()[-1]}")

    def down(self) -> None:
        """Leave the cluster alone."""
        line("an existing cluster is never taken down by this tool")

    def status(self) -> tuple[str, bool]:
        """The nodes as kubectl shows them."""
        return self._kubectl("get", "nodes", "-o", "wide"), True

    def kubeconfig(self) -> str:
        """The first file of KUBECONFIG, or kubectl's default."""
        path = (os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")).split(":")[0]
        if not Path(path).exists():
            raise Trouble(f"no kubeconfig at {path}", "set KUBECONFIG, or choose another provider")
        return path

    def load(self, built: Sequence[Built]) -> None:
        """Check that the nodes have the images; how a foreign cluster gets them is for its owner to decide."""
        present = self._images_of_nodes()
        missing = [image.reference for image in built if image.reference not in present]
        if missing:
            raise Trouble(
                f"no node of this cluster has {', '.join(missing)}, and images cannot be put into it from here",
                "load them the way the cluster's owner does (`python -m renderfleet_cluster images` builds them), "
                "or push them to a registry that the cluster reads and set image.registry in the chart's values",
            )

    def _images_of_nodes(self) -> set[str]:
        """Every image name that some node reports, without the default registry; a kubelet reports 50 at most."""
        nodes = json.loads(self._kubectl("get", "nodes", "-o", "json"))["items"]
        names = (
            name for node in nodes for image in node["status"].get("images") or () for name in image.get("names") or ()
        )
        return {name.removeprefix(DEFAULT_REGISTRY) for name in names}

    def _context(self) -> str:
        return self._kubectl("config", "current-context").strip()

    def _kubectl(self, *arguments: str) -> str:
        programs.ensure([programs.KUBECTL])
        kubectl = programs.KUBECTL.path("kubectl")
        result = subprocess.run(
            [kubectl, "--kubeconfig", self.kubeconfig(), "--request-timeout=10s", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise Trouble(
                f"kubectl {' '.join(arguments)}: {result.stderr.strip()}", "check KUBECONFIG and its current context"
            )
        return result.stdout
