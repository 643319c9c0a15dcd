"""The played node, before an API server that keeps pods as the real one does."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from renderfleet_client import Cluster
from renderfleet_client.login import Login
from renderfleet_crds import meta
from renderfleet_crds.contract import TASK_ENV, pack_task
from renderfleet_faults.node import NODE, Node
from renderfleet_faults.nursery import Nursery, nursery

Body = dict[str, Any]
EARLIER, LATER, LAST = "c0001", "c0002", "c0003"


def pod(subject: str) -> Body:
    """A runner's pod as the scheduler leaves it."""
    task = {"name": TASK_ENV, "value": pack_task(json.dumps({"uid": f"render-{subject}"}))}
    return {
        "metadata": {
            "name": f"runner-{subject}",
            "namespace": f"rf-{subject}",
            "uid": f"pod-{subject}",
            "labels": {meta.STAGE_LABEL: "image"},
        },
        "spec": {"nodeName": NODE, "containers": [{"name": "runner", "image": "any", "env": [task]}]},
        "status": {"phase": "Pending"},
    }


class Pods:
    """Keeps pods by subject, tells what happens to them, and lets no container that has ended run again: 422."""

    def __init__(self, *there: Body) -> None:
        self.history: dict[str, list[Body]] = {one["metadata"]["name"]: [one] for one in there}
        """By name: every state, oldest first."""
        self.lines: asyncio.Queue[tuple[str, Body]] = asyncio.Queue()
        """What the watch is going to say."""
        self._changed = asyncio.Condition()

    def add(self, body: Body) -> None:
        """The scheduler sends one more here."""
        self.history[body["metadata"]["name"]] = [body]
        self.lines.put_nowait(("ADDED", body))

    def past(self, subject: str, phase: str) -> Body:
        """A pod as it was in that phase."""
        return next(one for one in self.history[f"runner-{subject}"] if one["status"]["phase"] == phase)

    async def until(self, subject: str, phase: str) -> None:
        """Wait for a pod to be in that phase."""

        def is_there() -> bool:
            return bool(self.history[f"runner-{subject}"][-1]["status"]["phase"] == phase)

        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(is_there)

    async def patch(self, request: web.Request) -> web.Response:
        """A status, as a kubelet reports it."""
        states = self.history[request.match_info["name"]]
        status = orjson.loads(await request.read())["status"]
        if _has_ended(states[-1]["status"]) and not _has_ended(status):
            refusal = {"kind": "Status", "reason": "Invalid", "message": "a container that has ended cannot run again"}
            return web.json_response({**refusal, "code": 422}, status=422)
        states.append({**states[-1], "status": {**states[-1]["status"], **status}})
        async with self._changed:
            self._changed.notify_all()
        return web.json_response(states[-1])

    async def list_or_watch(self, request: web.Request) -> web.StreamResponse:
        """All of them as they are, or what is said of them from now on."""
        if "watch" not in request.query:
            items = [states[-1] for states in self.history.values()]
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            change, body = await self.lines.get()
            await answer.write(orjson.dumps({"type": change, "object": body}) + b"\n")


def _has_ended(status: Body) -> bool:
    return any("terminated" in one["state"] for one in status.get("containerStatuses", ()))


async def _taken(request: web.Request) -> web.Response:
    """The node itself and its Lease: whatever is written is well."""
    return web.json_response(orjson.loads(await request.read()))


@pytest.fixture
async def pods() -> Pods:
    return Pods(pod(EARLIER), pod(LATER))


@pytest.fixture
async def cluster(pods: Pods) -> AsyncIterator[Cluster]:
    app = web.Application()
    app.router.add_get("/api/v1/pods", pods.list_or_watch)
    app.router.add_patch("/api/v1/namespaces/{namespace}/pods/{name}/status", pods.patch)
    app.router.add_post("/api/v1/nodes", _taken)
    app.router.add_patch("/{rest:.*}", _taken)
    async with TestServer(app) as server, Cluster(Login(server=str(server.make_url("")).rstrip("/"))) as made:
        yield made


@pytest.fixture
async def runners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Nursery]:
    """A runner that has nothing to do."""
    (tmp_path / "idle_runner.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with nursery("idle_runner", tmp_path) as made:
        yield made


async def test_late_news_of_a_pod_whose_life_is_over_starts_nothing(
    pods: Pods, cluster: Cluster, runners: Nursery, tmp_path: Path
) -> None:
    node = Node(cluster, tmp_path, runners, at_a_time=1, settings={})

    async with node.running():
        # There is room for one at a time, so the later pod ends when the earlier one's life is long over.
        await pods.until(LATER, "Succeeded")
        pods.lines.put_nowait(("MODIFIED", pods.past(EARLIER, "Running")))
        pods.add(pod(LAST))
        await pods.until(LAST, "Succeeded")

    assert node.faults == []
    assert node.programs_started == {EARLIER: 1, LATER: 1, LAST: 1}
