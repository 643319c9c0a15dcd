"""Put the fleet into a cluster: images, the two charts, and a wait until all of it answers.

Doing it again changes only what has changed: images carry the hash of what is in them, charts are upgraded in place.
"""

import base64
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from renderfleet_cluster import images, programs
from renderfleet_cluster.places import REPOSITORY
from renderfleet_cluster.providers import Provider
from renderfleet_cluster.say import Trouble, step
from renderfleet_crds import kinds, meta

SYSTEM_NAMESPACE = "renderfleet-system"
DEMO_NAMESPACE = "renderfleet-demo"
RELEASE = "renderfleet"
FLEET_IMAGES = ("operator", "api", "runner")
DEMO_IMAGES = ("standin", "postgres", "s3")


@dataclass(frozen=True)
class Tools:
    """kubectl and helm, both pointed at one cluster."""

    kubeconfig: Path

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl prints. Raises Trouble with its error text."""
        return self._run("kubectl", arguments, stdin)

    def helm(self, *arguments: str) -> str:
        """What helm prints. Raises Trouble with its error text."""
        return self._run("helm", arguments, None)

    @property
    def environment(self) -> dict[str, str]:
        """For programs that shall see this cluster."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    @staticmethod
    def path(program: str) -> str:
        """Where the program is: the one built for this cluster, whose version fits the server's."""
        return str(programs.tools_dir() / program)

    def _run(self, program: str, arguments: tuple[str, ...], stdin: str | None) -> str:
        command = [self.path(program), *arguments]
        done = subprocess.run(command, input=stdin, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Trouble(
                f"{program} {' '.join(arguments[:6])} failed: {done.stderr.strip()[-1500:]}",
                f"look at the cluster with: KUBECONFIG={self.kubeconfig} {self.path('kubectl')} get pods -A",
            )
        return done.stdout


def deploy(tools: Tools, provider: Provider, *, values: Mapping[str, str] | None = None) -> None:
    """Build and load the images, install or upgrade both charts, wait until every pod is ready.

    `values` are further `--set` values of the main chart.
    """
    built = images.build([*FLEET_IMAGES, *DEMO_IMAGES])
    provider.load(built)
    references = {one.reference.split("/")[-1].split(":")[0]: one.reference for one in built}
    programs.ensure([programs.HELM])
    with step("installing the charts", usual_seconds=5):
        for namespace in (SYSTEM_NAMESPACE, DEMO_NAMESPACE):
            tools.kubectl("apply", "--server-side", "-f", "-", stdin=_namespace(namespace))
        fleet = {f"images.{name}": references[name] for name in FLEET_IMAGES}
        # The demo's values are the main chart's only difference from production.
        _install(
            tools,
            RELEASE,
            "renderfleet",
            SYSTEM_NAMESPACE,
            {**fleet, **(values or {})},
            "--values",
            str(REPOSITORY / "charts/renderfleet-demo/renderfleet-values.yaml"),
        )
        demo = {f"images.{name}": references[name] for name in DEMO_IMAGES}
        crds = [f"crd/{kind.plural}.{meta.GROUP}" for kind in kinds.ALL]
        tools.kubectl("wait", "--for=condition=Established", "--timeout=30s", *crds)
        _install(tools, "renderfleet-demo", "renderfleet-demo", DEMO_NAMESPACE, demo)
    for namespace, name in (
        (DEMO_NAMESPACE, "postgres"),
        (DEMO_NAMESPACE, "s3"),
        (DEMO_NAMESPACE, "standin"),
        (SYSTEM_NAMESPACE, f"{RELEASE}-api"),
        (SYSTEM_NAMESPACE, f"{RELEASE}-operator"),
        (SYSTEM_NAMESPACE, f"{RELEASE}-courier"),
    ):
        with step(f"waiting for {name}", usual_seconds=10):
            tools.kubectl("-n", namespace, "rollout", "status", f"deployment/{name}", "--timeout=180s")


def admin_key(tools: Tools) -> str:
    """The first admin key, as the chart made it."""
    encoded = tools.kubectl(
        "-n", SYSTEM_NAMESPACE, "get", "secret", f"{RELEASE}-api", "-o", "jsonpath={.data.adminKey}"
    )
    return base64.b64decode(encoded).decode()


def _install(tools: Tools, release: str, chart: str, namespace: str, values: Mapping[str, str], *more: str) -> None:
    sets = [part for name, value in values.items() for part in ("--set-string", f"{name}={value}")]
    tools.helm(
        "upgrade", "--install", release, str(REPOSITORY / "charts" / chart), "--namespace", namespace, *more, *sets
    )


def _namespace(name: str) -> str:
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "app.kubernetes.io/part-of": "renderfleet"}
    return json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
