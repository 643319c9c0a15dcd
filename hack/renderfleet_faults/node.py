"""The part of one Kubernetes node, played: pods that the scheduler sends here run the real runner program as a process.

Its modules are loaded once, in a nursery.

What a kubelet does for a runner pod, and no more: wait for the Secrets it mounts, start the program with the pod's
environment, report Running, then the exit code and termination message; on deletion SIGTERM, and SIGKILL after the
grace. On top of that a trial may have its program started twice, as Kubernetes itself sometimes does.
"""

import asyncio
import base64
import json
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from renderfleet_client import Cluster, Resource, resources
from renderfleet_client.errors import ApiError, Conflict, NotFound
from renderfleet_cluster.shape import pool_labels
from renderfleet_crds import meta
from renderfleet_crds.contract import TASK_ENV, TERMINATION_MESSAGE_LIMIT_BYTES, VENDOR_KEY_DIR, pack_task, unpack_task
from renderfleet_faults import traffic
from renderfleet_faults.backends import Process, plain_environment
from renderfleet_faults.nursery import VENDOR_MODULES, Nursery
from renderfleet_faults.traps import Starts

NODE = "played-node"
RUNNER = "renderfleet_runners"
RUNNER_MODULES = (
    *(f"renderfleet_runners.{name}" for name in ("run", "avatar", "voice", "video")),
    *VENDOR_MODULES,
)
NODES = Resource("", "v1", "nodes", namespaced=False)
_HEARTBEAT_SECONDS = 10
_LEASE_NAMESPACE = "kube-node-lease"
_KILLED = 137
"""Exit code that a kubelet reports for a container ended by SIGKILL: 128 + 9."""


@dataclass
class Pod:
    """One pod that runs here."""

    body: dict[str, Any]
    subject: str
    stage: str
    scratch: Path
    processes: list[Process] = field(default_factory=list)
    told_to_end: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.body["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        return str(self.body["metadata"]["uid"])

    @property
    def lives(self) -> bool:
        return any(process.is_alive for process in self.processes)


class Node:
    """See the module."""

    def __init__(
        self, cluster: Cluster, folder: Path, runners: Nursery, *, at_a_time: int, settings: Mapping[str, str]
    ) -> None:
        self._cluster = cluster
        self._runners = runners
        self._folder = folder
        self._settings = settings
        self._room = asyncio.Semaphore(at_a_time)
        self._pods: dict[str, Pod] = {}
        self._over: set[str] = set()
        """Pods by uid whose life here is over: news of them may still come, late, and tells of an earlier moment."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._tokens: dict[str, str] = {}
        self.starts: defaultdict[str, Starts] = defaultdict(lambda: Starts.ONCE)
        """By subject."""
        self.programs_started: defaultdict[str, int] = defaultdict(int)
        """By subject."""
        self.faults: list[str] = []
        """What went wrong with the node itself; anything here spoils the suite's result."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Be a node of the cluster for the time of the block."""
        await self._register()
        watching = [asyncio.create_task(self._watch_pods()), asyncio.create_task(self._heartbeat())]
        try:
            yield
        finally:
            for task in [*watching, *self._tasks]:
                task.cancel()
            await asyncio.gather(*watching, *self._tasks, return_exceptions=True)
            for pod in self._pods.values():
                for process in pod.processes:
                    await process.kill()

    # What the step proxy asks

    def stage_of(self, subject: str) -> str | None:
        """Stage of the subject's living runner, if it has one."""
        return next((pod.stage for pod in self._pods.values() if pod.subject == subject and pod.lives), None)

    def subject_of_uid(self, uid: str) -> str | None:
        """Whose render this is."""
        return self._tokens.get(uid)

    async def kill(self, subject: str) -> None:
        """SIGKILL every runner of a subject; returns when they are dead."""
        for pod in list(self._pods.values()):
            if pod.subject == subject:
                for process in pod.processes:
                    await process.kill()

    async def remove_pod(self, subject: str) -> None:
        """Delete the pod of a subject's runner; returns when the runner was told to end."""
        for pod in list(self._pods.values()):
            if pod.subject == subject and pod.lives:
                with suppress(NotFound):
                    await self._cluster.delete(resources.PODS, pod.name, pod.namespace, uid=pod.uid)
                await asyncio.wait_for(pod.told_to_end.wait(), 30)

    # A node's housekeeping

    async def _register(self) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE, **pool_labels()}},
        }
        await self._cluster.create(NODES, body)
        room = {"cpu": "1000", "memory": "4Ti", "pods": "10000", "ephemeral-storage": "100Ti"}
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "Played",
            "message": "there is no kubelet; a harness plays it",
            "lastHeartbeatTime": _now(),
            "lastTransitionTime": _now(),
        }
        status = {"status": {"capacity": room, "allocatable": room, "conditions": [ready]}}
        await self._cluster.patch(NODES, NODE, status, subresource="status")

    async def _heartbeat(self) -> None:
        """Without it the controller manager would declare the node lost and evict its pods after 50 s."""
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": NODE, "namespace": _LEASE_NAMESPACE},
            "spec": {"holderIdentity": NODE, "leaseDurationSeconds": 4 * _HEARTBEAT_SECONDS},
        }
        while True:
            lease["spec"]["renewTime"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # type: ignore[index]
            try:
                await self._cluster.patch(resources.LEASES, NODE, lease, _LEASE_NAMESPACE, how="apply")
            except ApiError as missed:
                self.faults.append(f"heartbeat: {missed}")
            await asyncio.sleep(_HEARTBEAT_SECONDS)

    async def _watch_pods(self) -> None:
        mine = f"spec.nodeName={NODE}"
        while True:
            try:
                listing = await self._cluster.list(resources.PODS, field_selector=mine)
                for body in listing.items:
                    self._seen(body)
                version = listing.resource_version
                async for event in self._cluster.watch(resources.PODS, field_selector=mine, resource_version=version):
                    if event.type in {"ADDED", "MODIFIED"}:
                        self._seen(event.object)
            except ApiError:
                await asyncio.sleep(0.2)

    def _seen(self, body: dict[str, Any]) -> None:
        about = body["metadata"]
        if about["uid"] in self._over:
            return
        pod = self._pods.get(about["uid"])
        if pod is None:
            subject = traffic.subject_of_object(body)
            if subject is None or body.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
                return
            stage = about["labels"][meta.STAGE_LABEL]
            scratch = Path(tempfile.mkdtemp(prefix=f"{subject}-{stage}-", dir=self._folder))
            pod = self._pods[about["uid"]] = Pod(body, subject, stage, scratch)
            task = asyncio.create_task(self._live(pod))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if about.get("deletionTimestamp") and not pod.told_to_end.is_set():
            grace = float(about.get("deletionGracePeriodSeconds") or 0)
            ending = asyncio.create_task(self._end(pod, grace))
            self._tasks.add(ending)
            ending.add_done_callback(self._tasks.discard)

    # One pod's life

    async def _live(self, pod: Pod) -> None:
        try:
            async with self._room:
                await self._run(pod)
        except Exception as defect:
            self.faults.append(f"pod {pod.namespace}/{pod.name}: {type(defect).__name__}: {defect}")
        finally:
            del self._pods[pod.uid]
            self._over.add(pod.uid)
            shutil.rmtree(pod.scratch, ignore_errors=True)

    async def _run(self, pod: Pod) -> None:
        container = pod.body["spec"]["containers"][0]
        environment = {one["name"]: one["value"] for one in container.get("env", [])}
        task = unpack_task(environment[TASK_ENV]).decode()
        self._tokens[json.loads(task)["uid"]] = pod.subject
        if not await self._mount_secrets(pod, container):
            return await self._report(pod, _KILLED, "", None)
        # A process has no mount namespace of its own here, so the key files are named where they really are.
        environment[TASK_ENV] = pack_task(task.replace(VENDOR_KEY_DIR, f"{pod.scratch}/mounts{VENDOR_KEY_DIR}"))
        began = _now()
        await self._start_program(pod, environment)
        starts = self.starts[pod.subject]
        if starts in {Starts.TWINS_FIRST, Starts.TWINS_SECOND}:
            await self._start_program(pod, environment)
        await self._patch(pod, {"phase": "Running", "startTime": began, "containerStatuses": [
            _container(container, {"running": {"startedAt": began}}, started=True)
        ]})  # fmt: skip
        codes = await asyncio.gather(*(process.child.wait() for process in pod.processes))
        reporter = 1 if starts is Starts.TWINS_SECOND else 0
        if starts is Starts.AGAIN and codes[0] < 0 and not pod.told_to_end.is_set():
            await self._start_program(pod, environment)
            codes = [*codes, await pod.processes[1].child.wait()]
            reporter = 1
        await self._report(pod, codes[reporter], began, _message(pod, reporter))
        return None

    async def _start_program(self, pod: Pod, environment: dict[str, str]) -> None:
        number = len(pod.processes)
        self.programs_started[pod.subject] += 1
        process = await self._runners.start(
            f"runner-{number}",
            pod.scratch,
            plain_environment(
                **environment,
                **self._settings,
                TMPDIR=str(pod.scratch),
                RENDERFLEET_TERMINATION_MESSAGE_PATH=str(_message_file(pod, number)),
            ),
        )
        pod.processes.append(process)

    async def _mount_secrets(self, pod: Pod, container: dict[str, Any]) -> bool:
        """Whether all Secrets are there; waits for them as a kubelet does, until the pod is deleted."""
        volumes = {one["name"]: one for one in pod.body["spec"].get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            volume = volumes[mount["name"]]
            sources = volume.get("projected", {}).get("sources") or [volume]
            for source in sources:
                if "secret" in source and not await self._mount(pod, mount["mountPath"], source["secret"]):
                    return False
        return True

    async def _mount(self, pod: Pod, path: str, source: dict[str, Any]) -> bool:
        name = source.get("secretName") or source["name"]
        while True:
            if pod.told_to_end.is_set():
                return False
            with suppress(NotFound):
                secret = await self._cluster.get(resources.SECRETS, name, pod.namespace)
                break
            await asyncio.sleep(0.2)
        folder = Path(f"{pod.scratch}/mounts{path}")
        folder.mkdir(parents=True, exist_ok=True)
        items = source.get("items") or [{"key": key, "path": key} for key in secret["data"]]
        for item in items:
            (folder / item["path"]).write_bytes(base64.b64decode(secret["data"][item["key"]]))
        return True

    async def _end(self, pod: Pod, grace_seconds: float) -> None:
        for process in pod.processes:
            with suppress(ProcessLookupError):
                process.child.terminate()
        pod.told_to_end.set()
        deadline = time.monotonic() + grace_seconds
        while pod.lives and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        for process in pod.processes:
            await process.kill()

    async def _report(self, pod: Pod, code: int, began: str, message: str | None) -> None:
        exit_code = 128 - code if code < 0 else code
        ended = {"exitCode": exit_code, "reason": "Completed" if exit_code == 0 else "Error", "finishedAt": _now()}
        if began:
            ended["startedAt"] = began
        if message:
            ended["message"] = message
        await self._patch(pod, {"phase": "Succeeded" if exit_code == 0 else "Failed", "containerStatuses": [
            _container(pod.body["spec"]["containers"][0], {"terminated": ended}, started=False)
        ]})  # fmt: skip
        if pod.told_to_end.is_set():
            with suppress(NotFound, Conflict):
                await self._cluster.delete(resources.PODS, pod.name, pod.namespace, uid=pod.uid, grace_seconds=0)

    async def _patch(self, pod: Pod, status: dict[str, Any]) -> None:
        body = {"metadata": {"uid": pod.uid}, "status": status}
        with suppress(NotFound, Conflict):
            await self._cluster.patch(resources.PODS, pod.name, body, pod.namespace, subresource="status")


def _container(spec: dict[str, Any], state: dict[str, Any], *, started: bool) -> dict[str, Any]:
    return {
        "name": spec["name"],
        "image": spec["image"],
        "imageID": "",
        "ready": started,
        "started": started,
        "restartCount": 0,
        "state": state,
    }


def _message_file(pod: Pod, number: int) -> Path:
    return pod.scratch / f"termination-log-{number}"


def _message(pod: Pod, number: int) -> str | None:
    with suppress(FileNotFoundError):
        raw = _message_file(pod, number).read_bytes()[:TERMINATION_MESSAGE_LIMIT_BYTES]
        return raw.decode(errors="replace")
    return None


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
