"""Copies of vendors' keys: written once, and again when the place that they were in may have lost them."""

import base64
from typing import Any

from renderfleet_client.errors import NotFound
from renderfleet_client.resources import Resource
from renderfleet_operator.cache import Cache
from renderfleet_operator.fleet import Fleet
from renderfleet_operator.secrets import COPY_FRESH_SECONDS, VendorKeys
from renderfleet_operator.tenants import Tenants

from .test_fleet import TENANT, Clock

Body = dict[str, Any]
PROVIDER: Body = {
    "metadata": {"name": "openai", "resourceVersion": "1"},
    "spec": {"secretRef": {"name": "openai"}},
}


class Cluster:
    """Objects by kind, namespace and name."""

    def __init__(self) -> None:
        self.there: dict[tuple[str, str | None, str], Body] = {}
        self.copies = 0

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Body:
        if (resource.plural, namespace, name) not in self.there:
            raise NotFound(404)
        return self.there[resource.plural, namespace, name]

    async def create(self, resource: Resource, body: Body, namespace: str | None = None) -> Body:
        made = {**body, "status": {"used": (body.get("spec") or {}).get("hard")}}
        made["metadata"] = {"resourceVersion": "1", **body["metadata"]}
        self.there[resource.plural, namespace, body["metadata"]["name"]] = made
        return made

    async def patch(self, resource: Resource, name: str, patch: Body, namespace: str | None = None, **how: Any) -> Body:
        self.copies += how.get("how") == "apply"
        place = (resource.plural, namespace, name)
        before = self.there.get(place, {"metadata": {"name": name}})
        about = {**before["metadata"], **patch["metadata"], "resourceVersion": "9"}
        self.there[place] = {**before, **patch, "metadata": about}
        return self.there[place]

    def put_key(self, key: bytes) -> None:
        data = {"api-key": base64.b64encode(key).decode()}
        self.there["secrets", "system", "openai"] = {"metadata": {"uid": "s"}, "data": data}

    def copy(self) -> bytes | None:
        """The key that pods of the tenant would get."""
        found = self.there.get(("secrets", "rf-acme", "renderfleet-provider-openai"))
        return base64.b64decode(found["data"]["key"]) if found else None


def make() -> tuple[VendorKeys, Tenants, Cluster, Clock]:
    cluster, clock, cache = Cluster(), Clock(), Cache()
    cluster.put_key(b"sk-1")
    given: Any = cluster
    cache.put_provider({**PROVIDER, "metadata": dict(PROVIDER["metadata"])})
    about = {**TENANT["metadata"], "generation": 1}
    tenant: Body = {**TENANT, "kind": "RenderTenant", "metadata": about, "status": {"phase": "Ready"}}
    cluster.there["rendertenants", None, "acme"] = tenant
    cache.put_tenant(tenant)
    keys = VendorKeys(given, cache, clock, "system")
    return keys, Tenants(given, cache, Fleet(cache, clock), clock, namespace_made=keys.forget_copies), cluster, clock


async def test_a_copy_is_written_once_and_anew_now_and_then() -> None:
    keys, _, cluster, clock = make()
    for _ in range(3):
        await keys.ensure(("openai",), "rf-acme")
    assert cluster.copies == 1

    clock.time += COPY_FRESH_SECONDS + 1
    await keys.ensure(("openai",), "rf-acme")

    assert cluster.copies == 2, "somebody may have deleted it, or another operator written an older key"


async def test_a_rotated_key_is_copied_at_once() -> None:
    keys, _, cluster, clock = make()
    await keys.ensure(("openai",), "rf-acme")
    cluster.put_key(b"sk-2")
    clock.time += 31

    await keys.ensure(("openai",), "rf-acme")

    assert cluster.copy() == b"sk-2"


async def test_a_namespace_that_is_made_again_gets_its_copies_again() -> None:
    """The tenant was deleted and applied again: its pods would wait for a Secret that is not there."""
    keys, tenants, cluster, _ = make()
    await tenants.reconcile("acme")
    await keys.ensure(("openai",), "rf-acme")
    cluster.there = {place: one for place, one in cluster.there.items() if "rf-acme" not in place}
    assert cluster.copy() is None

    await tenants.reconcile("acme")
    await keys.ensure(("openai",), "rf-acme")

    assert cluster.copy() == b"sk-1"
