"""What a tenant's namespace gets, while the quota controller is slow to count it."""

from typing import Any

import pytest

from renderfleet_client.resources import RESOURCE_QUOTAS, Resource
from renderfleet_crds import meta
from renderfleet_operator.cache import Cache
from renderfleet_operator.errors import NotYet
from renderfleet_operator.fleet import Fleet
from renderfleet_operator.tenants import NUDGE_SECONDS, Tenants

from .test_fleet import TENANT, Clock
from .test_vendor_keys import Cluster

Body = dict[str, Any]


class Uncounted(Cluster):
    """Has a quota controller that counts nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_counting = False

    async def create(self, resource: Resource, body: Body, namespace: str | None = None) -> Body:
        made = await super().create(resource, body, namespace)
        return self._counted(resource, made)

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Body:
        return self._counted(resource, await super().get(resource, name, namespace))

    async def patch(self, resource: Resource, name: str, patch: Body, namespace: str | None = None, **how: Any) -> Body:
        if resource is not RESOURCE_QUOTAS:
            return await super().patch(resource, name, patch, namespace, **how)
        before = self.there[resource.plural, namespace, name]
        hard = {**before["spec"]["hard"], **patch["spec"]["hard"]}
        spec = {"hard": {what: most for what, most in hard.items() if most is not None}}
        self.there[resource.plural, namespace, name] = {**before, "spec": spec}
        return await self.get(resource, name, namespace)

    def _counted(self, resource: Resource, one: Body) -> Body:
        if resource is not RESOURCE_QUOTAS:
            return one
        return {**one, "status": {"used": dict.fromkeys(one["spec"]["hard"], "0") if self.is_counting else {}}}

    def pods(self) -> str | None:
        """How many pods the tenant may have."""
        quota = self.there[RESOURCE_QUOTAS.plural, "rf-acme", meta.QUOTA_NAME]
        most: str | None = quota["spec"]["hard"].get("pods")
        return most


async def test_a_namespace_that_is_made_again_keeps_its_limit_however_late_its_quota_is_counted() -> None:
    """Without the limit a tenant would be let start all at once."""
    cluster, clock, cache = Uncounted(), Clock(), Cache()
    about = {**TENANT["metadata"], "generation": 1}
    status = {"phase": "Ready", "observedGeneration": 1, "appliedConcurrency": 4}
    tenant: Body = {**TENANT, "kind": "RenderTenant", "metadata": about, "status": status}
    cluster.there["rendertenants", None, "acme"] = tenant
    cache.put_tenant(tenant)
    given: Any = cluster
    tenants = Tenants(given, cache, Fleet(cache, clock), clock)
    for _ in range(4):
        with pytest.raises(NotYet):
            await tenants.reconcile("acme")
        clock.time += NUDGE_SECONDS / 2 + 1
    cluster.is_counting = True

    await tenants.reconcile("acme")

    assert cluster.pods() == "4"
