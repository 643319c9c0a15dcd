"""Live updates by server-sent events.

`changed` and `end` carry the job in short; `done` carries it whole, with links, and is the last of a job's stream.
`reset` says that the place to resume from is gone: what follows starts at the present.
"""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy.ext.asyncio import AsyncConnection

from renderfleet_api.auth import Reader
from renderfleet_api.parts import Parts, Use
from renderfleet_api.problems import NotFound, responses
from renderfleet_api.streams import Event, Lagging
from renderfleet_api.submit import is_over
from renderfleet_api.views import Row
from renderfleet_store import jobs
from renderfleet_store.engine import StoreUnavailable, transaction

from .common import FoundJob, Show

router = APIRouter(tags=["events"])
LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", description="The id of the last event that was received")
]
_RETRY_MILLISECONDS = 1000


@router.get("/jobs/{job_id}/events", response_class=EventSourceResponse, responses=responses(NotFound))
async def follow_job(
    row: FoundJob, parts: Use, show: Show, last_event_id: LastEventId = None
) -> AsyncIterator[ServerSentEvent]:
    """All that happens to one job until it is over."""
    uid, namespace = row["uid"], row["namespace"]
    async with parts.hub.listen(namespace, uid) as listener:
        start = _number(last_event_id)
        async with transaction(parts.primary) as connection:
            forgotten = start > 0 and await jobs.is_forgotten(connection, start)
            past = await jobs.events_of_job(connection, uid, 0 if forgotten else start)
            now = await _fresh(connection, row)
        if forgotten:
            yield ServerSentEvent(event="reset", data={"reason": "the events after this id are no longer kept"})
        seen = start
        for old in map(Event.of, past):
            seen = old.seq
            yield _sse(old)
        try:
            while not is_over(now):
                event = await listener.next()
                if event is None:
                    return
                if event.seq <= seen:
                    continue
                seen = event.seq
                yield _sse(event)
                if event.type in {"end", "deleted"}:
                    now = await _again(parts, now)
        except (Lagging, StoreUnavailable):
            return
        yield ServerSentEvent(event="done", id=str(seen), data=show.job(now).model_dump(mode="json", by_alias=True))


@router.get("/events", response_class=EventSourceResponse, responses=responses())
async def follow_tenant(
    caller: Reader, parts: Use, last_event_id: LastEventId = None
) -> AsyncIterator[ServerSentEvent]:
    """All that happens to the tenant's jobs, from now on or from Last-Event-ID on; without end."""
    async with parts.hub.listen(caller.namespace) as listener:
        async with transaction(parts.primary) as connection:
            newest = await jobs.latest_event(connection, caller.namespace)
            start = _number(last_event_id) if last_event_id else newest
            forgotten = start > 0 and await jobs.is_forgotten(connection, start)
        if forgotten:
            start = newest
            yield ServerSentEvent(event="reset", data={"reason": "the events after this id are no longer kept"})
        yield ServerSentEvent(event="hello", id=str(start), data={"cursor": start}, retry=_RETRY_MILLISECONDS)
        seen = start
        try:
            while seen < newest:
                async with transaction(parts.primary) as connection:
                    past = await jobs.events_of_namespace(connection, caller.namespace, seen)
                if not past:
                    break
                for event in map(Event.of, past):
                    seen = event.seq
                    yield _sse(event)
            while (live := await listener.next()) is not None:
                if live.seq > seen:
                    seen = live.seq
                    yield _sse(live)
        except (Lagging, StoreUnavailable):
            # The client comes back with the last id it saw.
            return


def _sse(event: Event) -> ServerSentEvent:
    return ServerSentEvent(id=str(event.seq), event=event.type, raw_data=event.json, retry=_RETRY_MILLISECONDS)


def _number(last_event_id: str | None) -> int:
    """0 for none, and for an id that is none of ours."""
    return int(last_event_id) if last_event_id and last_event_id.isdecimal() and len(last_event_id) < 19 else 0


async def _again(parts: Parts, row: Row) -> Row:
    async with transaction(parts.primary) as connection:
        return await _fresh(connection, row)


async def _fresh(connection: AsyncConnection, row: Row) -> Row:
    return await jobs.get(connection, row["namespace"], row["uid"]) or row
