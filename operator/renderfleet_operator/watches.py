"""Follow what Kubernetes itself keeps for us, Jobs, pods and quotas, line by line from the API server's watches.

Our own kinds are followed by kopf (handlers.py). Of a runner there is about three times as much news, and kopf makes a
task, a memory and several views of the object for each piece of it, more than all that we do with it: see
docs/decisions/0006. Here a line of a watch is one call.

the version is too old    listed anew: what was missed is mended, what is no more is forgotten
nothing for 70 s, or cut  again from the last version
refused, or no answer     likewise, after a pause that grows
"""

import asyncio
import random
from dataclasses import dataclass

import structlog

from renderfleet_client.cluster import Cluster
from renderfleet_client.errors import ApiError, Gone

from .intake import SOURCES, Intake, Source
from .metrics import Metrics

log = structlog.get_logger(__name__)

SERVER_TIMEOUT_SECONDS = 300
INACTIVITY_SECONDS = 70.0
"""Bookmarks come every minute at the latest; a watch without any is dead."""
RECONNECT_SECONDS = 0.1
"""After the server has ended a watch in good order, so that one that always ends at once costs little."""
LONGEST_PAUSE_SECONDS = 15.0


@dataclass(slots=True)
class Watches:
    """One watch for each kind that is not ours."""

    cluster: Cluster
    intake: Intake
    metrics: Metrics

    async def run(self) -> None:
        """Follow, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for source in SOURCES:
                if not source.is_ours:
                    group.create_task(self._follow(source), name=f"watch-{source.kind}")

    async def _follow(self, source: Source) -> None:
        version: str | None = self.intake.listed_at.get(source.kind)
        failures = 0
        while True:
            try:
                if version is None:
                    version = await self.intake.list_one(self.cluster, source)
                async for event in self.cluster.watch(
                    source.resource,
                    resource_version=version,
                    label_selector=source.label_selector,
                    field_selector=source.field_selector,
                    timeout_seconds=SERVER_TIMEOUT_SECONDS,
                    inactivity_seconds=INACTIVITY_SECONDS,
                ):
                    failures = 0
                    version = event.object["metadata"]["resourceVersion"]
                    if event.type == "BOOKMARK":
                        self.intake.alive(source.kind)
                    else:
                        self.intake.heard(source.kind, event.type, event.object)
                await asyncio.sleep(RECONNECT_SECONDS)
            except ApiError as failed:
                if isinstance(failed, Gone):
                    version = None
                failures += 1
                pause = min(LONGEST_PAUSE_SECONDS, 0.1 * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
                self.metrics.watch_restarts.inc()
                log.info("a watch ended", resource=source.kind, error=str(failed)[:300], again_in=round(pause, 2))
                await asyncio.sleep(pause)
