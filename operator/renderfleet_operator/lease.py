"""One operator at a time, by a Lease. It is no fence: what keeps two from doing harm are the preconditions of every write.

A lease that was lost means that another one leads already: the process ends rather than guess what it may still do.
"""

import asyncio
import os
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from renderfleet_client.cluster import Cluster
from renderfleet_client.errors import AlreadyExists, ApiError, Conflict, NotFound
from renderfleet_client.resources import LEASES

from .clock import Clock
from .errors import LostLease

log = structlog.get_logger(__name__)

Body = dict[str, Any]

GIVEN_UP_AFTER = 0.8
"""Of a lease's time without a renewal. A little before others may take it: from then on two could lead."""


def identity_of_process() -> str:
    """Unique per process: a restarted container is another holder than its predecessor."""
    return f"{socket.gethostname()}_{os.getpid()}_{os.urandom(3).hex()}"


@dataclass(slots=True)
class Lease:
    """The right to lead."""

    cluster: Cluster
    clock: Clock
    namespace: str
    name: str
    seconds: int
    identity: str = field(default_factory=identity_of_process)
    is_held: bool = False
    _renewed_at: float = 0.0
    _seen: tuple[str, float] | None = None
    """What another holder's lease looked like, and since when (monotonic): clocks of two machines are never compared."""

    async def acquire(self) -> None:
        """Wait until it is ours."""
        waiting = False
        while not await self._try():
            if not waiting:
                log.info("another operator leads; standing by", lease=self.name)
                waiting = True
            await asyncio.sleep(min(2.0, self.seconds / 5))
        log.info("leading", lease=self.name, identity=self.identity)

    async def _try(self) -> bool:
        began = self.clock.monotonic()
        try:
            try:
                lease = await self.cluster.get(LEASES, self.name, self.namespace)
            except NotFound:
                body = {
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": {"name": self.name, "namespace": self.namespace},
                    "spec": self._spec(0),
                }
                await self.cluster.create(LEASES, body, self.namespace)
            else:
                if not self._is_free(lease):
                    return False
                transitions = int((lease.get("spec") or {}).get("leaseTransitions") or 0) + 1
                await self.cluster.replace(
                    LEASES, self.name, {**lease, "spec": self._spec(transitions)}, self.namespace
                )
        except (Conflict, AlreadyExists):
            return False
        except ApiError as failed:
            log.warning("the lease cannot be had yet", error=str(failed)[:200])
            return False
        self.is_held = True
        self._renewed_at = began
        return True

    def _is_free(self, lease: Body) -> bool:
        spec = lease.get("spec") or {}
        if not spec.get("holderIdentity") or spec["holderIdentity"] == self.identity:
            return True
        mark = f"{spec['holderIdentity']} {spec.get('renewTime')}"
        now = self.clock.monotonic()
        if self._seen is None or self._seen[0] != mark:
            self._seen = (mark, now)
            return False
        return now - self._seen[1] > float(spec.get("leaseDurationSeconds") or self.seconds)

    async def keep(self) -> None:
        """Renew it for as long as it can be, and end in time when it cannot: an answer may never come. Raises LostLease."""
        pause = self.seconds / 3
        while True:
            await asyncio.sleep(pause)
            try:
                async with asyncio.timeout(self._left()):
                    await self._renew()
                pause = self.seconds / 3
            except LostLease:
                self.is_held = False
                raise
            except (ApiError, TimeoutError) as failed:
                left = self._left()
                error = str(failed)[:200] or "no answer"
                log.warning("the lease was not renewed", error=error, seconds_left=round(left, 1))
                if left <= 0:
                    self.is_held = False
                    raise LostLease(f"not renewed in time: {error}") from failed
                pause = min(left, self.seconds / 10)

    def _left(self) -> float:
        """Seconds until it counts as lost."""
        return self._renewed_at + GIVEN_UP_AFTER * self.seconds - self.clock.monotonic()

    async def _renew(self) -> None:
        began = self.clock.monotonic()  # others count from when it is written, which may be long before its answer
        lease = await self.cluster.get(LEASES, self.name, self.namespace)
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") != self.identity:
            raise LostLease(f"{spec.get('holderIdentity') or 'nobody'} holds the lease")
        patch = {
            "metadata": {"resourceVersion": lease["metadata"]["resourceVersion"]},
            "spec": {"renewTime": _micro_time()},
        }
        await self.cluster.patch(LEASES, self.name, patch, self.namespace)
        self._renewed_at = began

    async def release(self) -> None:
        """Give it back, so that the next one need not wait. Best effort."""
        if not self.is_held:
            return
        self.is_held = False
        try:
            lease = await self.cluster.get(LEASES, self.name, self.namespace)
            if (lease.get("spec") or {}).get("holderIdentity") != self.identity:
                return
            patch = {
                "metadata": {"resourceVersion": lease["metadata"]["resourceVersion"]},
                "spec": {"holderIdentity": "", "renewTime": _micro_time()},
            }
            await self.cluster.patch(LEASES, self.name, patch, self.namespace)
        except ApiError as failed:
            log.warning("the lease was not given back", error=str(failed)[:200])

    def _spec(self, transitions: int) -> Body:
        now = _micro_time()
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.seconds,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }


def _micro_time() -> str:
    """Kubernetes' MicroTime. Others do not compare it with their clocks, and neither do we."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
