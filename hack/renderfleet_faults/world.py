"""What is true in the cluster, seen past the proxy: renders as they are, and every Job that ever was."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from renderfleet_client import Cluster, Resource, WatchEvent, resources
from renderfleet_client.errors import ApiError
from renderfleet_crds import kinds, meta
from renderfleet_crds.contract import TASK_ENV, unpack_task
from renderfleet_crds.phases import Phase
from renderfleet_faults import traffic

Body = dict[str, Any]


class World:
    """See the module."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.gone: defaultdict[str, dict[str, Body]] = defaultdict(dict)
        """Subject -> UID -> the last that was seen of an object that is deleted now."""
        self.jobs: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        """Subject -> `stage run-attempt of render` -> UIDs of all Jobs made for it."""
        self._objects: defaultdict[str, dict[str, Body]] = defaultdict(dict)
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Keep up with the cluster for the time of the block."""
        ours = [Resource.of(kind) for kind in (*kinds.RENDERS, kinds.RENDER_TENANT)]
        watches = [asyncio.create_task(self._follow(one, self._object_seen)) for one in ours]
        watches.append(asyncio.create_task(self._follow(resources.JOBS, self._job_seen, meta.KIND_LABEL)))
        try:
            yield
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)

    def renders(self, subject: str) -> list[Body]:
        """The subject's renders that exist, by kind and name."""
        found = [body for body in self._objects[subject].values() if body["kind"] != kinds.RENDER_TENANT.kind]
        return sorted(
            found, key=lambda body: (body["kind"], body["metadata"]["creationTimestamp"], body["metadata"]["name"])
        )

    def tenant(self, subject: str) -> Body | None:
        """The subject's RenderTenant."""
        return next((one for one in self._objects[subject].values() if one["kind"] == kinds.RENDER_TENANT.kind), None)

    def is_over(self, subject: str, count: int) -> bool:
        """All of the subject's renders, at least `count` with the deleted ones, are at their end and archived."""
        renders = self.renders(subject)
        return len(renders) + len(self.gone[subject]) >= count and all(has_ended(body) for body in renders)

    async def until(self, true: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait for a state of the world. Raises TimeoutError that says for what it waited."""
        try:
            async with asyncio.timeout(seconds):
                while not true():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}") from None

    async def _follow(
        self, resource: Resource, seen: Callable[[WatchEvent], None], label_selector: str | None = None
    ) -> None:
        while True:
            try:
                listing = await self.cluster.list(resource, label_selector=label_selector)
                for body in listing.items:
                    seen(WatchEvent("ADDED", body))
                stream = self.cluster.watch(
                    resource, resource_version=listing.resource_version, label_selector=label_selector
                )
                async for event in stream:
                    if event.type != "BOOKMARK":
                        seen(event)
                        self._changed.set()
            except ApiError:
                # Expired, broken off, or, right after its CRD, not served yet: the next listing tells.
                await asyncio.sleep(0.2)

    def _object_seen(self, event: WatchEvent) -> None:
        subject = traffic.subject_of_object(event.object)
        if subject is None:
            return
        uid = event.object["metadata"]["uid"]
        if event.type == "DELETED":
            self._objects[subject].pop(uid, None)
            self.gone[subject][uid] = event.object
        else:
            self._objects[subject][uid] = event.object

    def _job_seen(self, event: WatchEvent) -> None:
        subject = traffic.subject_of_object(event.object)
        if subject is not None:
            self.jobs[subject][attempt_of(event.object)].add(event.object["metadata"]["uid"])


def attempt_of(job: Body) -> str:
    """Which attempt a runner Job is for. Its own task tells: a second Job would hardly have the first one's name."""
    environment = {one["name"]: one.get("value") for one in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    task = json.loads(unpack_task(environment[TASK_ENV]))
    return f"{task['stage']} {task['run']}-{task['attempt']} of {task['uid']}"


def phase_of(body: Body) -> Phase | None:
    """The render's phase; None before its first report."""
    word = (body.get("status") or {}).get("phase")
    return Phase(word) if word else None


def has_ended(body: Body) -> bool:
    """At an end, archived, and let go of."""
    phase = phase_of(body)
    return phase is not None and phase.is_final and meta.FINALIZER not in body["metadata"].get("finalizers", [])
