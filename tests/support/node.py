"""A node without a kubelet: takes runners' pods on a control plane that has none, and says how they ended.

What a pod "does" is a function of its Task, or the real runner program as a process of this machine.
"""

import asyncio
import base64
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from renderfleet_client import Cluster
from renderfleet_client.errors import ApiError
from renderfleet_client.resources import PODS, SECRETS
from renderfleet_crds import meta
from renderfleet_crds.contract import TASK_ENV, VENDOR_KEY_DIR, ExitCode, pack_task, unpack_task

Body = dict[str, Any]


@dataclass
class PodRun:
    """One pod that was started here."""

    name: str
    namespace: str
    task: Body
    body: Body


@dataclass
class Ended:
    """How a pod ended."""

    exit_code: int
    message: str = ""
    reason: str = ""
    disrupted: bool = False


Program = Callable[[PodRun], Awaitable[Ended | None]]
"""None: the pod goes on for ever."""


def done(**result: Any) -> Ended:
    """A runner that did its work."""
    return Ended(ExitCode.DONE, json.dumps({"outcome": "done", **result}), "Completed")


def broke(category: str, **result: Any) -> Ended:
    """A runner that failed with a category."""
    refused = category in ("user", "moderation")
    outcome = "refused" if refused else "broke"
    code = ExitCode.REFUSED if refused else ExitCode.BROKE
    return Ended(
        code, json.dumps({"outcome": outcome, "category": category, "code": f"test_{category}", **result}), "Error"
    )


def outputs_of(task: Body) -> list[Body]:
    """As if every slot had been filled."""
    return [
        {
            "name": slot["name"],
            "key": slot["key"],
            "contentType": slot["contentType"],
            "bytes": 1000,
            "sha256": "0" * 64,
            **({"durationSeconds": 2.5} if slot["name"] in ("speech", "video") else {}),
        }
        for slot in task.get("outputs") or ()
    ]


async def succeed(pod: PodRun) -> Ended:
    """A program that always works."""
    if pod.task["params"]["stage"] == "start":
        return done(vendorJobId=f"tlk_{pod.task['uid'][:8]}", vendorStatus="created", charged="true")
    return done(outputs=outputs_of(pod.task), charged="true", usage={"images": 1, "characters": 10})


@dataclass
class Node:
    """Runs pods until it is stopped."""

    cluster: Cluster
    program: Program = succeed
    seconds: float = 0.05
    """How long a pod takes before its program begins."""
    runs: list[PodRun] = field(default_factory=list)
    _known: set[str] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self) -> None:
        """Take pods as they come."""
        try:
            while True:
                listed = await self.cluster.list(PODS, label_selector=meta.KIND_LABEL)
                for pod in listed.items:
                    uid = pod["metadata"]["uid"]
                    if uid in self._known or pod["status"].get("phase") not in (None, "Pending"):
                        continue
                    self._known.add(uid)
                    task = asyncio.create_task(self._run(pod))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                await asyncio.sleep(0.05)
        finally:
            for task in list(self._tasks):
                task.cancel()

    async def _run(self, pod: Body) -> None:
        about = pod["metadata"]
        container = pod["spec"]["containers"][0]
        env = {one["name"]: one["value"] for one in container["env"]}
        run = PodRun(about["name"], about["namespace"], json.loads(unpack_task(env[TASK_ENV])), pod)
        self.runs.append(run)
        try:
            await self._status(run, {"phase": "Running"})
            await asyncio.sleep(self.seconds)
            ended = await self.program(run)
            if ended is not None:
                await self.end(run, ended)
        except ApiError:
            pass  # deleted meanwhile

    async def end(self, run: PodRun, ended: Ended) -> None:
        """Write how the pod ended, as a kubelet does."""
        now = "2026-01-01T00:00:00Z"
        state = {
            "exitCode": ended.exit_code,
            "reason": ended.reason or ("Completed" if ended.exit_code == 0 else "Error"),
            "message": ended.message,
            "startedAt": now,
            "finishedAt": now,
        }
        status: Body = {
            "phase": "Succeeded" if ended.exit_code == 0 else "Failed",
            "containerStatuses": [
                {
                    "name": "runner",
                    "state": {"terminated": state},
                    "ready": False,
                    "restartCount": 0,
                    "image": "none",
                    "imageID": "none",
                }
            ],
        }
        if ended.disrupted:
            status["conditions"] = [
                {
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "EvictionByEvictionAPI",
                    "lastTransitionTime": now,
                }
            ]
        await self._status(run, status)

    async def _status(self, run: PodRun, status: Body) -> None:
        await self.cluster.patch(PODS, run.name, {"status": status}, run.namespace, subresource="status")

    def stages(self, uid: str) -> list[str]:
        """Stages and attempts that were started for a render, in order."""
        return [
            f"{run.task['params']['stage']} {run.task['run']}-{run.task['attempt']}"
            for run in self.runs
            if run.task["uid"] == uid
        ]


def real_runner(cluster: Cluster, folder: Path) -> Program:
    """The runner program itself, with the key from the Secret that its pod would mount."""

    async def run(pod: PodRun) -> Ended:
        task = pod.task
        home = Path(tempfile.mkdtemp(dir=folder))
        for field_name in ("provider", "scriptProvider"):
            access = task.get(field_name)
            if access is None:
                continue
            for volume in pod.body["spec"]["volumes"]:
                for source in (volume.get("projected") or {}).get("sources") or ():
                    item = source["secret"]["items"][0]
                    if f"{VENDOR_KEY_DIR}/{item['path']}" != access["keyFile"]:
                        continue
                    secret = await cluster.get(SECRETS, source["secret"]["name"], pod.namespace)
                    (home / item["path"]).write_bytes(base64.b64decode(secret["data"][item["key"]]))
            access["keyFile"] = str(home / access["name"])
        message = home / "termination"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "renderfleet_runners",
            env={
                "PATH": os.environ["PATH"],
                "TMPDIR": str(home),
                TASK_ENV: pack_task(json.dumps(task)),
                "RENDERFLEET_TERMINATION_MESSAGE_PATH": str(message),
            },
            stderr=(home / "log").open("wb"),
        )
        code = await process.wait()
        return Ended(code, message.read_text() if message.exists() else "")

    return run
