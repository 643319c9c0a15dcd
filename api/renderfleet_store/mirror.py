"""Write what the cluster says into PostgreSQL: every change if it is newer, every end exactly once.

One transaction per batch. In it, in this order, which is also the order of locks, so that two writers cannot block each
other: the rows by UID, the ends, the media, the namespaces' event locks, events with their wake-ups, outbox, deliveries.
"""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from renderfleet_crds.phases import FINAL, Phase

from .documents import VISIBLE, Document, event_type, output_named, row_of, snapshot, to_json
from .engine import StoreUnavailable, transaction

log = structlog.get_logger(__name__)

CHANNEL: Final = "renderfleet_jobs"
"""LISTEN here to be woken; the payload is `<namespace>/<uid>` and nothing more."""

_EVENT_LOCK: Final = 0x52464556
"""First half of the advisory lock under which a namespace's events are numbered; the second is the namespace's hash."""
_IDS: Final = uuid.UUID("6a3c0d0e-3a57-5d0b-9a53-52464556aaaa")
_BATCH: Final = 200

_COLUMNS: Final = {
    "uid": "text",
    "kind": "text",
    "namespace": "text",
    "name": "text",
    "provider": "text",
    "phase": "text",
    "reason": "text",
    "message": "text",
    "stage": "text",
    "progress": "int",
    "run": "int",
    "attempt": "int",
    "queue_position": "int",
    "client_reference": "text",
    "trace_id": "text",
    "labels": "jsonb",
    "spec": "jsonb",
    "status": "jsonb",
    "resource_version": "bigint",
    "created_at": "timestamptz",
    "started_at": "timestamptz",
    "finished_at": "timestamptz",
}
_FIXED: Final = {"uid", "kind", "namespace", "name", "created_at"}


def _recordset(columns: dict[str, str]) -> str:
    shape = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    return f"jsonb_to_recordset(CAST(:rows AS jsonb)) AS r({shape})"


_LOOK: Final = ", ".join(f"jobs.{name}" for name in VISIBLE)
_NEW_LOOK: Final = ", ".join(f"excluded.{name}" for name in VISIBLE)
# One statement takes all row locks, in the order of the UIDs, even of rows that it then leaves as they are.
_UPSERT = text(
    f"INSERT INTO jobs ({', '.join(_COLUMNS)}) SELECT {', '.join(_COLUMNS)} FROM {_recordset(_COLUMNS)}"  # noqa: S608
    " ON CONFLICT (uid) DO UPDATE SET updated_at = now(), phase_before = jobs.phase,"
    f" looks_new = ({_LOOK}) IS DISTINCT FROM ({_NEW_LOOK}), "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name not in _FIXED)
    + " WHERE jobs.resource_version < excluded.resource_version RETURNING uid, looks_new, phase_before"
)
_DELETED = text("UPDATE jobs SET deleted_at = now() WHERE uid = ANY(:uids) AND deleted_at IS NULL RETURNING uid")
_ABSENT = text(
    "SELECT uid FROM jobs WHERE deleted_at IS NULL AND created_at < :before AND uid <> ALL(:present)"
    " ORDER BY uid LIMIT :limit"
)
_ROWS = text("SELECT * FROM jobs WHERE uid = ANY(:uids) ORDER BY uid")
_END_COLUMNS = {"uid": "text", "run": "int", "namespace": "text", "phase": "text", "finished_at": "timestamptz"}
_ENDS = text(
    "INSERT INTO job_ends (uid, run, namespace, phase, finished_at)"  # noqa: S608
    " SELECT uid, run, namespace, phase, coalesce(finished_at, now())"
    f" FROM {_recordset(_END_COLUMNS)} ON CONFLICT (uid, run) DO NOTHING RETURNING uid"
)
_USAGE_COLUMNS = {**_END_COLUMNS, "kind": "text", "provider": "text", "micros": "bigint", "currency": "text"}
_USAGE = text(
    "INSERT INTO usage (uid, run, namespace, kind, provider, phase, micros, currency, finished_at)"  # noqa: S608
    " SELECT uid, run, namespace, kind, provider, phase, micros, currency, coalesce(finished_at, now())"
    f" FROM {_recordset(_USAGE_COLUMNS)} ON CONFLICT (uid, run) DO NOTHING"
)
_VOICE_COLUMNS = {
    "uid": "text",
    "namespace": "text",
    "key": "text",
    "content_type": "text",
    "bytes": "bigint",
    "sha256": "text",
    "duration_seconds": "float8",
    "loudness_lufs": "float8",
    "voice_id": "text",
    "script": "text",
    "created_at": "timestamptz",
}
_VIDEO_COLUMNS = {
    "uid": "text",
    "namespace": "text",
    "key": "text",
    "content_type": "text",
    "bytes": "bigint",
    "sha256": "text",
    "duration_seconds": "float8",
    "width_px": "int",
    "height_px": "int",
    "poster_key": "text",
    "created_at": "timestamptz",
}


def _upsert_asset(table: str, columns: dict[str, str]) -> Any:
    names = ", ".join(columns)
    renewed = ", ".join(f"{name} = excluded.{name}" for name in columns if name != "uid")
    return text(
        f"INSERT INTO {table} ({names}) SELECT {names} FROM {_recordset(columns)}"  # noqa: S608
        f" ON CONFLICT (uid) DO UPDATE SET {renewed}"
    )


_VOICE = _upsert_asset("voice_assets", _VOICE_COLUMNS)
_VIDEO = _upsert_asset("videos", _VIDEO_COLUMNS)
_LOCK_EVENTS = text(
    f"SELECT pg_advisory_xact_lock({_EVENT_LOCK}, one.hash) FROM"  # noqa: S608
    " (SELECT DISTINCT hashtext(name) AS hash FROM unnest(CAST(:namespaces AS text[])) AS name ORDER BY hash) AS one"
)
_EVENTS = text(
    "WITH told AS (INSERT INTO job_events (namespace, uid, type, data)"
    " SELECT namespace, uid, type, data FROM jsonb_to_recordset(CAST(:rows AS jsonb))"
    " AS r(namespace text, uid text, type text, data jsonb, place int) ORDER BY place RETURNING namespace, uid)"
    " SELECT pg_notify(:channel, one.namespace || '/' || one.uid) FROM (SELECT DISTINCT namespace, uid FROM told) AS one"
)
"""Whoever listens is woken once the transaction is committed."""
_OUTBOX = text(
    "WITH fresh AS (INSERT INTO outbox (id, namespace, uid, type, data)"
    " SELECT id, namespace, uid, type, data FROM jsonb_to_recordset(CAST(:rows AS jsonb))"
    " AS r(id text, namespace text, uid text, type text, data jsonb)"
    " ON CONFLICT (id) DO NOTHING RETURNING id, namespace, type)"
    " INSERT INTO deliveries (endpoint_id, event_id) SELECT e.id, fresh.id FROM fresh"
    " JOIN webhook_endpoints e ON e.namespace = fresh.namespace AND e.enabled"
    " AND (e.types = '{}' OR fresh.type = ANY(e.types))"
)
_ARCHIVED = text(
    "SELECT j.uid FROM jobs j JOIN job_ends e ON e.uid = j.uid AND e.run = j.run"
    " WHERE j.uid = ANY(:uids) AND j.phase = ANY(:final)"
)


@dataclass(frozen=True, slots=True)
class RenderSeen:
    """A render as somebody saw it: the whole custom resource, or the last that was seen of a deleted one."""

    body: dict[str, Any]
    deleted: bool = False


class Mirror:
    """The one writer of `jobs` and what follows from it; the operator and the API both go through here."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def record(self, seen: Sequence[RenderSeen]) -> set[str]:
        """Store all of `seen`; returns the UIDs that are durably stored at that version or a newer one.

        A row that PostgreSQL refuses is left out and logged, so that one odd object cannot hold up all others.
        Raises StoreUnavailable when nothing more could be stored; calling again with the same is harmless.
        """
        stored: set[str] = set()
        for batch in _batches(seen):
            stored |= await self._record_or_split(batch)
        return stored

    async def archived(self, uids: Sequence[str]) -> set[str]:
        """Those of `uids` whose latest known run has ended and whose end is stored. Raises StoreUnavailable."""
        if not uids:
            return set()
        async with transaction(self._engine) as connection:
            found = await connection.execute(_ARCHIVED, {"uids": list(uids), "final": [one.value for one in FINAL]})
            return set(found.scalars())

    async def close_absent(self, present: Collection[str], before: datetime) -> int:
        """Mark all that was made before then and is not among `present` as deleted; how many these were.

        For who has just listed the cluster: what was deleted while nobody watched is not told by anybody else.
        Raises StoreUnavailable.
        """
        closed = 0
        while True:
            async with transaction(self._engine) as connection:
                missing = await absent(connection, present, before)
                gone = list((await connection.execute(_DELETED, {"uids": missing})).scalars())
                rows = [dict(row) for row in (await connection.execute(_ROWS, {"uids": gone})).mappings()]
                await _tell(connection, [_deletion(row) for row in rows])
            closed += len(gone)
            if len(missing) < _BATCH:
                return closed

    async def _record_or_split(self, batch: list[RenderSeen]) -> set[str]:
        try:
            async with transaction(self._engine) as connection:
                return await record(connection, batch)
        except (DBAPIError, KeyError, ValueError, TypeError) as refused:
            if len(batch) == 1:
                about = batch[0].body.get("metadata") or {}
                log.error("row refused", uid=about.get("uid"), name=about.get("name"), error=type(refused).__name__)
                return set()
        half = len(batch) // 2
        return await self._record_or_split(batch[:half]) | await self._record_or_split(batch[half:])


async def absent(connection: AsyncConnection, present: Collection[str], before: datetime) -> list[str]:
    """Some of the UIDs that are not marked as deleted, were made before then, and are not among `present`."""
    given = {"present": list(present), "before": before, "limit": _BATCH}
    return list((await connection.execute(_ABSENT, given)).scalars())


async def record(connection: AsyncConnection, batch: Sequence[RenderSeen]) -> set[str]:
    """As Mirror.record for one batch, within a transaction of the caller; each UID at most once."""
    rows = {row["uid"]: row for row in sorted((row_of(one.body) for one in batch), key=lambda row: str(row["uid"]))}
    written = {one.uid: one for one in await connection.execute(_UPSERT, {"rows": to_json(list(rows.values()))})}
    gone = [one.body["metadata"]["uid"] for one in batch if one.deleted]
    if gone:
        gone = list((await connection.execute(_DELETED, {"uids": gone})).scalars())

    changed = [row for uid, row in rows.items() if uid in written]
    ended = await _write_ends(connection, [row for row in changed if Phase(row["phase"]).is_final])
    events = [
        {"namespace": row["namespace"], "uid": row["uid"], "type": _event_of(row, ended), "data": snapshot(row)}
        for row in changed
        if row["uid"] in ended or written[row["uid"]].looks_new
    ]
    events += [_deletion(rows[uid]) for uid in gone]
    await _tell(connection, events)
    news = [
        _news(row)
        for row in changed
        if row["uid"] in ended or (row["phase"] == Phase.HELD and written[row["uid"]].phase_before != Phase.HELD)
    ]
    if news:
        await connection.execute(_OUTBOX, {"rows": to_json(news)})
    return set(rows)


def _deletion(row: Document) -> Document:
    """The event that says that a row's custom resource is gone."""
    return {"namespace": row["namespace"], "uid": row["uid"], "type": "deleted", "data": snapshot(row)}


async def _tell(connection: AsyncConnection, events: Sequence[Document]) -> None:
    """Write events in their order, after whatever their namespaces have told before, and wake who listens for them."""
    if events:
        await connection.execute(_LOCK_EVENTS, {"namespaces": list({one["namespace"] for one in events})})
        placed = [{**one, "place": place} for place, one in enumerate(events)]
        await connection.execute(_EVENTS, {"rows": to_json(placed), "channel": CHANNEL})


async def _write_ends(connection: AsyncConnection, final: list[Document]) -> set[str]:
    """Write ends that are not written yet, with their cost and media; returns their UIDs."""
    if not final:
        return set()
    fresh = set((await connection.execute(_ENDS, {"rows": to_json(final)})).scalars())
    ended = [row for row in final if row["uid"] in fresh]
    if not ended:
        return fresh
    await connection.execute(_USAGE, {"rows": to_json([{**row, **_cost(row)} for row in ended])})
    done = [row for row in ended if row["phase"] == Phase.SUCCEEDED]
    if voices := [made for row in done if row["kind"] == "VoiceJob" and (made := _voice(row))]:
        await connection.execute(_VOICE, {"rows": to_json(voices)})
    if videos := [made for row in done if row["kind"] == "VideoRender" and (made := _video(row))]:
        await connection.execute(_VIDEO, {"rows": to_json(videos)})
    return fresh


def _batches(seen: Sequence[RenderSeen]) -> list[list[RenderSeen]]:
    """The newest sight of each UID, in batches that keep a transaction short."""
    newest: dict[str, RenderSeen] = {}
    for one in seen:
        about = one.body["metadata"]
        known = newest.get(about["uid"])
        if known is None or _version(one) > _version(known):
            newest[about["uid"]] = RenderSeen(one.body, one.deleted or (known is not None and known.deleted))
        elif one.deleted:
            newest[about["uid"]] = RenderSeen(known.body, deleted=True)
    every = list(newest.values())
    return [every[start : start + _BATCH] for start in range(0, len(every), _BATCH)]


def _version(seen: RenderSeen) -> int:
    return int(seen.body["metadata"]["resourceVersion"])


def _event_of(row: Document, ended: set[str]) -> str:
    return "end" if row["uid"] in ended else "changed"


def _news(row: Document) -> Document:
    kind = event_type(Phase(row["phase"]))
    # A render may be held more than once in a run, so there the version tells the events apart.
    once = row["run"] if kind != "render.held" else row["resource_version"]
    return {
        "id": "evt_" + uuid.uuid5(_IDS, f"{row['uid']}/{kind}/{once}").hex,
        "namespace": row["namespace"],
        "uid": row["uid"],
        "type": kind,
        "data": {**snapshot(row), "cost": row["status"].get("cost")},
    }


def _cost(row: Document) -> Document:
    cost = row["status"].get("cost") or {}
    return {"micros": cost.get("actualMicros") or 0, "currency": cost.get("currency") or "USD"}


def _asset(row: Document, output: Document) -> Document:
    return {
        "uid": row["uid"],
        "namespace": row["namespace"],
        "key": output["key"],
        "content_type": output["contentType"],
        "bytes": output["bytes"],
        "sha256": output["sha256"],
        "duration_seconds": output.get("durationSeconds"),
        "created_at": row["created_at"],
    }


def _voice(row: Document) -> Document | None:
    speech = output_named(row, "speech")
    if speech is None:
        return None
    return {
        **_asset(row, speech),
        "loudness_lufs": speech.get("loudnessLufs"),
        "voice_id": row["spec"].get("voiceId"),
        "script": row["status"].get("script") or row["spec"].get("text"),
    }


def _video(row: Document) -> Document | None:
    video = output_named(row, "video")
    if video is None:
        return None
    poster = output_named(row, "poster")
    return {
        **_asset(row, video),
        "width_px": video.get("widthPx"),
        "height_px": video.get("heightPx"),
        "poster_key": poster["key"] if poster else None,
    }


__all__ = ["CHANNEL", "Mirror", "RenderSeen", "StoreUnavailable", "record"]
