"""Make and keep what a RenderTenant gets, and say in its status that it has it.

Everything is compared with what is there before it is written, so looking again costs no write. `pods` of the quota is
written when spec.concurrency changes and not otherwise: an edit of the quota itself stays.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from renderfleet_client.cluster import Cluster
from renderfleet_client.errors import ApiError, NotFound
from renderfleet_client.resources import (
    LIMIT_RANGES,
    NAMESPACES,
    NETWORK_POLICIES,
    RESOURCE_QUOTAS,
    ROLE_BINDINGS,
    ROLES,
    Resource,
)
from renderfleet_crds import meta
from renderfleet_crds.conditions import Reason
from renderfleet_crds.kinds import RENDER_TENANT

from .cache import Cache
from .children import tenant as children
from .clock import Clock
from .decide.report import readiness
from .errors import NotYet
from .execute import QUOTA_NOT_READY_PAUSE_SECONDS, merge_patch
from .fleet import Fleet
from .times import rfc3339

log = structlog.get_logger(__name__)

Body = dict[str, Any]
TENANTS = Resource.of(RENDER_TENANT)
STATUS_EVERY_SECONDS = 5.0
AGAIN_SECONDS = 600.0
NUDGE_SECONDS = 8.0
UNSURE_SECONDS = 3.0
"""Ends are stored in another order than they happened in. One that is stored after a later one was told would be counted
by no later operator, so the latest are not told yet."""


@dataclass(slots=True)
class Tenants:
    """Looks after all RenderTenants."""

    cluster: Cluster
    cache: Cache
    fleet: Fleet
    clock: Clock
    namespace_made: Callable[[str], None] = lambda namespace: None
    """Told of each namespace that had to be created, be it anew."""
    _uncounted_since: dict[str, float] = field(default_factory=dict)

    async def reconcile(self, name: str) -> float | None:
        """Bring one tenant into shape; comes back with the seconds after which to look again, None when it is gone."""
        tenant = self.cache.tenants.get(name)
        if tenant is None or "deletionTimestamp" in tenant["metadata"]:
            return None
        try:
            applied, problem = await self._apply(tenant)
        except ApiError as refused:
            await self._report(tenant, None, str(refused)[:500])
            raise
        await self._report(tenant, applied, problem)
        return 30.0 if problem else AGAIN_SECONDS

    async def _apply(self, tenant: Body) -> tuple[int | None, str | None]:
        """(concurrency now in the quota, what is wrong)."""
        namespace = children.namespace_of(tenant)
        there = await self._get(NAMESPACES, namespace)
        if there is None:
            await self.cluster.create(NAMESPACES, children.namespace(tenant))
            self.namespace_made(namespace)
        else:
            owner = (there["metadata"].get("labels") or {}).get(meta.TENANT_LABEL)
            if owner != children.labels_of(tenant)[meta.TENANT_LABEL]:
                return (
                    None,
                    f"namespace {namespace} exists and is not this tenant's: it lacks the label {meta.TENANT_LABEL}",
                )
            if "deletionTimestamp" in there["metadata"]:
                return None, f"namespace {namespace} is being deleted"
            wanted = children.namespace(tenant)
            wanted["metadata"].pop("ownerReferences")  # one that was there before does not go with the tenant
            if not children.covers(there, wanted):
                await self.cluster.patch(NAMESPACES, namespace, wanted)
        concurrency = int(tenant["spec"].get("concurrency", 4))
        for resource, wanted in (
            (LIMIT_RANGES, children.limit_range(tenant)),
            (NETWORK_POLICIES, children.network_policy(tenant)),
            (ROLES, children.role(tenant)),
            (ROLE_BINDINGS, children.role_binding(tenant)),
        ):
            present = await self._get(resource, wanted["metadata"]["name"], namespace)
            if present is None:
                await self.cluster.create(resource, wanted, namespace)
            elif not children.covers(present, wanted) and not _both_empty(present, wanted):
                await self.cluster.patch(resource, wanted["metadata"]["name"], wanted, namespace)
        await self._quota(tenant, namespace, concurrency)
        return concurrency, None

    async def _quota(self, tenant: Body, namespace: str, concurrency: int) -> None:
        changed = (tenant.get("status") or {}).get("appliedConcurrency") != concurrency
        present = await self._get(RESOURCE_QUOTAS, meta.QUOTA_NAME, namespace)
        if present is None:
            wanted = children.quota(tenant, with_concurrency=True)
            present = await self.cluster.create(RESOURCE_QUOTAS, wanted, namespace)
            self.cache.put_quota(present)
        wanted = children.quota(tenant, with_concurrency=changed)
        if not children.covers(present, wanted):
            present = await self.cluster.patch(RESOURCE_QUOTAS, meta.QUOTA_NAME, wanted, namespace)
            self.cache.put_quota(present)
        counted = (present.get("status") or {}).get("used") or {}
        uncounted = [name for name in present["spec"]["hard"] if name not in counted]
        if uncounted:
            await self._nudge(namespace, uncounted)
            # Until its controller has counted, the quota refuses everything: "ready" would be a lie.
            raise NotYet(f"the quota of {namespace} is not computed yet", QUOTA_NOT_READY_PAUSE_SECONDS)

    async def _nudge(self, namespace: str, uncounted: list[str]) -> None:
        """Have the quota controller look at a quota again.

        It learns of kinds that are new to the cluster within half a minute, but then looks at quotas that name them only
        every five, or when their spec changes. So the spec loses what was not counted, and the next look puts it back. Not
        `pods`, though: it is no new kind, and whatever number somebody gave it would not come back.
        """
        new = [name for name in uncounted if name != "pods"]
        now = self.clock.monotonic()
        since = self._uncounted_since.setdefault(namespace, now)
        if now - since < NUDGE_SECONDS or not new:
            return
        self._uncounted_since[namespace] = now
        patch = {"spec": {"hard": dict.fromkeys(new)}}
        self.cache.put_quota(await self.cluster.patch(RESOURCE_QUOTAS, meta.QUOTA_NAME, patch, namespace))

    async def _get(self, resource: Resource, name: str, namespace: str | None = None) -> Body | None:
        try:
            return await self.cluster.get(resource, name, namespace)
        except NotFound:
            return None

    async def _report(self, tenant: Body, applied: int | None, problem: str | None) -> None:
        about = tenant["metadata"]
        old = tenant.get("status") or {}
        generation = int(about.get("generation") or 0)
        conditions = readiness(
            old,
            generation,
            self.clock.now(),
            ready=problem is None,
            stalled=problem is not None,
            reason=Reason.RECONCILE_FAILED if problem else Reason.READY,
            message=problem or "",
        )
        status = {
            **old,
            "observedGeneration": generation,
            "phase": "NotReady" if problem else "Ready",
            "namespace": children.namespace_of(tenant),
            "conditions": conditions,
        }
        if applied is not None:
            status["appliedConcurrency"] = applied
        await self._write(tenant, status)

    async def report_spending(self, name: str) -> None:
        """Say what the tenant has spent this month, if that is news."""
        tenant = self.cache.tenants.get(name)
        if tenant is None or not (tenant.get("status") or {}).get("phase"):
            return
        spent = self.fleet.spent(children.namespace_of(tenant))
        if spent.tell(rfc3339(self.clock.now() - UNSURE_SECONDS)):
            self.fleet.tenant_moved(name)
        if not spent.told_micros:
            return
        status = {**(tenant.get("status") or {}), "spentMicros": spent.told_micros, "budgetMonth": spent.month}
        if spent.told_through:
            status["spentThrough"] = spent.told_through
        await self._write(tenant, status)

    async def _write(self, tenant: Body, status: Body) -> None:
        change = merge_patch(tenant.get("status") or {}, status)
        if not change:
            return
        about = tenant["metadata"]
        patch = {"metadata": {"uid": about["uid"]}, "status": change}
        self.cache.put_tenant(await self.cluster.patch(TENANTS, about["name"], patch, subresource="status"))


def _both_empty(present: Body, wanted: Body) -> bool:
    """A RoleBinding without members comes back without the list."""
    return (
        "subjects" in wanted
        and not wanted["subjects"]
        and not present.get("subjects")
        and children.covers(present, {key: value for key, value in wanted.items() if key != "subjects"})
    )
