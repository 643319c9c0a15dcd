"""What the cluster says about tenants, remembered for some seconds: that there is one, its namespace, and its budget."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from renderfleet_client import Cluster, Resource
from renderfleet_client.errors import NotFound, Unavailable
from renderfleet_crds import meta
from renderfleet_crds.kinds import RENDER_TENANT
from renderfleet_store import tenants
from renderfleet_store.engine import transaction

from .problems import LimitReached, Refused

TENANTS: Final = Resource.of(RENDER_TENANT)
_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Seen:
    until: float
    tenant: dict[str, Any] | None


def namespace_of(tenant: dict[str, Any]) -> str:
    """The namespace of a RenderTenant, also before the operator has made it."""
    spec, status = tenant.get("spec") or {}, tenant.get("status") or {}
    return str(status.get("namespace") or spec.get("namespace") or meta.tenant_namespace(tenant["metadata"]["name"]))


async def register(engine: AsyncEngine, tenant: dict[str, Any]) -> None:
    """Make the tenant's row: tenants may be made with kubectl, and matter here when they first get access.

    Raises Refused when its namespace is that of another tenant.
    """
    try:
        async with transaction(engine) as connection:
            await tenants.ensure_tenant(connection, tenant["metadata"]["name"], namespace_of(tenant))
    except tenants.UnknownTenant as taken:
        raise Refused(str(taken), code="namespace_taken") from taken


class Tenancy:
    """Answers from memory for `cache_seconds`, so that a submit costs no extra request."""

    def __init__(self, cluster: Cluster, cache_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    async def find(self, name: str) -> dict[str, Any] | None:
        """The RenderTenant, or None when there is none or it is being deleted. Raises ApiError."""
        seen = self._seen.get(name)
        if seen and seen.until > self._clock():
            return seen.tenant
        try:
            found: dict[str, Any] | None = await self._cluster.get(TENANTS, name)
        except NotFound:
            found = None
        except Unavailable:
            if seen:
                return seen.tenant
            raise
        if found and found["metadata"].get("deletionTimestamp"):
            found = None
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen[name] = _Seen(self._clock() + self._cache_seconds, found)
        return found

    def forget(self) -> None:
        """Ask the cluster again, as after a change."""
        self._seen.clear()

    async def check_budget(self, name: str) -> None:
        """Raises LimitReached when nothing is left of this month's budget; until then, what it does not cover waits."""
        tenant = await self.find(name)
        budget = ((tenant or {}).get("spec") or {}).get("monthlyBudgetMicros")
        if budget is None:
            return
        status = (tenant or {}).get("status") or {}
        month = datetime.now(UTC).strftime("%Y-%m")
        spent = status.get("spentMicros") or 0 if status.get("budgetMonth") == month else 0
        if spent >= budget:
            raise LimitReached(
                f"This month's budget of {budget} micro-units is used up ({spent} spent). "
                "It begins anew with the next month (UTC), or an administrator raises monthlyBudgetMicros.",
                code="budget_exhausted",
            )
