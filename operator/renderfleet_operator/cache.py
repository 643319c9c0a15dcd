"""What the cluster looks like, from watches and lists and the answers to our own writes.

An object is replaced only by a newer one: our own write's answer goes in at once, and the watch's echo of an older
state cannot undo it (resourceVersions of one kind are ordered numbers, KEP-5504). A deleted object's UID is remembered
for a while, so that late news cannot bring it back.

Finished renders are many and rarely asked for: they are kept packed, and their runners not at all.
"""

import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from renderfleet_crds import meta
from renderfleet_crds.phases import FINAL, Phase

from .children.job import looks_other
from .children.tenant import namespace_of

Body = dict[str, Any]
_TOMBSTONES = 20_000


class Key(NamedTuple):
    """An object of the cluster that we look after."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class PodEnd:
    """How a runner's pod ended."""

    pod: str
    job_uid: str
    message: str
    """Its termination message."""
    exit_code: int | None
    reason: str
    """The container's or the pod's reason: Completed, Error, OOMKilled, Evicted …"""
    is_disrupted: bool = False


class JobNews(NamedTuple):
    """A newer state of a runner Job."""

    render_uid: str
    matters: bool
    """It tells something that decisions ask for."""


RenderChanged = Callable[[Key, "Body | None", "Body | None"], None]


@dataclass(slots=True)
class Cache:
    """All that is known. Reads are plain dictionary look-ups; nothing in it may be changed in place."""

    on_render: RenderChanged = lambda key, old, new: None
    tenants: dict[str, Body] = field(default_factory=dict)
    providers: dict[str, Body] = field(default_factory=dict)
    quotas: dict[str, Body] = field(default_factory=dict)
    """By namespace."""
    tenant_of: dict[str, str] = field(default_factory=dict)
    """Tenant by namespace."""
    _live: dict[Key, Body] = field(default_factory=dict)
    _finished: dict[Key, bytes] = field(default_factory=dict)
    """Packed: whole again when somebody asks, which is seldom."""
    _finished_as: dict[Key, str] = field(default_factory=dict)
    """The phase of each of those."""
    _versions: dict[Key, tuple[str, int]] = field(default_factory=dict)
    _by_uid: dict[str, Key] = field(default_factory=dict)
    _jobs: dict[str, dict[str, Body]] = field(default_factory=dict)
    """By the render's UID, then by the Job's name."""
    _pod_ends: dict[str, dict[str, PodEnd]] = field(default_factory=dict)
    """By the Job's UID, then by the pod's name."""
    _gone: OrderedDict[str, None] = field(default_factory=OrderedDict)

    # Renders

    def render(self, key: Key) -> Body | None:
        """The render, or None."""
        body = self._live.get(key)
        if body is not None:
            return body
        packed = self._finished.get(key)
        return _unpacked(packed) if packed is not None else None

    def key_of(self, uid: str) -> Key | None:
        """Which render has that UID."""
        return self._by_uid.get(uid)

    def version(self, key: Key) -> tuple[str, int] | None:
        """(UID, resourceVersion) of what is cached."""
        return self._versions.get(key)

    def live(self) -> Iterator[tuple[Key, Body]]:
        """All renders that are not at an end."""
        return iter(list(self._live.items()))

    def render_keys(self) -> list[Key]:
        """All renders."""
        return [*self._live, *self._finished]

    def kinds_and_phases(self) -> Iterator[tuple[str, str]]:
        """(kind, phase) of every render."""
        for key, body in list(self._live.items()):
            yield key.kind, (body.get("status") or {}).get("phase") or Phase.QUEUED.value
        for key, phase in list(self._finished_as.items()):
            yield key.kind, phase

    def __len__(self) -> int:
        return len(self._live) + len(self._finished)

    def put_render(self, body: Body) -> Key | None:
        """Take in a render; its key when that was news."""
        about = body["metadata"]
        uid, version = about["uid"], int(about["resourceVersion"])
        key = Key(body["kind"], about["namespace"], about["name"])
        if uid in self._gone:
            return None
        known = self._versions.get(key)
        if known is not None:
            if known[0] == uid and known[1] >= version:
                return None
            if known[0] != uid and known[1] > version:
                return None  # news of an object that was deleted and made again since
        old = self.render(key)
        if known is not None and known[0] != uid:
            self._drop(key, known[0])
            self.on_render(key, old, None)
            old = None
        about.pop("managedFields", None)
        self._versions[key] = (uid, version)
        self._by_uid[uid] = key
        if (body.get("status") or {}).get("phase") in FINAL_WORDS and "deletionTimestamp" not in about:
            self._live.pop(key, None)
            self._finished[key] = _packed(body)
            self._finished_as[key] = body["status"]["phase"]
            for job in self._jobs.pop(uid, {}).values():
                self._pod_ends.pop(job["metadata"]["uid"], None)
        else:
            self._finished.pop(key, None)
            self._finished_as.pop(key, None)
            self._live[key] = body
        self.on_render(key, old, body)
        return key

    def remove_render(self, key: Key, uid: str) -> bool:
        """Forget a render that is gone; False when the name belongs to another one by now."""
        self._bury(uid)
        known = self._versions.get(key)
        if known is None or known[0] != uid:
            return False
        old = self.render(key)
        self._drop(key, uid)
        self.on_render(key, old, None)
        return True

    def _drop(self, key: Key, uid: str) -> None:
        self._live.pop(key, None)
        self._finished.pop(key, None)
        self._finished_as.pop(key, None)
        self._versions.pop(key, None)
        self._by_uid.pop(uid, None)

    def _bury(self, uid: str) -> None:
        self._gone[uid] = None
        while len(self._gone) > _TOMBSTONES:
            self._gone.popitem(last=False)

    # Jobs and their pods

    def job(self, render_uid: str, name: str) -> Body | None:
        """A runner Job, without its template."""
        return self._jobs.get(render_uid, {}).get(name)

    def all_jobs(self) -> list[Body]:
        """All runner Jobs."""
        return [job for jobs in self._jobs.values() for job in jobs.values()]

    def put_job(self, body: Body) -> JobNews | None:
        """Take in a runner Job; None when it was known to be like this, or newer."""
        about = body["metadata"]
        render_uid = (about.get("labels") or {}).get(meta.UID_LABEL)
        if render_uid is None or about["uid"] in self._gone or self._has_ended(render_uid):
            return None
        jobs = self._jobs.setdefault(render_uid, {})
        known = jobs.get(about["name"])
        if known is not None and int(known["metadata"]["resourceVersion"]) >= int(about["resourceVersion"]):
            return None
        made = jobs[about["name"]] = {
            "metadata": {key: about[key] for key in _JOB_METADATA if key in about},
            "status": body.get("status") or {},
        }
        return JobNews(str(render_uid), known is None or looks_other(made, known))

    def remove_job(self, body: Body) -> str | None:
        """Forget a Job that is gone; the UID of its render."""
        about = body["metadata"]
        self._bury(about["uid"])
        self._pod_ends.pop(about["uid"], None)
        render_uid = str((about.get("labels") or {}).get(meta.UID_LABEL))
        jobs = self._jobs.get(render_uid, {})
        known = jobs.get(about["name"])
        if known is None or known["metadata"]["uid"] != about["uid"]:
            return None
        del jobs[about["name"]]
        if not jobs:
            self._jobs.pop(render_uid, None)
        return render_uid

    def pod_ends(self, job_uid: str) -> list[PodEnd]:
        """How the pods of a Job ended, as far as they have."""
        return list(self._pod_ends.get(job_uid, {}).values())

    def put_pod(self, body: Body) -> str | None:
        """Take in a runner's pod that has ended; the UID of its render when that was news."""
        end = pod_end(body)
        render_uid = str((body["metadata"].get("labels") or {}).get(meta.UID_LABEL))
        if end is None or self._has_ended(render_uid):
            return None
        ends = self._pod_ends.setdefault(end.job_uid, {})
        if ends.get(end.pod) == end:
            return None
        ends[end.pod] = end
        return render_uid

    def _has_ended(self, render_uid: str) -> bool:
        """The render is at an end: its runners are nothing to it any more, and those of thousands would be much."""
        return self._by_uid.get(render_uid) in self._finished

    # Tenants, providers, quotas

    def put_tenant(self, body: Body) -> bool:
        """Take in a RenderTenant; True when that was news."""
        if not _newer(body, self.tenants):
            return False
        name = body["metadata"]["name"]
        self.tenants[name] = body
        self.tenant_of[namespace_of(body)] = name
        return True

    def remove_tenant(self, name: str) -> None:
        """Forget a RenderTenant."""
        body = self.tenants.pop(name, None)
        if body is not None and self.tenant_of.get(namespace_of(body)) == name:
            del self.tenant_of[namespace_of(body)]

    def put_provider(self, body: Body) -> bool:
        """Take in a RenderProvider; True when that was news."""
        if not _newer(body, self.providers):
            return False
        self.providers[body["metadata"]["name"]] = body
        return True

    def put_quota(self, body: Body) -> bool:
        """Take in a tenant's ResourceQuota; True when that was news."""
        if body["metadata"]["name"] != meta.QUOTA_NAME:
            return False
        namespace = body["metadata"]["namespace"]
        known = self.quotas.get(namespace)
        if known is not None and int(known["metadata"]["resourceVersion"]) >= int(body["metadata"]["resourceVersion"]):
            return False
        body["metadata"].pop("managedFields", None)
        self.quotas[namespace] = body
        return True


FINAL_WORDS = frozenset(Phase(one).value for one in FINAL)
_JOB_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "labels",
    "ownerReferences",
    "creationTimestamp",
    "deletionTimestamp",
)


def _packed(body: Body) -> bytes:
    """Compressed: JSON alone would stay in the large buffers that it was written to, several times its size."""
    return zlib.compress(orjson.dumps(body), 1)


def _unpacked(packed: bytes) -> Body:
    body: Body = orjson.loads(zlib.decompress(packed))
    return body


def _newer(body: Body, known: dict[str, Body]) -> bool:
    about = body["metadata"]
    about.pop("managedFields", None)
    old = known.get(about["name"])
    return old is None or int(old["metadata"]["resourceVersion"]) < int(about["resourceVersion"])


def pod_end(body: Body) -> PodEnd | None:
    """How a pod ended; None while it has not, or when it is no runner's."""
    about, status = body["metadata"], body.get("status") or {}
    if status.get("phase") not in ("Succeeded", "Failed"):
        return None
    job_uid = next((one["uid"] for one in about.get("ownerReferences") or () if one.get("kind") == "Job"), None)
    if job_uid is None:
        return None
    ended: Body = {}
    for container in status.get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated") or {}
    disrupted = any(
        one.get("type") == "DisruptionTarget" and one.get("status") == "True" for one in status.get("conditions") or ()
    )
    return PodEnd(
        pod=about["name"],
        job_uid=job_uid,
        message=ended.get("message") or "",
        exit_code=ended.get("exitCode"),
        reason=status.get("reason") or ended.get("reason") or "",
        is_disrupted=disrupted,
    )
