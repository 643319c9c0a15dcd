"""Tenants and their API keys. A key is stored as an HMAC only, so that the table alone opens no door."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import RowMapping, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from .tables import api_keys, users

_USED_EVERY_SECONDS = 60
"""`last_used_at` is for people; a write per request would buy them nothing."""


class UnknownTenant(Exception):
    """No such tenant, or its namespace belongs to another one."""


async def ensure_tenant(connection: AsyncConnection, name: str, namespace: str) -> None:
    """Make the tenant known; harmless when it is. Raises UnknownTenant when either name is otherwise taken."""
    await connection.execute(upsert(users).values(name=name, namespace=namespace).on_conflict_do_nothing())
    known = (await connection.execute(select(users.c.namespace).where(users.c.name == name))).scalar()
    if known != namespace:
        raise UnknownTenant(f"namespace {namespace} is not that of tenant {name}")


async def namespaces(connection: AsyncConnection) -> list[str]:
    """Of all tenants that ever were known."""
    return list((await connection.execute(select(users.c.namespace).order_by(users.c.namespace))).scalars())


async def add_key(
    connection: AsyncConnection,
    *,
    identity: str,
    tenant: str | None,
    name: str,
    prefix: str,
    digest: bytes,
    scopes: Sequence[str],
    expires_at: datetime | None,
) -> None:
    """Store a key of a known tenant, or of an administrator when `tenant` is None."""
    await connection.execute(
        insert(api_keys).values(
            id=identity,
            tenant=tenant,
            name=name,
            prefix=prefix,
            digest=digest,
            scopes=list(scopes),
            expires_at=expires_at,
        )
    )


async def find_key(connection: AsyncConnection, digest: bytes) -> RowMapping | None:
    """`id, tenant, namespace, scopes, expires_at` of a key that is valid now, and note that it was used."""
    query = select(api_keys.c.id, api_keys.c.tenant, users.c.namespace, api_keys.c.scopes, api_keys.c.expires_at)
    query = query.join(users, users.c.name == api_keys.c.tenant, isouter=True).where(
        api_keys.c.digest == digest,
        api_keys.c.revoked_at.is_(None),
        or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > func.now()),
    )
    return (await connection.execute(query)).mappings().first()


async def note_use(connection: AsyncConnection, identity: str) -> None:
    """Remember that the key was used, at most once a minute."""
    stale = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, _USED_EVERY_SECONDS)
    await connection.execute(
        update(api_keys)
        .where(api_keys.c.id == identity, or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < stale))
        .values(last_used_at=func.now())
    )


async def keys_of(connection: AsyncConnection, tenant: str) -> Sequence[RowMapping]:
    """All keys that the tenant ever had, newest first, without their digests."""
    shown = [column for column in api_keys.c if column.name != "digest"]
    query = select(*shown).where(api_keys.c.tenant == tenant).order_by(api_keys.c.created_at.desc(), api_keys.c.id)
    return (await connection.execute(query)).mappings().all()


async def retire_key(connection: AsyncConnection, tenant: str, identity: str, at: datetime) -> RowMapping | None:
    """Let a key that is valid now expire at that time, if not before; the key as it was, or None when there is none."""
    query = select(api_keys).where(
        api_keys.c.tenant == tenant,
        api_keys.c.id == identity,
        api_keys.c.revoked_at.is_(None),
        or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > func.now()),
    )
    found = (await connection.execute(query.with_for_update())).mappings().first()
    if found is not None:
        # LEAST ignores NULL.
        earlier = func.least(api_keys.c.expires_at, at)
        await connection.execute(
            update(api_keys).where(api_keys.c.id == identity).values(expires_at=earlier, retired_at=func.now())
        )
    return found


async def revoke_key(connection: AsyncConnection, tenant: str, identity: str) -> bool:
    """Make a key invalid; True when there was one to revoke."""
    done = await connection.execute(
        update(api_keys)
        .where(api_keys.c.tenant == tenant, api_keys.c.id == identity, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(api_keys.c.id)
    )
    return done.first() is not None
