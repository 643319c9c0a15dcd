"""Kubernetes Events about renders: a story for `kubectl describe`. Best effort, few, and nothing depends on them.

A render has one Event per reason: what is told again is counted there, with the latest words, also by the next operator.
Few are posted per second. What a render tells for the first time goes first, the newest before all: who looks at a render
looks at what has just happened. When too many wait, repetitions are dropped first, then the oldest.
"""

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import structlog

from renderfleet_client.cluster import Cluster
from renderfleet_client.errors import AlreadyExists, ApiError, NotFound
from renderfleet_client.resources import EVENTS
from renderfleet_crds import meta

from .clock import Clock
from .decide.actions import Note
from .times import whole_seconds

log = structlog.get_logger(__name__)

Body = dict[str, Any]
Mark = tuple[str, str]
"""(UID of the render, reason)."""

COMPONENT = "renderfleet-operator"
WAITING_MOST = 500
PER_SECOND = 5.0
BURST = 20.0
"""Posted at once after a quiet time."""
_REMEMBERED = 2000


@dataclass(slots=True)
class _Waiting:
    """What is to be told about one render for one reason."""

    about: Body
    """The Event's involvedObject."""
    note: Note
    first: float
    last: float
    count: int = 1


@dataclass(slots=True)
class Events:
    """Posts Events in the background; drops what comes too fast."""

    cluster: Cluster
    clock: Clock
    dropped: int = 0
    _fresh: OrderedDict[Mark, _Waiting] = field(default_factory=OrderedDict)
    _repeated: OrderedDict[Mark, _Waiting] = field(default_factory=OrderedDict)
    _told: OrderedDict[Mark, int] = field(default_factory=OrderedDict)
    """How often each was told, as its Event says."""
    _something: asyncio.Event = field(default_factory=asyncio.Event)

    def post(self, body: Body, note: Note) -> None:
        """Tell something about a render, soon or never."""
        mark = (body["metadata"]["uid"], note.reason)
        lane = self._repeated if mark in self._told else self._fresh
        now = self.clock.now()
        if known := lane.get(mark):
            known.note, known.last, known.count = note, now, known.count + 1
        else:
            lane[mark] = _Waiting(_involved(body), note, now, now)
        if len(self) > WAITING_MOST:
            (self._repeated or self._fresh).popitem(last=False)
            self.dropped += 1
        self._something.set()

    def __len__(self) -> int:
        return len(self._fresh) + len(self._repeated)

    async def run(self) -> None:
        """Post what is told, until cancelled."""
        tokens, at = BURST, self.clock.monotonic()
        while True:
            self._something.clear()
            if not len(self):
                await self._something.wait()
            now = self.clock.monotonic()
            tokens, at = min(BURST, tokens + (now - at) * PER_SECOND), now
            if tokens < 1:
                await asyncio.sleep((1 - tokens) / PER_SECOND)
                continue
            tokens -= 1
            await self.post_next()

    async def post_next(self) -> None:
        """Post the one that is next; what the API server refuses is dropped."""
        mark, told = self._fresh.popitem() if self._fresh else self._repeated.popitem(last=False)
        try:
            count = await self._send(mark, told)
        except ApiError as refused:
            self.dropped += 1
            log.debug("event not posted", reason=mark[1], error=str(refused)[:200])
            return
        self._told.pop(mark, None)
        self._told[mark] = count
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)

    async def _send(self, mark: Mark, told: _Waiting) -> int:
        """Count it on the Event that is there, or create one; comes back with what the Event counts then."""
        namespace = told.about.get("namespace") or "default"
        name = _name(told.about["name"], mark)
        counted = self._told.get(mark)
        if counted is None:
            try:
                await self.cluster.create(EVENTS, _event(name, namespace, told), namespace)
                return told.count
            except AlreadyExists:  # by an operator before this one
                counted = int((await self.cluster.get(EVENTS, name, namespace)).get("count") or 1)
        count = counted + told.count
        try:
            await self.cluster.patch(EVENTS, name, {"count": count, **_words(told)}, namespace)
        except NotFound:  # the API server forgets Events, after an hour as a rule
            await self.cluster.create(EVENTS, _event(name, namespace, told), namespace)
            return told.count
        return count


def _involved(body: Body) -> Body:
    about = body["metadata"]
    return {
        "apiVersion": body.get("apiVersion") or meta.API_VERSION,
        "kind": body["kind"],
        "name": about["name"],
        "uid": about["uid"],
        "resourceVersion": about.get("resourceVersion"),
        **({"namespace": about["namespace"]} if about.get("namespace") else {}),
    }


def _name(render: str, mark: Mark) -> str:
    """The same for the same render and reason, so that an operator finds what its predecessor told."""
    return f"{render[:220]}.{hashlib.sha256(chr(0).join(mark).encode()).hexdigest()[:16]}"


def _words(told: _Waiting) -> Body:
    """What a repetition changes."""
    return {
        "message": told.note.message[:1024],
        "type": "Warning" if told.note.warning else "Normal",
        "lastTimestamp": whole_seconds(told.last),
    }


def _event(name: str, namespace: str, told: _Waiting) -> Body:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": told.about,
        "reason": told.note.reason,
        **_words(told),
        "count": told.count,
        "firstTimestamp": whole_seconds(told.first),
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT,
    }
