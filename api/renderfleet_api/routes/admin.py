"""For administrators: tenants and their keys, providers, dead letters."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from renderfleet_api.auth import Admin
from renderfleet_api.conditional import UNCHANGED, Known
from renderfleet_api.keys import SHOWN_CHARACTERS, new_key
from renderfleet_api.links import OF_KEY, OF_TENANT, leads_to
from renderfleet_api.parts import Parts, Use
from renderfleet_api.problems import NotFound, Problem, Refused, responses
from renderfleet_api.schemas import (
    KeyRequest,
    KeyRotation,
    Redrive,
    TenantChange,
    TenantName,
    TenantRequest,
)
from renderfleet_api.submit import patch_spec
from renderfleet_api.tenancy import TENANTS, namespace_of, register
from renderfleet_api.views import Job, Page, View, page_of, place_of, version_of
from renderfleet_client import Resource
from renderfleet_client.errors import AlreadyExists, ApiError
from renderfleet_client.errors import NotFound as NotInCluster
from renderfleet_crds import meta
from renderfleet_crds.conditions import ConditionType, find_condition
from renderfleet_crds.kinds import RENDER_PROVIDER, RENDER_TENANT
from renderfleet_crds.phases import Phase
from renderfleet_crds.render_provider import hold_patch
from renderfleet_store import jobs, tenants
from renderfleet_store.engine import transaction

from .common import Cursor, Limit, Show

router = APIRouter(prefix="/admin", tags=["admin"])
PROVIDERS = Resource.of(RENDER_PROVIDER)
Name = Annotated[TenantName, Path()]
_LOOK_AGAIN_SECONDS = 0.25


class Tenant(View):
    """A tenant as it is in the cluster."""

    name: str
    namespace: str
    ready: bool
    """Renders can be submitted."""
    message: str | None = None
    spec: dict[str, Any]
    status: dict[str, Any] = {}


class Provider(View):
    """A vendor account and how the vendor is doing."""

    name: str
    vendor: str
    hold: bool
    limits: dict[str, Any] = {}
    status: dict[str, Any] = {}


class Key(View):
    """An API key, without what opens the door."""

    id: str
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


class NewKey(Key):
    """A key that was just made."""

    key: str
    """Shown this once."""


class Redriven(View):
    """What became of each render that was to be tried again."""

    redriven: list[str]
    failed: dict[str, str] = {}
    """Id to reason."""


@router.post(
    "/tenants",
    status_code=201,
    responses={
        201: leads_to("Ready", OF_TENANT, "Location"),
        202: {"model": Tenant, **leads_to("Made, and not ready yet", OF_TENANT, "Location")},
        **responses(Refused),
    },
)
async def create_tenant(body: TenantRequest, _: Admin, parts: Use, response: Response) -> Tenant:
    """Make a tenant and wait a while for its namespace; 202 when it is not ready by then."""
    wanted = {
        "apiVersion": meta.API_VERSION,
        "kind": RENDER_TENANT.kind,
        "metadata": {"name": body.name, "labels": {meta.MANAGED_BY_LABEL: meta.MANAGED_BY}},
        "spec": body.spec(),
    }
    try:
        made = await parts.cluster.create(TENANTS, wanted)
    except AlreadyExists:
        raise Refused(f"There is a tenant {body.name} already.", code="tenant_exists") from None
    await register(parts.primary, made)
    made = await _await_ready(parts, made)
    tenant = tenant_view(made)
    response.headers["Location"] = f"{parts.settings.public_url}/admin/tenants/{body.name}"
    response.status_code = 201 if tenant.ready else 202
    return tenant


@router.get("/tenants", responses=responses() | UNCHANGED)
async def list_tenants(_: Admin, parts: Use, known: Known) -> Page[Tenant]:
    """All tenants, those made with kubectl included."""
    found = await parts.cluster.list(TENANTS)
    known.check([_version(one) for one in found.items])
    return Page[Tenant](items=[tenant_view(one) for one in found.items])


@router.get("/tenants/{name}", responses=responses(NotFound) | UNCHANGED)
async def get_tenant(name: Name, _: Admin, parts: Use, known: Known) -> Tenant:
    """One tenant."""
    found = await _find_tenant(parts, name)
    known.check(_version(found))
    return tenant_view(found)


@router.patch("/tenants/{name}", responses=responses(NotFound))
async def change_tenant(name: Name, body: TenantChange, _: Admin, parts: Use) -> Tenant:
    """Change a tenant's limits."""
    await _find_tenant(parts, name)
    change = body.model_dump(by_alias=True, exclude_unset=True)
    changed = await parts.cluster.patch(TENANTS, name, {"spec": change})
    parts.tenancy.forget()
    return tenant_view(changed)


@router.delete("/tenants/{name}", status_code=202, responses=responses(NotFound))
async def delete_tenant(name: Name, _: Admin, parts: Use) -> Tenant:
    """Remove a tenant: its keys stop working at once, its namespace goes; rows and media stay until they are purged."""
    found = await _find_tenant(parts, name)
    async with transaction(parts.primary) as connection:
        for key in await tenants.keys_of(connection, name):
            await tenants.revoke_key(connection, name, key["id"])
    parts.keys.forget()
    await parts.cluster.delete(TENANTS, name, uid=found["metadata"]["uid"])
    parts.tenancy.forget()
    return tenant_view(found)


@router.post(
    "/tenants/{name}/keys", status_code=201, responses={201: {"links": OF_KEY}, **responses(NotFound, Refused)}
)
async def create_key(*, name: Name, body: KeyRequest, _: Admin, parts: Use, response: Response) -> NewKey:
    """Make an API key of the tenant. It is shown this once."""
    await register(parts.primary, await _find_tenant(parts, name))
    lifetime = timedelta(days=body.expires_in_days) if body.expires_in_days else None
    response.headers["Cache-Control"] = "no-store"
    async with transaction(parts.primary) as connection:
        return await _add_key(connection, parts, name, name=body.name, scopes=body.scopes, lifetime=lifetime)


@router.get("/tenants/{name}/keys", responses=responses(NotFound) | UNCHANGED)
async def list_keys(name: Name, _: Admin, parts: Use, known: Known) -> Page[Key]:
    """All keys that the tenant ever had."""
    await _find_tenant(parts, name)
    async with transaction(parts.primary) as connection:
        rows = await tenants.keys_of(connection, name)
    known.check(rows)
    return Page[Key](items=[_key(row) for row in rows])


@router.post(
    "/tenants/{name}/keys/{key_id}/rotate",
    status_code=201,
    responses={201: {"links": OF_KEY}, **responses(NotFound, Refused)},
)
async def rotate_key(
    *, name: Name, key_id: str, _: Admin, parts: Use, response: Response, body: KeyRotation | None = None
) -> NewKey:
    """A new key that may do the same, for as long; the old one works for the overlap still."""
    until = datetime.now(UTC) + timedelta(seconds=(body or KeyRotation()).overlap_seconds)
    response.headers["Cache-Control"] = "no-store"
    async with transaction(parts.primary) as connection:
        old = await tenants.retire_key(connection, name, key_id, until)
        if old is None:
            raise NotFound("There is no such key, or it is no longer valid.")
        if old["retired_at"] is not None:
            # Its time is the overlap's by now, which is no life for a new key. The error undoes the retiring.
            raise Refused(
                "The key was rotated before; rotate the key that replaced it, or make a new one.", code="key_retiring"
            )
        lifetime = old["expires_at"] - old["created_at"] if old["expires_at"] else None
        made = await _add_key(connection, parts, name, name=old["name"], scopes=old["scopes"], lifetime=lifetime)
    parts.keys.forget()
    return made


@router.delete("/tenants/{name}/keys/{key_id}", status_code=204, responses=responses(NotFound))
async def revoke_key(name: Name, key_id: str, _: Admin, parts: Use) -> None:
    """Revoke a key; other replicas of this API may accept it for some seconds more."""
    async with transaction(parts.primary) as connection:
        found = await tenants.revoke_key(connection, name, key_id)
    parts.keys.forget()
    if not found:
        raise NotFound("There is no such key, or it was revoked before.")


@router.get("/providers", responses=responses() | UNCHANGED)
async def list_providers(_: Admin, parts: Use, known: Known) -> Page[Provider]:
    """All vendor accounts with their circuits."""
    found = await parts.cluster.list(PROVIDERS)
    known.check([_version(one) for one in found.items])
    return Page[Provider](items=[provider_view(one) for one in found.items])


@router.post("/providers/{name}/hold", responses=responses(NotFound))
async def hold_provider(name: Name, _: Admin, parts: Use) -> Provider:
    """Start nothing new with this provider; what runs goes on."""
    return await set_hold(parts, name, hold=True)


@router.post("/providers/{name}/release", responses=responses(NotFound))
async def release_provider(name: Name, _: Admin, parts: Use) -> Provider:
    """Let a held provider work again, whether somebody held it or the operator did."""
    return await set_hold(parts, name, hold=False)


@router.get("/dead-letters", responses=responses(NotFound) | UNCHANGED)
async def list_dead_letters(
    *,
    _: Admin,
    parts: Use,
    show: Show,
    known: Known,
    tenant: Annotated[TenantName | None, Query()] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[Job]:
    """Renders whose retries are used up, of all tenants or one, newest first."""
    wanted = jobs.JobFilter(
        namespace=await _namespace(parts, tenant) if tenant else None, phases=[Phase.DEAD_LETTERED.value]
    )
    async with parts.for_lists() as connection:
        rows = await jobs.page(connection, wanted, limit=limit + 1, after=place_of(cursor))
    known.check([version_of(row) for row in rows], has_links=True)
    return Page[Job](**page_of(rows, limit, "uid", show.job))


@router.post("/dead-letters/redrive", responses=responses(NotFound))
async def redrive(body: Redrive, _: Admin, parts: Use) -> Redriven:
    """Try dead-lettered renders again, oldest first; each answers for itself."""
    wanted = jobs.JobFilter(
        namespace=await _namespace(parts, body.tenant) if body.tenant else None,
        kind=body.kind,
        provider=body.provider,
        phases=[Phase.DEAD_LETTERED.value],
    )
    async with transaction(parts.primary) as connection:
        rows = await jobs.oldest(connection, wanted, limit=body.limit, only=body.ids)
    done: list[str] = []
    failed: dict[str, str] = {}
    for row in rows:
        try:
            await patch_spec(parts.cluster, row, {"redrive": row["run"] + 1, "cancel": False})
            done.append(row["uid"])
        except Problem as refused:
            failed[row["uid"]] = refused.code
    for missing in set(body.ids or ()) - {row["uid"] for row in rows}:
        failed[missing] = "not_a_dead_letter"
    return Redriven(redriven=done, failed=failed)


async def _add_key(
    connection: AsyncConnection,
    parts: Parts,
    tenant: str,
    *,
    name: str,
    scopes: Sequence[str],
    lifetime: timedelta | None,
) -> NewKey:
    key, identity = new_key(), secrets.token_hex(8)
    await tenants.add_key(
        connection,
        identity=identity,
        tenant=tenant,
        name=name,
        prefix=key[:SHOWN_CHARACTERS],
        digest=parts.keys.digest(key),
        scopes=scopes,
        expires_at=datetime.now(UTC) + lifetime if lifetime else None,
    )
    row = next(one for one in await tenants.keys_of(connection, tenant) if one["id"] == identity)
    return NewKey(**_key(row).model_dump(), key=key)


async def _await_ready(parts: Parts, made: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + parts.settings.tenant_ready_seconds
    while not _is_ready(made) and time.monotonic() < deadline:
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        try:
            made = await parts.cluster.get(TENANTS, made["metadata"]["name"])
        except ApiError:
            break
    return made


async def _find_tenant(parts: Parts, name: str) -> dict[str, Any]:
    try:
        return await parts.cluster.get(TENANTS, name)
    except NotInCluster:
        raise NotFound(f"There is no tenant {name}.") from None


async def _namespace(parts: Parts, tenant: str) -> str:
    return namespace_of(await _find_tenant(parts, tenant))


async def set_hold(parts: Parts, name: str, *, hold: bool) -> Provider:
    """The provider, held or released. Raises NotFound."""
    try:
        return provider_view(await parts.cluster.patch(PROVIDERS, name, hold_patch(held=hold)))
    except NotInCluster:
        raise NotFound(f"There is no provider {name}.") from None


def _version(body: dict[str, Any]) -> list[str]:
    """What changes whenever an object of the cluster does."""
    return [body["metadata"]["uid"], body["metadata"]["resourceVersion"]]


def _is_ready(tenant: dict[str, Any]) -> bool:
    found = find_condition((tenant.get("status") or {}).get("conditions") or [], ConditionType.READY)
    return bool(found and found["status"] == "True")


def tenant_view(body: dict[str, Any]) -> Tenant:
    """A RenderTenant as clients see it."""
    status = body.get("status") or {}
    found = find_condition(status.get("conditions") or [], ConditionType.READY)
    return Tenant(
        name=body["metadata"]["name"],
        namespace=namespace_of(body),
        ready=_is_ready(body),
        message=found["message"] if found and found["status"] != "True" else None,
        spec=body.get("spec") or {},
        status=status,
    )


def provider_view(body: dict[str, Any]) -> Provider:
    """A RenderProvider as clients see it."""
    spec = body.get("spec") or {}
    return Provider(
        name=body["metadata"]["name"],
        vendor=spec.get("vendor", ""),
        hold=bool(spec.get("hold")),
        limits=spec.get("limits") or {},
        status=body.get("status") or {},
    )


def _key(row: Any) -> Key:
    return Key(**{name: row[name] for name in Key.model_fields})
