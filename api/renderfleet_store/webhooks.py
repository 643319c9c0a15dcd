"""Endpoints, and each event's way to each of them. A delivery is claimed for a while, so that a worker may die with it.

pending    --claimed--> pending, due again when the claim runs out
           --2xx------> delivered
           --anything else--> pending, due by the schedule; failed when that is used up
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import RowMapping, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from .documents import to_json
from .tables import deliveries, outbox, webhook_endpoints

LOG_TRIES: Final = 20
"""So many tries are kept per delivery, resends included."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One try and what follows from it."""

    at: datetime
    status: int | None
    error: str | None
    millis: int
    state: str
    next_at: datetime | None = None


async def add_endpoint(connection: AsyncConnection, values: dict[str, Any]) -> RowMapping:
    """A new endpoint, as stored."""
    made = await connection.execute(insert(webhook_endpoints).values(**values).returning(webhook_endpoints))
    row: RowMapping = made.mappings().one()
    return row


async def endpoints_of(connection: AsyncConnection, namespace: str) -> Sequence[RowMapping]:
    """All endpoints of the namespace, oldest first."""
    query = select(webhook_endpoints).where(webhook_endpoints.c.namespace == namespace)
    query = query.order_by(webhook_endpoints.c.created_at, webhook_endpoints.c.id)
    return (await connection.execute(query)).mappings().all()


async def get_endpoint(connection: AsyncConnection, namespace: str, identity: str) -> RowMapping | None:
    """One endpoint of the namespace, or None."""
    query = select(webhook_endpoints).where(*_mine(namespace, identity))
    return (await connection.execute(query)).mappings().first()


async def change_endpoint(
    connection: AsyncConnection, namespace: str, identity: str, values: dict[str, Any]
) -> RowMapping | None:
    """The endpoint after the change, or None when there is none."""
    change = update(webhook_endpoints).where(*_mine(namespace, identity)).values(**values)
    row: RowMapping | None = (await connection.execute(change.returning(webhook_endpoints))).mappings().first()
    return row


async def remove_endpoint(connection: AsyncConnection, namespace: str, identity: str) -> bool:
    """Forget an endpoint with its deliveries; True when there was one."""
    gone = delete(webhook_endpoints).where(*_mine(namespace, identity)).returning(webhook_endpoints.c.id)
    return (await connection.execute(gone)).first() is not None


async def announce(
    connection: AsyncConnection, *, namespace: str, endpoint: str, event: str, kind: str, data: dict[str, Any]
) -> None:
    """Send one event to one endpoint only, as a test does."""
    await connection.execute(insert(outbox).values(id=event, namespace=namespace, type=kind, data=data))
    await connection.execute(insert(deliveries).values(endpoint_id=endpoint, event_id=event))


async def deliveries_of(
    connection: AsyncConnection, endpoint: str, *, limit: int, before: int | None = None
) -> Sequence[RowMapping]:
    """Up to `limit` deliveries to an endpoint with their events' `type`, newest first."""
    query = select(deliveries, outbox.c.type, outbox.c.uid).join(outbox, outbox.c.id == deliveries.c.event_id)
    query = query.where(deliveries.c.endpoint_id == endpoint)
    if before is not None:
        query = query.where(deliveries.c.id < before)
    return (await connection.execute(query.order_by(deliveries.c.id.desc()).limit(limit))).mappings().all()


async def resend(connection: AsyncConnection, endpoint: str, delivery: int) -> bool:
    """Make a delivery due now with a fresh schedule, whatever became of it; True when there is such a one."""
    again = update(deliveries).where(deliveries.c.id == delivery, deliveries.c.endpoint_id == endpoint)
    done = await connection.execute(
        again.values(state="pending", tries=0, next_at=func.now()).returning(deliveries.c.id)
    )
    return done.first() is not None


async def replay(connection: AsyncConnection, endpoint: RowMapping, since: datetime, until: datetime) -> int:
    """Make all events of that time due for the endpoint, in their order; how many. Its event filter holds."""
    conditions = [
        outbox.c.namespace == endpoint["namespace"],
        outbox.c.created_at >= since,
        outbox.c.created_at < until,
        outbox.c.type.like("render.%"),
    ]
    if endpoint["types"]:
        conditions.append(outbox.c.type.in_(endpoint["types"]))
    found = (await connection.execute(select(outbox.c.id).where(*conditions).order_by(outbox.c.created_at))).scalars()
    events = list(found)
    if not events:
        return 0
    again = update(deliveries).where(deliveries.c.endpoint_id == endpoint["id"], deliveries.c.event_id.in_(events))
    reset = await connection.execute(
        again.values(state="pending", tries=0, next_at=func.now()).returning(deliveries.c.event_id)
    )
    known = set(reset.scalars())
    fresh = [{"endpoint_id": endpoint["id"], "event_id": one} for one in events if one not in known]
    if fresh:
        await connection.execute(insert(deliveries), fresh)
    return len(events)


_CLAIM = text(
    "UPDATE deliveries AS d SET next_at = now() + make_interval(secs => :lease)"
    " FROM webhook_endpoints e, outbox o, ("
    "  SELECT due.id FROM deliveries due JOIN webhook_endpoints f ON f.id = due.endpoint_id"
    "  WHERE due.state = 'pending' AND due.next_at <= now() AND f.enabled"
    "  ORDER BY due.next_at LIMIT :limit FOR UPDATE OF due SKIP LOCKED) AS mine"
    " WHERE d.id = mine.id AND e.id = d.endpoint_id AND o.id = d.event_id"
    " RETURNING d.id, d.tries, d.endpoint_id, e.url, e.secrets, e.secret_rotated_at, e.failing_since,"
    " o.id AS event_id, o.type, o.data, o.created_at"
)


async def claim_due(connection: AsyncConnection, *, limit: int, lease_seconds: float) -> Sequence[RowMapping]:
    """Up to `limit` deliveries that are due, now ours for `lease_seconds`; other workers get others."""
    return (await connection.execute(_CLAIM, {"limit": limit, "lease": lease_seconds})).mappings().all()


_SETTLE = text(
    "UPDATE deliveries SET state = :state, tries = tries + 1, next_at = coalesce(:next_at, next_at),"
    " log = (CASE WHEN jsonb_array_length(log) >= :kept THEN log - 0 ELSE log END) || CAST(:entry AS jsonb)"
    " WHERE id = :id"
)


async def settle(connection: AsyncConnection, delivery: int, tried: Tried) -> None:
    """Write down a try."""
    entry = {"at": tried.at, "status": tried.status, "error": tried.error, "millis": tried.millis}
    values = {
        "id": delivery,
        "state": tried.state,
        "next_at": tried.next_at,
        "kept": LOG_TRIES,
        "entry": to_json([entry]),
    }
    await connection.execute(_SETTLE, values)


async def note_success(connection: AsyncConnection, endpoint: str) -> None:
    """The endpoint works."""
    mine = (webhook_endpoints.c.id == endpoint, webhook_endpoints.c.failing_since.is_not(None))
    await connection.execute(update(webhook_endpoints).where(*mine).values(failing_since=None))


async def note_failure(connection: AsyncConnection, endpoint: str) -> None:
    """The endpoint does not; since when is remembered."""
    mine = (webhook_endpoints.c.id == endpoint, webhook_endpoints.c.failing_since.is_(None))
    await connection.execute(update(webhook_endpoints).where(*mine).values(failing_since=func.now()))


async def disable(connection: AsyncConnection, endpoint: str, reason: str) -> None:
    """Send nothing more there until its owner enables it."""
    mine = webhook_endpoints.c.id == endpoint
    await connection.execute(update(webhook_endpoints).where(mine).values(enabled=False, disabled_reason=reason))


def _mine(namespace: str, identity: str) -> tuple[Any, Any]:
    return webhook_endpoints.c.namespace == namespace, webhook_endpoints.c.id == identity
