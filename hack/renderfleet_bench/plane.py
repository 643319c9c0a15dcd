"""A control plane to measure on: real API server, controllers and scheduler; nodes and pods played by kwok.

kwok stands for kubelets: its stages (stages/*.yaml) say how a pod goes from Pending to Succeeded. So pods cost what their
objects cost, and nothing else; two cores can then carry thousands of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from renderfleet_bench.audit import AuditLog
from renderfleet_bench.children import Child
from renderfleet_client.cluster import Cluster
from renderfleet_client.errors import AlreadyExists, NotFound
from renderfleet_client.resources import NAMESPACES, NODES, Resource
from renderfleet_cluster import local, programs, supervisor
from renderfleet_cluster.places import REPOSITORY
from renderfleet_cluster.say import Trouble
from renderfleet_cluster.shape import ControllerFlags, Options, Shape, pool_labels

NAME = "bench"
STAGES = Path(__file__).parent / "stages"
NODE_COUNT = 4
NODE_SIZE = {"cpu": "10k", "memory": "64Ti", "pods": "100k"}
"""Never the reason to wait: admission and the controllers are measured, not the packing of nodes."""
SYSTEM_NAMESPACE = "renderfleet-system"
RELEASE = "bench"
OPERATOR_USER = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{RELEASE}-operator"
RIGHTS = {"operator": "templates/operator-rbac.yaml", "api": "templates/api.yaml"}
"""Where the chart says what a program may do."""
FIELD_OWNERS = "templates/field-owners.yaml"
POLICY_API = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"
"""What the chart asks a cluster for before it puts that file in."""
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts")
TOKEN_SECONDS = 7200
READY_WITHIN_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Plane:
    """One running control plane, with our CRDs in it, and an identity for the operator."""

    shape: Shape
    cluster: Cluster
    """As administrator: what the bench itself does is exempt from the API server's fair queuing, the operator is not."""
    audit: AuditLog
    operator_kubeconfig: Path
    scratch: Path
    kwok: Child

    @property
    def flags(self) -> ControllerFlags:
        return self.shape.options.controller_flags

    async def identity(self, program: str) -> Path:
        """A kubeconfig with an account of its own for another of our programs, as `_identity` makes it."""
        return await _identity(self.shape, self.cluster, self.scratch, program)

    def pids(self) -> dict[str, int]:
        """The plane's processes by name, kwok among them."""
        known = {one.name: one.pid for one in supervisor.read(self.shape.processes_file) if one.name != "supervisor"}
        return {**known, "kwok": self.kwok.pid}

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run kubectl as administrator and return what it printed."""
        return kubectl(self.shape, *arguments, text=text)


def kubectl(shape: Shape, *arguments: str, text: str | None = None) -> str:
    """Run kubectl as administrator and return what it printed. Raises Trouble when it fails."""
    command = [str(programs.KUBECTL.path("kubectl")), "--kubeconfig", str(shape.kubeconfig), *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Trouble(
            f"kubectl {' '.join(arguments)}: {done.stderr.strip()}", "is the control plane well? see its logs"
        )
    return done.stdout


@asynccontextmanager
async def running(flags: ControllerFlags, scratch: Path) -> AsyncIterator[Plane]:
    """A fresh control plane; it and all its data are gone when the context ends."""
    programs.ensure([programs.KWOK, programs.HELM])
    if local.shape_of(NAME) is not None:
        await asyncio.to_thread(local.down, NAME)
    audit = AuditLog(scratch / f"audit-{flags}.log")
    audit.path.unlink(missing_ok=True)
    options = Options(control_plane_only=True, controller_flags=flags, audit_log=str(audit.path))
    kwok: Child | None = None
    try:
        shape = await asyncio.to_thread(local.up, NAME, options)
        kwok = _start_kwok(shape, scratch / f"kwok-{flags}.log")
        async with await Cluster.connect(str(shape.kubeconfig), field_manager="renderfleet-bench") as cluster:
            await _add_nodes(cluster)
            kubeconfig = await _install(shape, cluster, scratch)
            await _wait_for_nodes(cluster, kwok)
            yield Plane(
                shape=shape,
                cluster=cluster,
                audit=audit,
                operator_kubeconfig=kubeconfig,
                scratch=scratch,
                kwok=kwok,
            )
    finally:
        if kwok:
            kwok.stop()
        await asyncio.to_thread(local.down, NAME)
        audit.path.unlink(missing_ok=True)


def _start_kwok(shape: Shape, log: Path) -> Child:
    settings = {
        "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
        "kind": "KwokConfiguration",
        "options": {
            "manageAllNodes": True,
            "nodeLeaseDurationSeconds": 40,
            "nodeLeaseParallelism": 4,
            "nodePlayStageParallelism": 4,
            "podPlayStageParallelism": 16,
            "podsOnNodeSyncParallelism": 1,
            "enablePodsOnNodeSyncListPager": True,
            "nodeIP": shape.address,
            "serverAddress": f"{shape.private_address}:10247",
        },
    }
    config = shape.config / "kwok.yaml"
    parts = [json.dumps(settings), *(path.read_text() for path in sorted(STAGES.glob("*.yaml")))]
    config.write_text("\n---\n".join(parts))
    command = [str(programs.KWOK.path("kwok")), "--kubeconfig", str(shape.kubeconfig), "--config", str(config)]
    return Child("kwok", command, log)


async def _add_nodes(cluster: Cluster) -> None:
    for number in range(NODE_COUNT):
        name = f"bench-{number}"
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **pool_labels()}},
            "status": {"capacity": NODE_SIZE, "allocatable": NODE_SIZE},
        }
        await cluster.create(NODES, body)


async def _wait_for_nodes(cluster: Cluster, kwok: Child) -> None:
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while True:
        kwok.check()
        nodes = (await cluster.list(NODES)).items
        if not any(node["spec"].get("taints") for node in nodes) and all(_is_ready(node) for node in nodes):
            return
        if time.monotonic() > deadline:
            raise Trouble(f"kwok's nodes are not ready after {READY_WITHIN_SECONDS:.0f} s", f"see {kwok.log}")
        await asyncio.sleep(0.1)


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


async def _install(shape: Shape, cluster: Cluster, scratch: Path) -> Path:
    """CRDs and the operator's account; returns its kubeconfig."""
    await _ensure_namespace(cluster, SYSTEM_NAMESPACE)
    crds = await asyncio.to_thread(kubectl, shape, "apply", "--server-side", "-f", str(REPOSITORY / "crds/manifests"))
    await asyncio.to_thread(kubectl, shape, "wait", "--for=condition=Established", "--timeout=30s", *crds_named(crds))
    policy = _rendered(FIELD_OWNERS, "--api-versions", POLICY_API)
    await asyncio.to_thread(kubectl, shape, "apply", "-f", "-", text=policy)
    return await _identity(shape, cluster, scratch, "operator")


async def _identity(shape: Shape, cluster: Cluster, scratch: Path, program: str) -> Path:
    """An account with the rights that the chart gives this program, and a kubeconfig with its token."""
    account = f"{RELEASE}-{program}"
    await asyncio.to_thread(kubectl, shape, "apply", "-n", SYSTEM_NAMESPACE, "-f", "-", text=_rights(program))
    body = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": account, "namespace": SYSTEM_NAMESPACE},
    }
    await cluster.create(SERVICE_ACCOUNTS, body, SYSTEM_NAMESPACE)
    token = await asyncio.to_thread(
        kubectl, shape, "create", "token", account, "-n", SYSTEM_NAMESPACE, f"--duration={TOKEN_SECONDS}s"
    )
    config = yaml.safe_load(shape.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token.strip()}
    path = scratch / f"{program}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return path


def crds_named(applied: str) -> list[str]:
    """The objects that `kubectl apply` says it wrote, as arguments for `kubectl wait`."""
    return [line.split()[0] for line in applied.splitlines() if line]


def _rights(program: str) -> str:
    """The chart's own roles: a program that lacks a right here lacks it in production."""
    made = yaml.safe_load_all(_rendered(RIGHTS[program]))
    roles = [one for one in made if one and one["apiVersion"].startswith("rbac.authorization.k8s.io/")]
    return yaml.safe_dump_all(roles)


def _rendered(template: str, *more: str) -> str:
    """One file of the chart, as helm makes it. Raises Trouble when it cannot."""
    command = [str(programs.HELM.path("helm")), "template", RELEASE, str(REPOSITORY / "charts/renderfleet")]
    command += ["--namespace", SYSTEM_NAMESPACE, "--show-only", template, *more]
    command += ["--values", str(REPOSITORY / "charts/renderfleet-demo/renderfleet-values.yaml")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "HOME": "/nonexistent"}
    )
    if done.returncode:
        raise Trouble(f"helm template: {done.stderr.strip()}", "run `make check`; it says what is wrong with the chart")
    return done.stdout


async def _ensure_namespace(cluster: Cluster, name: str, labels: Mapping[str, str] | None = None) -> None:
    about = {"name": name, "labels": dict(labels or {})}
    with suppress(AlreadyExists):
        await cluster.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": about})


async def make_namespace(cluster: Cluster, name: str, labels: Mapping[str, str] | None = None) -> None:
    """A namespace in which pods can be made: its default service account is there."""
    await _ensure_namespace(cluster, name, labels)
    while True:
        try:
            await cluster.get(SERVICE_ACCOUNTS, "default", name)
            return
        except NotFound:
            await asyncio.sleep(0.05)
