"""Take in what watches, lists and our own writes bring: into the cache, and a key onto the queue.

What happened does not matter, only what is: an ADDED and a MODIFIED are the same news. A list also shows what a watch
missed: objects that are newer than we knew, and objects that are no more.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from renderfleet_client.cluster import Cluster
from renderfleet_client.resources import JOBS, PODS, RESOURCE_QUOTAS, Resource
from renderfleet_crds import meta
from renderfleet_crds.kinds import RENDER_PROVIDER, RENDER_TENANT, RENDERS, VIDEO_RENDER

from .archive import Archive
from .cache import Cache, Key
from .children.tenant import namespace_of
from .clock import Clock
from .decide.video import needs
from .decide.view import Render
from .fleet import Fleet
from .metrics import Metrics
from .queue import WorkQueue

Body = dict[str, Any]

ADMISSION: Final = Key("Admission", "", "")
PLACES: Final = Key("Places", "", "")
ENDED_PODS: Final = "status.phase!=Pending,status.phase!=Running,status.phase!=Unknown"
"""Field selector: a pod comes into the watch when it ends, so that its start and its probes cost us nothing."""
OURS: Final = meta.KIND_LABEL
"""Label selector of runner Jobs and pods."""
TENANTS_OWN: Final = meta.TENANT_LABEL
"""Label selector of tenants' quotas."""
_RENDER_KINDS: Final = frozenset(kind.kind for kind in RENDERS)


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of object that we follow."""

    kind: str
    resource: Resource
    label_selector: str | None = None
    field_selector: str | None = None

    @property
    def is_ours(self) -> bool:
        """True for a custom resource of our own."""
        return self.resource.group == meta.GROUP


PAGE: Final = 200
"""Objects that a listing holds at a time: ended pods are large, and those of thousands of Jobs stay for a while."""
SOURCES: Final = (
    Source(RENDER_TENANT.kind, Resource.of(RENDER_TENANT)),
    Source(RENDER_PROVIDER.kind, Resource.of(RENDER_PROVIDER)),
    Source("ResourceQuota", RESOURCE_QUOTAS, TENANTS_OWN),
    Source("Job", JOBS, OURS),
    Source("Pod", PODS, OURS, ENDED_PODS),
    *(Source(kind.kind, Resource.of(kind)) for kind in RENDERS),
)
"""In the order in which they are listed: a render is looked at when what it needs is known."""


@dataclass(slots=True)
class Intake:
    """The one way in."""

    cache: Cache
    fleet: Fleet
    queue: WorkQueue
    archive: Archive
    metrics: Metrics
    clock: Clock
    dependents: dict[Key, set[Key]] = field(default_factory=dict)
    forget_render: Callable[[str], None] = lambda uid: None
    listed_at: dict[str, str] = field(default_factory=dict)
    """The version of the latest list, by kind: a watch may go on from it."""
    heard_at: dict[str, float] = field(default_factory=dict)
    """When a watch last told something, or a list last proved that it had nothing to tell, by kind (monotonic)."""

    def alive(self, kind: str) -> None:
        """A watch shows that it lives, without news."""
        self.heard_at[kind] = self.clock.monotonic()

    def heard(self, kind: str, event: str | None, body: Body) -> None:
        """A watch tells something."""
        self.alive(kind)
        if event == "DELETED":
            self.deleted(kind, body)
        else:
            self.seen(kind, body)

    def seen(self, kind: str, body: Body) -> bool:
        """This object is like this; True when that was news."""
        match kind:
            case "Job":
                news = self.cache.put_job(body)
                if news is not None and news.matters:
                    self._put_render_of(news.render_uid)
                return news is not None
            case "Pod":
                uid = self.cache.put_pod(body)
                self._put_render_of(uid)
                return uid is not None
            case "ResourceQuota":
                if self.cache.put_quota(body):
                    self.fleet.wake()
                    return True
                return False
            case RENDER_TENANT.kind:
                is_new = body["metadata"]["name"] not in self.cache.tenants
                if self.cache.put_tenant(body):
                    if is_new:
                        namespace = namespace_of(body)
                        self._put_live(lambda render: render.namespace == namespace)
                    self.queue.put(Key(kind, "", body["metadata"]["name"]))
                    self.fleet.wake()
                    return True
                return False
            case RENDER_PROVIDER.kind:
                name = body["metadata"]["name"]
                is_new = name not in self.cache.providers
                if self.cache.put_provider(body):
                    self.fleet.provider_seen(body)
                    if is_new:
                        self._put_live(lambda render: name in render.providers)
                    self.queue.put(Key(kind, "", name))
                    return True
                return False
            case _:
                body.setdefault("kind", kind)
                body.setdefault("apiVersion", meta.API_VERSION)
                return self.cache.put_render(body) is not None

    def deleted(self, kind: str, body: Body) -> None:
        """This object is no more."""
        about = body["metadata"]
        match kind:
            case "Job":
                self._put_render_of(self.cache.remove_job(body))
            case "Pod":
                pass  # how it ended is still true
            case "ResourceQuota":
                if about["name"] == meta.QUOTA_NAME:
                    self.cache.quotas.pop(about["namespace"], None)
                    if tenant := self.cache.tenant_of.get(about["namespace"]):
                        self.queue.put(Key(RENDER_TENANT.kind, "", tenant))
            case RENDER_TENANT.kind:
                self.cache.remove_tenant(about["name"])
            case RENDER_PROVIDER.kind:
                self.cache.providers.pop(about["name"], None)
                self.fleet.provider_gone(about["name"])
            case _:
                key = Key(kind, about["namespace"], about["name"])
                self._render_gone(key, body)

    def _render_gone(self, key: Key, body: Body) -> None:
        uid = body["metadata"]["uid"]
        body.setdefault("kind", key.kind)
        self.archive.offer(body, deleted=True)
        self.archive.forget(uid)
        self.forget_render(uid)
        if self.cache.remove_render(key, uid):
            self.queue.forget(key)

    def _put_live(self, lacked: Callable[[Render], bool]) -> None:
        """What they lacked is there: until now they stood in no lane, so no admission pass finds them."""
        for key, body in self.cache.live():
            if lacked(Render(body)):
                self.queue.put(key)

    def _put_render_of(self, uid: str | None) -> None:
        key = self.cache.key_of(uid) if uid is not None else None
        if key is not None:
            self.queue.put(key, urgent=True)

    def render_changed(self, key: Key, old: Body | None, new: Body | None) -> None:
        """The cache has another state of a render, be it from a watch or from a write of ours.

        The books and the archive follow; it is looked at again, and so are those who wait for it.
        """
        self.fleet.render_changed(key, old, new)
        if new is not None:
            self.queue.put(key)
        if new is not None and (self.fleet.is_ready or not _is_let_go(new)) and _reads_other(new, old):
            self.archive.offer(new)
        for waiting in self.dependents.get(key, ()):
            self.queue.put(waiting)
        if key.kind == VIDEO_RENDER.kind and (new is None or Render(new).is_finished):
            self._waits_no_more(key, new or old or {})

    def _waits_no_more(self, key: Key, body: Body) -> None:
        """A video needs nobody any more; redriven, it says anew whom."""
        for kind, name in needs(Render(body)).values():
            other = Key(kind, key.namespace, name)
            if waiting := self.dependents.get(other):
                waiting.discard(key)
                if not waiting:
                    del self.dependents[other]

    async def list_all(self, cluster: Cluster) -> None:
        """List everything; what a watch missed is mended, what is gone is forgotten. Raises ApiError."""
        for source in SOURCES:
            self.listed_at[source.kind] = await self.list_one(cluster, source)

    async def list_one(self, cluster: Cluster, source: Source) -> str:
        """As `list_all`, for one kind; comes back with the version of the list."""
        there: set[tuple[str, str]] = set()
        version, repairs = 0, 0
        pages = cluster.pages(
            source.resource, label_selector=source.label_selector, field_selector=source.field_selector, page=PAGE
        )
        async for page in pages:
            version = int(page.resource_version)
            for body in page.items:
                about = body["metadata"]
                there.add((about.get("namespace", ""), about["name"]))
                repairs += self.seen(source.kind, body)
        repairs += self._sweep(source.kind, there, version)
        if not self.fleet.is_ready or not repairs:
            self.heard_at[source.kind] = self.clock.monotonic()
        elif repairs:
            self.metrics.resync_repairs.labels(source.kind).inc(repairs)
        return str(version)

    def _sweep(self, kind: str, there: set[tuple[str, str]], version: int) -> int:
        """Forget what the list of that version does not show."""
        gone: list[Body] = []
        match kind:
            case "Job":
                gone = [
                    job
                    for job in self.cache.all_jobs()
                    if (job["metadata"]["namespace"], job["metadata"]["name"]) not in there
                    and int(job["metadata"]["resourceVersion"]) <= version
                ]
            case "Pod":
                return 0
            case "ResourceQuota":
                gone = _absent(self.cache.quotas.values(), there, version)
            case RENDER_TENANT.kind:
                gone = _absent(self.cache.tenants.values(), there, version)
            case RENDER_PROVIDER.kind:
                gone = _absent(self.cache.providers.values(), there, version)
            case _:
                for key in self.cache.render_keys():
                    known = self.cache.version(key)
                    if key.kind != kind or known is None or known[1] > version:
                        continue
                    if (key.namespace, key.name) not in there and (body := self.cache.render(key)):
                        gone.append(body)
        for body in gone:
            self.deleted(kind, body)
        return len(gone)

    def ages(self) -> dict[str, float]:
        """Seconds since each watch was heard, or proved to have nothing to say."""
        now = self.clock.monotonic()
        return {kind: now - at for kind, at in self.heard_at.items()}


def _absent(known: Any, there: set[tuple[str, str]], version: int) -> list[Body]:
    return [
        body
        for body in list(known)
        if (body["metadata"].get("namespace", ""), body["metadata"]["name"]) not in there
        and int(body["metadata"]["resourceVersion"]) <= version
    ]


def _reads_other(new: Body, old: Body | None) -> bool:
    """The archive would show something else than before: a finalizer, for one, is nothing to it.

    Unless it is on what was let go of again, for a redrive: that waits to hear that the end is stored.
    """
    if old is None or (_is_let_go(old) and not _is_let_go(new)):
        return True
    about, before = new["metadata"], old["metadata"]
    return (
        new.get("status") != old.get("status")
        or new.get("spec") != old.get("spec")
        or about.get("labels") != before.get("labels")
    )


def _is_let_go(body: Body) -> bool:
    """Finished and let go of as archived; without the stamp it was let go of because the archive did not answer in time."""
    about = body["metadata"]
    is_finished = bool((body.get("status") or {}).get("finishedAt"))
    is_stamped = meta.ARCHIVED_ANNOTATION in (about.get("annotations") or {})
    return is_finished and is_stamped and meta.FINALIZER not in (about.get("finalizers") or ())
