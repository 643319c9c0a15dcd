"""Kubernetes Events about renders: a story for `kubectl describe`. Best effort, few, and nothing depends on them."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import structlog

from renderfleet_client.cluster import Cluster
from renderfleet_client.errors import ApiError
from renderfleet_client.resources import EVENTS
from renderfleet_crds import meta

from .clock import Clock, chance_of
from .decide.actions import Note
from .times import whole_seconds

log = structlog.get_logger(__name__)

COMPONENT = "renderfleet-operator"
WAITING_MOST = 200
PER_SECOND = 5.0
AGAIN_SECONDS = 300.0
"""The same thing about the same render within this time is counted on the Event that is there."""


@dataclass(slots=True)
class _Told:
    name: str
    count: int
    at: float


@dataclass(slots=True)
class Events:
    """Posts Events in the background; drops what comes too fast."""

    cluster: Cluster
    clock: Clock
    dropped: int = 0
    _waiting: OrderedDict[tuple[str, str, str], tuple[dict[str, Any], Note]] = field(default_factory=OrderedDict)
    _told: OrderedDict[tuple[str, str, str], _Told] = field(default_factory=OrderedDict)
    _something: asyncio.Event = field(default_factory=asyncio.Event)

    def post(self, body: dict[str, Any], note: Note) -> None:
        """Tell something about a render, soon or never."""
        mark = (body["metadata"]["uid"], note.reason, note.message)
        if mark in self._waiting:
            return
        if len(self._waiting) >= WAITING_MOST:
            self.dropped += 1
            return
        self._waiting[mark] = (body, note)
        self._something.set()

    async def run(self) -> None:
        """Post what is told, until cancelled."""
        while True:
            self._something.clear()
            if not self._waiting:
                await self._something.wait()
            mark, (body, note) = self._waiting.popitem(last=False)
            try:
                await self._send(mark, body, note)
            except ApiError as refused:
                self.dropped += 1
                log.debug("event not posted", reason=note.reason, error=str(refused)[:200])
            await asyncio.sleep(1 / PER_SECOND)

    async def _send(self, mark: tuple[str, str, str], body: dict[str, Any], note: Note) -> None:
        about = body["metadata"]
        now = self.clock.now()
        namespace = about.get("namespace") or "default"
        told = self._told.get(mark)
        if told is not None and now - told.at < AGAIN_SECONDS:
            told.count += 1
            told.at = now
            patch = {"count": told.count, "lastTimestamp": whole_seconds(now)}
            await self.cluster.patch(EVENTS, told.name, patch, namespace)
            return
        name = f"{about['name'][:220]}.{int(chance_of(*mark, now) * 16**13):013x}"
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": body.get("apiVersion") or meta.API_VERSION,
                "kind": body["kind"],
                "name": about["name"],
                "uid": about["uid"],
                "resourceVersion": about.get("resourceVersion"),
                **({"namespace": about["namespace"]} if about.get("namespace") else {}),
            },
            "reason": note.reason,
            "message": note.message[:1024],
            "type": "Warning" if note.warning else "Normal",
            "count": 1,
            "firstTimestamp": whole_seconds(now),
            "lastTimestamp": whole_seconds(now),
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": COMPONENT,
        }
        await self.cluster.create(EVENTS, event, namespace)
        self._told[mark] = _Told(name, 1, now)
        while len(self._told) > 1000:
            self._told.popitem(last=False)
