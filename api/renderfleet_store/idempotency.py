"""One submit per Idempotency-Key, over all replicas and restarts.

a key nobody used        -> reserved, for the time that a request may take
same key, other request  -> KeyReused
same key, done           -> the first one's render
same key, in flight      -> InFlight; when its time is over it counts as dead, and this request takes its place
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from .tables import idempotency

LOCK_SECONDS = 40
"""Longer than any request lives."""


class KeyReused(Exception):
    """The key was used for a different request."""


class InFlight(Exception):
    """The first request with this key has not been answered yet."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """The right to do it; or, with `uid`, what was done already."""

    uid: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A key and the request that it came with."""

    namespace: str
    key: str
    digest: bytes


_RESERVE = text(
    "INSERT INTO idempotency (namespace, key, request_digest, locked_until)"
    " SELECT namespace, key, digest, now() + make_interval(secs => :seconds)"
    " FROM unnest(CAST(:namespaces AS text[]), CAST(:keys AS text[]), CAST(:digests AS bytea[]))"
    # In an order that all share, so that two batches with the same keys cannot block each other.
    " AS asked(namespace, key, digest) ORDER BY namespace, key"
    " ON CONFLICT DO NOTHING RETURNING namespace, key"
)
_COMPLETE = text(
    "UPDATE idempotency SET uid = done.uid"
    " FROM unnest(CAST(:namespaces AS text[]), CAST(:keys AS text[]), CAST(:uids AS text[])) AS done(namespace, key, uid)"
    " WHERE idempotency.namespace = done.namespace AND idempotency.key = done.key"
)


async def reserve_new(connection: AsyncConnection, asked: Sequence[Asked]) -> list[bool]:
    """Reserve those keys that nobody used before; says of each, in their order, whether it was such a one.

    Of the same key twice, the first is the new one. What to do about the others, `reserve` says.
    """
    first: dict[tuple[str, str], Asked] = {}
    for one in asked:
        first.setdefault((one.namespace, one.key), one)  # here, and not in the statement, whose sort may swap equals
    given = {
        "namespaces": [one.namespace for one in first.values()],
        "keys": [one.key for one in first.values()],
        "digests": [one.digest for one in first.values()],
        "seconds": LOCK_SECONDS,
    }
    new = {(row.namespace, row.key) for row in await connection.execute(_RESERVE, given)}
    return [(one.namespace, one.key) in new and first[one.namespace, one.key] is one for one in asked]


async def reserve(connection: AsyncConnection, namespace: str, key: str, digest: bytes) -> Reservation:
    """Reserve the key for this request. Raises KeyReused and InFlight."""
    until = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, LOCK_SECONDS)
    fresh = insert(idempotency).values(namespace=namespace, key=key, request_digest=digest, locked_until=until)
    made = await connection.execute(fresh.on_conflict_do_nothing().returning(idempotency.c.key))
    if made.first() is not None:
        return Reservation()
    mine = (idempotency.c.namespace == namespace, idempotency.c.key == key)
    query = select(idempotency, (idempotency.c.locked_until > func.now()).label("locked")).where(*mine)
    known = (await connection.execute(query.with_for_update())).mappings().first()
    if known is None:
        # Released between the two statements.
        raise InFlight
    if known["request_digest"] != digest:
        raise KeyReused
    if known["uid"] is not None:
        return Reservation(known["uid"])
    if known["locked"]:
        raise InFlight
    await connection.execute(update(idempotency).where(*mine).values(locked_until=until))
    return Reservation()


async def complete(connection: AsyncConnection, made: Sequence[tuple[str, str, str]]) -> None:
    """Remember what keys made: (namespace, key, UID) each."""
    namespaces, keys, uids = (list(column) for column in zip(*made, strict=True))
    await connection.execute(_COMPLETE, {"namespaces": namespaces, "keys": keys, "uids": uids})


async def release(connection: AsyncConnection, namespace: str, key: str) -> None:
    """Give the key back after a refusal: nothing was made, and a corrected request may use it."""
    mine = (idempotency.c.namespace == namespace, idempotency.c.key == key, idempotency.c.uid.is_(None))
    await connection.execute(delete(idempotency).where(*mine))


async def unlock(connection: AsyncConnection, namespace: str, key: str) -> None:
    """Let the next try of the same request go ahead at once; whether this one made something is not known."""
    mine = (idempotency.c.namespace == namespace, idempotency.c.key == key, idempotency.c.uid.is_(None))
    await connection.execute(update(idempotency).where(*mine).values(locked_until=func.now()))
