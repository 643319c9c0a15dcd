"""What administrators do."""

from tests.support.api import Api, Tenant

from renderfleet_client import Cluster
from renderfleet_client.resources import Resource
from renderfleet_crds import meta
from renderfleet_crds.kinds import RENDER_PROVIDER, RENDER_TENANT

TENANTS, PROVIDERS = Resource.of(RENDER_TENANT), Resource.of(RENDER_PROVIDER)


async def test_a_tenant_is_an_object_of_the_cluster(api: Api, cluster: Cluster, tenant: Tenant) -> None:
    async with api.client() as admin:
        again = await admin.post("/admin/tenants", json={"name": tenant.name})
        assert (again.status_code, again.json()["code"]) == (409, "tenant_exists")

        shown = (await admin.get(f"/admin/tenants/{tenant.name}")).json()
        assert (shown["namespace"], shown["ready"]) == (tenant.namespace, False)

        ready = {"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": "2026-11-24T10:00:00Z"}
        await cluster.patch(TENANTS, tenant.name, {"status": {"conditions": [ready]}}, subresource="status")
        assert (await admin.get(f"/admin/tenants/{tenant.name}")).json()["ready"] is True

        changed = await admin.patch(f"/admin/tenants/{tenant.name}", json={"concurrency": 9})
        assert changed.json()["spec"]["concurrency"] == 9
        assert (await cluster.get(TENANTS, tenant.name))["spec"]["concurrency"] == 9

        unknown = await admin.post("/admin/tenants", json={"name": "x1", "members": [{"kind": "User", "who": "me"}]})
        assert unknown.status_code == 422
        assert (await admin.get("/admin/tenants/nobody")).status_code == 404
        assert (await admin.get("/admin/tenants/nobody/keys")).status_code == 404
        assert (await admin.get("/admin/dead-letters", params={"tenant": "nobody"})).status_code == 404
        assert (await admin.get("/admin/dead-letters", params={"tenant": f"../{tenant.name}"})).status_code == 422
        assert tenant.name in [one["name"] for one in (await admin.get("/admin/tenants")).json()["items"]]


async def test_a_tenant_made_with_kubectl_can_get_keys(api: Api, cluster: Cluster) -> None:
    await cluster.create(
        TENANTS,
        {"apiVersion": meta.API_VERSION, "kind": "RenderTenant", "metadata": {"name": "by-hand"}, "spec": {}},
    )
    async with api.client() as admin:
        made = await admin.post("/admin/tenants/by-hand/keys", json={"name": "k", "expiresInDays": 3})
        missing = await admin.post("/admin/tenants/nobody/keys", json={})

    assert made.status_code == 201
    assert made.json()["expiresAt"] > made.json()["createdAt"]
    assert missing.status_code == 404


async def test_nobody_gets_a_key_to_a_namespace_of_somebody_else(api: Api, cluster: Cluster, tenant: Tenant) -> None:
    await cluster.create(
        TENANTS,
        {
            "apiVersion": meta.API_VERSION,
            "kind": "RenderTenant",
            "metadata": {"name": "thief"},
            "spec": {"namespace": tenant.namespace},
        },
    )
    async with api.client() as admin:
        answer = await admin.post("/admin/tenants/thief/keys", json={})

    assert (answer.status_code, answer.json()["code"]) == (409, "namespace_taken")


async def test_removing_a_tenant_closes_its_door_at_once(api: Api, cluster: Cluster, tenant: Tenant) -> None:
    async with api.client() as admin:
        removed = await admin.delete(f"/admin/tenants/{tenant.name}")

    assert removed.status_code == 202
    assert (await tenant.get("/jobs")).status_code == 401
    assert tenant.name not in [one["metadata"]["name"] for one in (await cluster.list(TENANTS)).items]


async def test_holding_and_releasing_a_provider(api: Api, cluster: Cluster) -> None:
    spec = {"vendor": "openai", "baseUrl": "https://api.example", "secretRef": {"name": "openai"}}
    await cluster.create(
        PROVIDERS,
        {"apiVersion": meta.API_VERSION, "kind": "RenderProvider", "metadata": {"name": "openai"}, "spec": spec},
    )
    await cluster.patch(PROVIDERS, "openai", {"status": {"circuit": "Open", "inFlight": 2}}, subresource="status")
    async with api.client() as admin:
        held = (await admin.post("/admin/providers/openai/hold")).json()
        assert (await cluster.get(PROVIDERS, "openai"))["spec"]["hold"] is True
        released = (await admin.post("/admin/providers/openai/release")).json()
        listed = (await admin.get("/admin/providers")).json()["items"]
        missing = await admin.post("/admin/providers/nobody/hold")

    assert (await cluster.get(PROVIDERS, "openai"))["spec"]["releasedAt"], "the operator's own hold ends with it"
    assert (held["hold"], released["hold"], missing.status_code) == (True, False, 404)
    assert [one["status"]["circuit"] for one in listed if one["name"] == "openai"] == ["Open"]


async def test_dead_letters_are_redriven_one_by_one(api: Api, tenant: Tenant, other: Tenant) -> None:
    dead = [await tenant.submit() for _ in range(3)]
    for one in dead:
        await tenant.report(one, "DeadLettered", reason="AttemptsExhausted")
    alive = await tenant.submit()
    foreign = await other.submit("AvatarRender")
    await other.report(foreign, "DeadLettered")

    async with api.client() as admin:
        listed = (await admin.get("/admin/dead-letters", params={"tenant": tenant.name})).json()["items"]
        chosen = await admin.post("/admin/dead-letters/redrive", json={"ids": [dead[0]["id"], alive["id"]]})
        rest = await admin.post("/admin/dead-letters/redrive", json={"tenant": tenant.name, "kind": "VoiceJob"})

    assert {one["id"] for one in listed} == {one["id"] for one in dead}
    assert chosen.json() == {"redriven": [dead[0]["id"]], "failed": {alive["id"]: "not_a_dead_letter"}}
    assert set(rest.json()["redriven"]) == {one["id"] for one in dead}
    assert {(await tenant.object_of(one))["spec"]["redrive"] for one in dead} == {1}
    assert (await other.object_of(foreign))["spec"].get("redrive", 0) == 0
