"""The tenant's saved faces. Exactly one may be preferred: changes of that are serialised per tenant, and a partial unique
index stands behind it.
"""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import RowMapping, delete, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from .jobs import Place
from .tables import avatars

_PREFERENCE_LOCK = 0x52464156


async def save(connection: AsyncConnection, values: dict[str, Any], *, preferred: bool) -> RowMapping:
    """Add an avatar, or find the one of that id as it is; with `preferred`, it replaces the one that was.

    Whoever finds another key in the answer than in `values` has a picture too many.
    """
    kept = insert(avatars).values(**values).on_conflict_do_nothing(index_elements=["id"])
    await connection.execute(kept)
    if preferred:
        await _prefer(connection, values["namespace"], values["id"])
    found = await get(connection, values["namespace"], values["id"])
    if found is None:
        raise LookupError("an avatar id belongs to one namespace only")
    return found


async def get(connection: AsyncConnection, namespace: str, identity: str) -> RowMapping | None:
    """One avatar of that namespace, or None."""
    query = select(avatars).where(avatars.c.namespace == namespace, avatars.c.id == identity)
    return (await connection.execute(query)).mappings().first()


async def preferred_of(connection: AsyncConnection, namespace: str) -> RowMapping | None:
    """The avatar to use when none is named."""
    query = select(avatars).where(avatars.c.namespace == namespace, avatars.c.preferred)
    return (await connection.execute(query)).mappings().first()


async def keys_among(connection: AsyncConnection, namespace: str, keys: Collection[str]) -> set[str]:
    """Those of `keys` that an avatar's picture has."""
    query = select(avatars.c.key).where(avatars.c.namespace == namespace, avatars.c.key.in_(keys))
    return set((await connection.execute(query)).scalars())


async def page(
    connection: AsyncConnection, namespace: str, *, limit: int, after: Place | None = None
) -> Sequence[RowMapping]:
    """Up to `limit` avatars, newest first."""
    query = select(avatars).where(avatars.c.namespace == namespace)
    if after is not None:
        query = query.where(tuple_(avatars.c.created_at, avatars.c.id) < tuple_(after.created_at, after.id))
    query = query.order_by(avatars.c.created_at.desc(), avatars.c.id.desc()).limit(limit)
    return (await connection.execute(query)).mappings().all()


async def change(
    connection: AsyncConnection, namespace: str, identity: str, *, name: str | None, preferred: bool | None
) -> RowMapping | None:
    """Rename it, make it the preferred one, or no longer; the avatar after that, or None when there is none."""
    mine = (avatars.c.namespace == namespace, avatars.c.id == identity)
    if name is not None:
        await connection.execute(update(avatars).where(*mine).values(name=name))
    if preferred:
        await _prefer(connection, namespace, identity)
    elif preferred is False:
        await connection.execute(update(avatars).where(*mine).values(preferred=False))
    return await get(connection, namespace, identity)


async def remove(connection: AsyncConnection, namespace: str, identity: str) -> str | None:
    """Forget an avatar; the key of its picture, or None when there was none."""
    gone = delete(avatars).where(avatars.c.namespace == namespace, avatars.c.id == identity).returning(avatars.c.key)
    return (await connection.execute(gone)).scalar()


async def _prefer(connection: AsyncConnection, namespace: str, identity: str) -> None:
    lock = text(f"SELECT pg_advisory_xact_lock({_PREFERENCE_LOCK}, hashtext(:namespace))")
    await connection.execute(lock, {"namespace": namespace})
    if await get(connection, namespace, identity) is None:
        return
    mine = avatars.c.namespace == namespace
    await connection.execute(update(avatars).where(mine, avatars.c.preferred).values(preferred=False))
    await connection.execute(update(avatars).where(mine, avatars.c.id == identity).values(preferred=True))
