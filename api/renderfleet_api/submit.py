"""From a request to a custom resource, exactly one for each Idempotency-Key.

The object's name follows from the key, so that a try that died between the cluster's answer and our row is found again
by the next try instead of being made twice.
"""

import asyncio
import base64
import hashlib
import random
import secrets
from dataclasses import dataclass
from typing import Any, Final

import orjson
import structlog
from prometheus_client import Counter
from sqlalchemy import RowMapping

from renderfleet_client import Cluster, Resource
from renderfleet_client.errors import AlreadyExists, ApiError, NotFound, QuotaExceeded, QuotaNotReady, Unavailable
from renderfleet_crds import meta
from renderfleet_crds.kinds import BY_KIND, ResourceKind
from renderfleet_crds.phases import Phase
from renderfleet_store import idempotency, jobs
from renderfleet_store.documents import row_of
from renderfleet_store.engine import StoreUnavailable, transaction
from renderfleet_store.mirror import RenderSeen, record

from . import trace
from .auth import TenantCaller
from .parts import Parts
from .problems import InvalidRequest, LimitReached, Problem, Refused, problem_from_cluster
from .views import Row

log = structlog.get_logger(__name__)

SUBMITS: Final = Counter("renderfleet_api_submits", "Renders asked for", ["kind", "outcome"])
_QUOTA_PAUSES_SECONDS: Final = (0.1, 0.3, 1.0)


@dataclass(frozen=True, slots=True)
class Wish:
    """What shall be made."""

    kind: ResourceKind
    spec: dict[str, Any]
    name: str | None = None
    labels: dict[str, str] | None = None
    request: bytes = b""
    """The request's body in a fixed form: what an Idempotency-Key stands for."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The job that stands for the request."""

    row: Row
    replayed: bool = False
    """True when an earlier request with the same key had made it."""


def request_digest(route: str, body: Any) -> bytes:
    """What two requests with one key must share."""
    return hashlib.sha256(route.encode() + b"\n" + orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).digest()


class Submitter:
    """Makes renders on behalf of one caller."""

    def __init__(self, parts: Parts, caller: TenantCaller) -> None:
        self._parts = parts
        self._caller = caller

    async def submit(self, wish: Wish, key: str | None) -> Accepted:
        """Make the render, or find the one that the key made before. Raises a Problem that says why not."""
        if key is None:
            body = await self._create(wish, self._body(wish, None))
            return Accepted(await self._remember(body))
        digest = hashlib.sha256(wish.request).digest()
        earlier = await self._reserve(key, digest)
        if earlier is not None:
            SUBMITS.labels(wish.kind.kind, "replayed").inc()
            return Accepted(earlier, replayed=True)
        try:
            body = await self._create(wish, self._body(wish, key), adopt=True)
        except Unavailable:
            await self._settle(idempotency.unlock, key)
            raise
        except (ApiError, Problem):
            await self._settle(idempotency.release, key)
            raise
        return Accepted(await self._remember(body, key))

    async def rehearse(self, wish: Wish) -> dict[str, Any]:
        """The object as the cluster would store it; nothing is made. Raises as submit does."""
        await self._parts.tenancy.check_budget(self._caller.tenant)
        return await self._parts.cluster.create(
            Resource.of(wish.kind), self._body(wish, None), self._caller.namespace, dry_run=True
        )

    async def _reserve(self, key: str, digest: bytes) -> RowMapping | None:
        namespace = self._caller.namespace
        if await self._parts.desk.reserve_new(namespace, key, digest):
            return None
        try:
            async with transaction(self._parts.primary) as connection:
                reserved = await idempotency.reserve(connection, namespace, key, digest)
                return await jobs.get(connection, namespace, reserved.uid) if reserved.uid else None
        except idempotency.KeyReused:
            raise InvalidRequest(
                "This Idempotency-Key was used for a different request.", code="idempotency_key_reused"
            ) from None
        except idempotency.InFlight:
            raise Refused(
                "The first request with this Idempotency-Key is still being answered.",
                code="idempotency_in_flight",
                retry_after_seconds=2,
            ) from None

    async def _settle(self, how: Any, key: str) -> None:
        try:
            async with transaction(self._parts.primary) as connection:
                await how(connection, self._caller.namespace, key)
        except StoreUnavailable:
            # The reservation runs out by itself.
            log.warning("reservation kept", key_id=self._caller.key_id)

    async def _create(self, wish: Wish, body: dict[str, Any], *, adopt: bool = False) -> dict[str, Any]:
        resource, namespace = Resource.of(wish.kind), self._caller.namespace
        try:
            await self._parts.tenancy.check_budget(self._caller.tenant)
            made = await self._patiently(resource, body, namespace)
        except (AlreadyExists, QuotaExceeded, LimitReached):
            # The object may be there already, and be the one that used the limit up: limits are looked at first.
            earlier = await self._made_before(resource, body) if adopt else None
            if earlier is None:
                SUBMITS.labels(wish.kind.kind, "refused").inc()
                raise
            made = earlier
        except ApiError:
            SUBMITS.labels(wish.kind.kind, "refused").inc()
            raise
        SUBMITS.labels(wish.kind.kind, "accepted").inc()
        return made

    async def _patiently(self, resource: Resource, body: dict[str, Any], namespace: str) -> dict[str, Any]:
        """Create it; a quota that is only not computed yet, or contended, is asked again for a moment."""
        for pause_seconds in _QUOTA_PAUSES_SECONDS:
            try:
                return await self._parts.cluster.create(resource, body, namespace)
            except QuotaNotReady:
                await asyncio.sleep(pause_seconds * random.uniform(0.5, 1.5))  # noqa: S311  (jitter)
        return await self._parts.cluster.create(resource, body, namespace)

    async def _made_before(self, resource: Resource, wanted: dict[str, Any]) -> dict[str, Any] | None:
        """The object of that name when it was made by an earlier try of this very request, else None."""
        try:
            found = await self._parts.cluster.get(resource, wanted["metadata"]["name"], self._caller.namespace)
        except NotFound:
            return None
        mark = meta.IDEMPOTENCY_ANNOTATION
        is_ours = (found["metadata"].get("annotations") or {}).get(mark) == wanted["metadata"]["annotations"][mark]
        return found if is_ours else None

    def _body(self, wish: Wish, key: str | None) -> dict[str, Any]:
        annotations = {meta.TRACE_ANNOTATION: trace.traceparent()}
        if key is not None:
            annotations[meta.IDEMPOTENCY_ANNOTATION] = hashlib.sha256(key.encode() + b"\n" + wish.request).hexdigest()
        return {
            "apiVersion": meta.API_VERSION,
            "kind": wish.kind.kind,
            "metadata": {
                "name": wish.name or f"{wish.kind.short}-{self._token(key)}",
                "namespace": self._caller.namespace,
                "labels": {**(wish.labels or {}), meta.TENANT_LABEL: self._caller.tenant},
                "annotations": annotations,
                "finalizers": [meta.FINALIZER],
            },
            "spec": wish.spec,
        }

    def _token(self, key: str | None) -> str:
        raw = (
            secrets.token_bytes(10)
            if key is None
            else hashlib.sha256(f"{self._caller.namespace}\n{key}".encode()).digest()[:10]
        )
        return base64.b32encode(raw).decode().lower()

    async def _remember(self, body: dict[str, Any], key: str | None = None) -> Row:
        """Write the row now, so that a GET right after the POST finds it; the mirror would be a moment later."""
        try:
            await self._parts.desk.record(body, key)
        except StoreUnavailable:
            # It is in the cluster, which is what counts; the operator's mirror writes the row later.
            log.warning("row left to the mirror", uid=body["metadata"]["uid"])
        return row_of(body)


async def act(parts: Parts, row: Row, change: dict[str, Any]) -> Row:
    """Change the spec of a job's object and store what it is then. Raises Problem when the object is gone."""
    patched = await patch_spec(parts.cluster, row, change)
    try:
        async with transaction(parts.primary) as connection:
            await record(connection, [RenderSeen(patched)])
            fresh = await jobs.get(connection, row["namespace"], row["uid"])
        return fresh or row
    except StoreUnavailable:
        return row_of(patched)


async def patch_spec(cluster: Cluster, row: Row, change: dict[str, Any]) -> dict[str, Any]:
    """The object after a merge patch of its spec, of this very UID. Raises Problem."""
    resource = Resource.of(BY_KIND[row["kind"]])
    gone = Refused("Its object is no longer in the cluster; submit it anew.", code="object_gone", job_id=row["uid"])
    try:
        # A patch that names a UID is refused when the name belongs to another object by now.
        return await cluster.patch(
            resource, row["name"], {"metadata": {"uid": row["uid"]}, "spec": change}, row["namespace"]
        )
    except NotFound:
        raise gone from None
    except ApiError as refused:
        if refused.status in {409, 422} and "uid" in refused.message.lower():
            raise gone from None
        raise problem_from_cluster(refused) from refused


def is_over(row: Row) -> bool:
    """Whether nothing more will happen to the job by itself."""
    return Phase(row["phase"]).is_final or row.get("deleted_at") is not None
