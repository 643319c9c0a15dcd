"""Read jobs and their events. Every question carries the namespace, so that no answer crosses tenants."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, Select, cast, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from renderfleet_crds.phases import FINAL

from .tables import job_events, jobs, videos, voice_assets


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended: rows are ordered by creation, newest first, then by id."""

    created_at: datetime
    id: str


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs; an unset field allows all."""

    namespace: str | None = None
    """None is for administrators only."""
    kind: str | None = None
    phases: Sequence[str] = ()
    provider: str | None = None
    client_reference: str | None = None
    labels: Mapping[str, str] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


async def get(connection: AsyncConnection, namespace: str, uid: str) -> RowMapping | None:
    """One job of that namespace, or None, also when it is somebody else's."""
    found = await connection.execute(select(jobs).where(jobs.c.uid == uid, jobs.c.namespace == namespace))
    return found.mappings().first()


async def page(
    connection: AsyncConnection, wanted: JobFilter, *, limit: int, after: Place | None = None
) -> Sequence[RowMapping]:
    """Up to `limit` jobs, newest first, from behind `after`."""
    query = select(jobs).where(*_conditions(wanted))
    return await _page(connection, query, (jobs.c.created_at, jobs.c.uid), limit=limit, after=after)


async def oldest(
    connection: AsyncConnection, wanted: JobFilter, *, limit: int, only: Sequence[str] | None = None
) -> Sequence[RowMapping]:
    """Up to `limit` jobs whose objects still exist, oldest first; with `only`, none but those of these ids."""
    query = select(jobs)
    if only is not None:
        query = query.where(jobs.c.uid.in_(only))
    query = query.where(*_conditions(wanted), jobs.c.deleted_at.is_(None)).order_by(jobs.c.created_at, jobs.c.uid)
    return (await connection.execute(query.limit(limit))).mappings().all()


async def counts(connection: AsyncConnection, namespace: str | None) -> dict[str, dict[str, int]]:
    """How many jobs are not over, by namespace and phase; of one namespace, or of all."""
    query = select(jobs.c.namespace, jobs.c.phase, func.count().label("n")).where(
        jobs.c.phase.not_in([one.value for one in FINAL]),
        # The partial index's own words: few are under way, and the archive is long.
        jobs.c.finished_at.is_(None),
        jobs.c.deleted_at.is_(None),
    )
    if namespace is not None:
        query = query.where(jobs.c.namespace == namespace)
    found: dict[str, dict[str, int]] = {}
    for row in await connection.execute(query.group_by(jobs.c.namespace, jobs.c.phase)):
        found.setdefault(row.namespace, {})[row.phase] = row.n
    return found


async def voice_page(
    connection: AsyncConnection, namespace: str, *, limit: int, after: Place | None = None
) -> Sequence[RowMapping]:
    """Up to `limit` finished recordings with their jobs' `name`, newest first."""
    query = select(voice_assets, jobs.c.name).join(jobs, jobs.c.uid == voice_assets.c.uid)
    query = query.where(voice_assets.c.namespace == namespace)
    return await _page(connection, query, (voice_assets.c.created_at, voice_assets.c.uid), limit=limit, after=after)


async def video_page(
    connection: AsyncConnection, namespace: str, *, limit: int, after: Place | None = None
) -> Sequence[RowMapping]:
    """Up to `limit` finished videos with their jobs' `name`, newest first."""
    query = select(videos, jobs.c.name).join(jobs, jobs.c.uid == videos.c.uid).where(videos.c.namespace == namespace)
    return await _page(connection, query, (videos.c.created_at, videos.c.uid), limit=limit, after=after)


async def events_of_job(connection: AsyncConnection, uid: str, after: int, limit: int = 500) -> Sequence[RowMapping]:
    """Events of one job behind number `after`, in their order."""
    query = select(job_events).where(job_events.c.uid == uid, job_events.c.seq > after)
    return (await connection.execute(query.order_by(job_events.c.seq).limit(limit))).mappings().all()


async def events_of_namespace(
    connection: AsyncConnection, namespace: str, after: int, limit: int = 500
) -> Sequence[RowMapping]:
    """Events of a whole namespace behind number `after`, in their order; none becomes visible out of order."""
    query = select(job_events).where(job_events.c.namespace == namespace, job_events.c.seq > after)
    return (await connection.execute(query.order_by(job_events.c.seq).limit(limit))).mappings().all()


_NEWS = text(
    "SELECT e.* FROM unnest(CAST(:namespaces AS text[]), CAST(:cursors AS bigint[])) AS c(namespace, seq)"
    " CROSS JOIN LATERAL (SELECT * FROM job_events WHERE namespace = c.namespace AND seq > c.seq"
    " ORDER BY seq LIMIT :limit) AS e ORDER BY e.seq"
)


async def news(connection: AsyncConnection, cursors: Mapping[str, int], limit: int = 1000) -> Sequence[RowMapping]:
    """Events of several namespaces, each behind its own number; at most `limit` of each."""
    asked = {"namespaces": list(cursors), "cursors": list(cursors.values()), "limit": limit}
    return (await connection.execute(_NEWS, asked)).mappings().all()


async def latest_event(connection: AsyncConnection, namespace: str) -> int:
    """Number of the namespace's latest event; 0 when nothing ever happened."""
    query = select(func.max(job_events.c.seq)).where(job_events.c.namespace == namespace)
    return (await connection.execute(query)).scalar() or 0


async def is_forgotten(connection: AsyncConnection, number: int) -> bool:
    """Whether events behind `number` may have been pruned, or the number is from another database's life."""
    query = select(func.min(job_events.c.seq), func.max(job_events.c.seq))
    oldest, newest = (await connection.execute(query)).one()
    if newest is None:
        return number > 0
    return bool(number > newest or oldest > number + 1)


def _conditions(wanted: JobFilter) -> list[Any]:
    conditions: list[Any] = []
    if wanted.namespace is not None:
        conditions.append(jobs.c.namespace == wanted.namespace)
    if wanted.kind is not None:
        conditions.append(jobs.c.kind == wanted.kind)
    if wanted.phases:
        conditions.append(jobs.c.phase.in_(list(wanted.phases)))
    if wanted.provider is not None:
        conditions.append(jobs.c.provider == wanted.provider)
    if wanted.client_reference is not None:
        conditions.append(jobs.c.client_reference == wanted.client_reference)
    if wanted.labels:
        conditions.append(jobs.c.labels.op("@>")(cast(dict(wanted.labels), JSONB)))
    if wanted.created_after is not None:
        conditions.append(jobs.c.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        conditions.append(jobs.c.created_at < wanted.created_before)
    return conditions


async def _page(
    connection: AsyncConnection, query: Select[Any], order: tuple[Any, Any], *, limit: int, after: Place | None
) -> Sequence[RowMapping]:
    created_at, identity = order
    if after is not None:
        query = query.where(tuple_(created_at, identity) < tuple_(after.created_at, after.id))
    query = query.order_by(created_at.desc(), identity.desc()).limit(limit)
    found: Sequence[RowMapping] = (await connection.execute(query)).mappings().all()
    return found
