"""A cluster that is there already: used as it is, never started, filled or removed by this tool."""

from __future__ import annotations

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
        """Say which images to push; how a foreign cluster gets its images is for its owner to decide."""
        names = ", ".join(image.reference for image in built)
        raise Trouble(
            f"images cannot be put into an existing cluster from here: {names}",
            "push them to a registry that the cluster reads, and set image.registry in the chart's values",
        )

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
