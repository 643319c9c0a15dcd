"""Put a batch of objects into the cluster, and see when each has come to its end.

Bare Jobs and renders go through the same code: same concurrency, same kind of watch, same clock (ours, since the API's
timestamps are whole seconds).
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, Protocol

from renderfleet_client.cluster import Body, Cluster
from renderfleet_client.errors import Gone, NotFound, QuotaNotReady, TooManyRequests, Unavailable
from renderfleet_client.resources import JOBS, PODS, Resource
from renderfleet_cluster.say import Trouble
from renderfleet_crds import kinds, meta

CONCURRENCY = 20
"""Requests of the loader that are under way at a time."""
STALLED_AFTER_SECONDS = 60.0
RUNNER_IMAGE = "renderfleet/runner:bench"
"""Never pulled: kwok's pods have no containers."""

AVATARS = Resource.of(kinds.AVATAR_RENDER)
Verdict = Literal["done", "failed"] | None


class Subject(Protocol):
    """A sort of object to make many of."""

    @property
    def resource(self) -> Resource: ...
    @property
    def namespace(self) -> str: ...

    def body(self, name: str) -> Body:
        """What to POST."""
        ...

    def verdict(self, seen: Body) -> Verdict:
        """How it ended; None while it has not."""
        ...

    def is_let_go(self, seen: Body) -> bool:
        """Nobody has anything left to do for it, once it has ended."""
        ...


@dataclass(frozen=True)
class BareJobs:
    """Jobs as anybody would write them: one container, no retry, on the nodes that runners use."""

    namespace: str
    resource: Resource = JOBS

    def body(self, name: str) -> Body:
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "backoffLimit": 0,
                "template": {
                    "spec": {
                        "restartPolicy": "Never",
                        "nodeSelector": {"renderfleet.dev/pool-image-gen": "true"},
                        "containers": [
                            {
                                "name": "runner",
                                "image": RUNNER_IMAGE,
                                "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
                            }
                        ],
                    }
                },
            },
        }

    def verdict(self, seen: Body) -> Verdict:
        for condition in seen.get("status", {}).get("conditions") or ():
            if condition["status"] == "True" and condition["type"] in ("Complete", "Failed"):
                return "done" if condition["type"] == "Complete" else "failed"
        return None

    def is_let_go(self, seen: Body) -> bool:
        return True


_GIVEN_BY_SERVER = ("selector", "manualSelector", "completionMode", "suspend")


@dataclass(frozen=True)
class RunnerJobs(BareJobs):
    """The Jobs that renders run in, with nobody behind them: what is left against these is RenderFleet's own cost.

    They keep the label by which the chart's policy frees a runner's Job and pod of the account of their field owners, so
    in a namespace that the policy covers they are stored as small as those.
    """

    model: Body = field(default_factory=dict)
    """One that the operator made."""

    def body(self, name: str) -> Body:
        spec = copy.deepcopy(self.model["spec"])
        for key in _GIVEN_BY_SERVER:
            spec.pop(key, None)
        spec["template"]["metadata"] = {"labels": _unwatched(spec["template"]["metadata"]["labels"])}
        about = {"name": name, "namespace": self.namespace, "labels": _unwatched(self.model["metadata"]["labels"])}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": about, "spec": spec}


def _unwatched(labels: Body) -> Body:
    """The operator's labels, with another name for the one that it watches Jobs and pods by."""
    own = {key: value for key, value in labels.items() if meta.GROUP in key}
    own["bench.example/kind"] = own.pop(meta.KIND_LABEL)
    return own


def refuse_field_owners(whose: str, seen: Sequence[Body]) -> None:
    """Raises Trouble when one of them has an account of its field owners, or there is none to look at.

    The account makes an object so much dearer that two sorts of which only one has it cannot be compared.
    """
    kept = [one["metadata"]["name"] for one in seen if one["metadata"].get("managedFields")]
    if kept or not seen:
        raise Trouble(
            f"{whose}: {f'{kept[0]} has managedFields' if kept else 'there are none'}",
            "is the policy of charts/renderfleet/templates/field-owners.yaml in force, and does it match them?",
        )


@dataclass(frozen=True)
class Renders:
    """AvatarRenders of one tenant, as the API posts them: labelled, and with the finalizer on from the first moment."""

    tenant: str
    provider: str
    resource: Resource = AVATARS

    @property
    def namespace(self) -> str:
        return meta.tenant_namespace(self.tenant)

    def body(self, name: str) -> Body:
        return {
            "apiVersion": meta.API_VERSION,
            "kind": kinds.AVATAR_RENDER.kind,
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": {meta.MANAGED_BY_LABEL: meta.MANAGED_BY, meta.TENANT_LABEL: self.tenant},
                "finalizers": [meta.FINALIZER],
            },
            "spec": {
                "provider": self.provider,
                "prompt": "A friendly presenter in her forties, grey blazer, plain studio background, soft light",
                "count": 1,
            },
        }

    def verdict(self, seen: Body) -> Verdict:
        match seen.get("status", {}).get("phase"):
            case "Succeeded":
                return "done"
            case "Failed" | "DeadLettered" | "Cancelled" | "Aborted" | "Held":
                return "failed"
            case _:
                return None

    def is_let_go(self, seen: Body) -> bool:
        """Archived: our finalizer is off."""
        return meta.FINALIZER not in (seen["metadata"].get("finalizers") or ())


@dataclass
class Batch:
    """What happened to a batch. Times in seconds of `time.monotonic()`."""

    began: float
    sent: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    failed: dict[str, Body] = field(default_factory=dict)
    let_go: set[str] = field(default_factory=set)

    @property
    def seconds(self) -> float:
        """From the first request to the last end."""
        return max(self.ended.values()) - self.began

    @property
    def per_second(self) -> float:
        return len(self.ended) / self.seconds

    def latencies(self) -> list[float]:
        """Seconds from the request to the end, of each object."""
        return [self.ended[name] - sent for name, sent in self.sent.items()]


class Watcher:
    """Follows one kind of object in one namespace and hands every change to a function, the moment it arrives."""

    def __init__(self, cluster: Cluster, resource: Resource, namespace: str, see: Callable[[str, Body], None]) -> None:
        self._cluster, self._resource, self._namespace, self._see = cluster, resource, namespace, see
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Watcher:
        listing = await self._cluster.list(self._resource, self._namespace)
        self._task = asyncio.create_task(self._follow(listing.resource_version))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def check(self) -> None:
        """Raises what ended the watch, if anything did: a blind bench would report a stall that is its own."""
        if self._task and self._task.done():
            self._task.result()

    async def _follow(self, version: str) -> None:
        while True:
            try:
                async for event in self._cluster.watch(self._resource, self._namespace, resource_version=version):
                    version = event.object["metadata"]["resourceVersion"]
                    if event.type != "BOOKMARK":
                        self._see(event.type, event.object)
            except Gone:
                # Too slow to keep up: what was missed is seen in its present state.
                listing = await self._cluster.list(self._resource, self._namespace)
                for seen in listing.items:
                    self._see("MODIFIED", seen)
                version = listing.resource_version
            except Unavailable:
                await asyncio.sleep(0.2)


async def run_batch(
    cluster: Cluster, subject: Subject, names: Iterable[str], *, alive: Callable[[], None] = lambda: None
) -> Batch:
    """Create all, CONCURRENCY requests at a time, and wait until all have ended and are let go of.

    `alive` is asked now and then and raises when waiting is pointless. Raises Trouble when nothing ends for a minute, or
    when one ends badly: a rate that counts failures is no rate.
    """
    wanted = list(names)
    batch = Batch(time.monotonic())
    over = asyncio.Event()

    def see(change: str, seen: Body) -> None:
        name = seen["metadata"]["name"]
        verdict = subject.verdict(seen)
        if change == "DELETED" or verdict is None:
            return
        if name not in batch.ended:
            batch.ended[name] = time.monotonic()
            if verdict == "failed":
                batch.failed[name] = seen
        if subject.is_let_go(seen):
            batch.let_go.add(name)
        if len(batch.let_go) == len(wanted):
            over.set()

    async with Watcher(cluster, subject.resource, subject.namespace, see) as watcher:
        batch.began = time.monotonic()
        await create_all(cluster, subject, wanted, batch.sent)
        count, since = -1, time.monotonic()
        while not over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), 1)
            alive()
            watcher.check()
            if batch.failed:
                break
            if len(batch.ended) + len(batch.let_go) != count:
                count, since = len(batch.ended) + len(batch.let_go), time.monotonic()
            elif time.monotonic() - since > STALLED_AFTER_SECONDS:
                raise Trouble(
                    f"of {len(wanted)} {subject.resource.plural} {len(batch.ended)} have ended and {len(batch.let_go)} are"
                    f" let go of; nothing has moved for {STALLED_AFTER_SECONDS:.0f} s",
                    "see the operator's log in out/bench",
                )
    if batch.failed:
        example = next(iter(batch.failed.values()))
        raise Trouble(
            f"{len(batch.failed)} of {len(wanted)} {subject.resource.plural} ended badly, for example: {_why(example)}",
            "see the operator's log in out/bench",
        )
    return batch


def _why(seen: Body) -> str:
    status = seen.get("status", {})
    return (
        f"{status.get('phase', '')} {status.get('reason', '')} {status.get('message', '')}".strip() or str(status)[:300]
    )


async def create_all(cluster: Cluster, subject: Subject, names: Iterable[str], sent: dict[str, float]) -> None:
    """POST them all, CONCURRENCY at a time; `sent` gets the moment before the first try of each.

    A quota that cannot be charged just now is asked again, as every client must: its object is written by many.
    """

    async def create(name: str) -> None:
        sent[name] = time.monotonic()
        while True:
            try:
                await cluster.create(subject.resource, subject.body(name), subject.namespace)
            except (QuotaNotReady, TooManyRequests):
                await asyncio.sleep(0.05)
            else:
                return

    await in_parallel(create, names)


async def in_parallel(
    do: Callable[[str], Awaitable[None]], names: Iterable[str], concurrency: int = CONCURRENCY
) -> None:
    """Do it for every name, so many at a time; the first error ends it all."""
    waiting = iter(names)

    async def worker() -> None:
        for name in waiting:
            await do(name)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())


async def remove_all(cluster: Cluster, resource: Resource, namespace: str) -> float:
    """Delete every object of a kind in a namespace and wait until the pods are gone too; returns the seconds it took."""
    begin = time.monotonic()

    async def delete(name: str) -> None:
        with suppress(NotFound):
            await cluster.delete(resource, name, namespace)

    for one in (resource, JOBS):
        names = [item["metadata"]["name"] for item in (await cluster.list(one, namespace)).items]
        await in_parallel(delete, names, 40)
    while await _is_any(cluster, PODS, namespace) or await _is_any(cluster, resource, namespace):
        await asyncio.sleep(0.5)
    return time.monotonic() - begin


async def _is_any(cluster: Cluster, resource: Resource, namespace: str) -> bool:
    """Whether a namespace has any object of a kind: asks for one, since a list of thousands would be load of its own."""
    async for page in cluster.pages(resource, namespace, page=1):
        return bool(page.items)
    return False
