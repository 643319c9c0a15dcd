"""What several routes need: headers, pages, and the answer to a submit."""

import asyncio
import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Query, Request, Response
from sqlalchemy import RowMapping

from renderfleet_api.auth import Reader, TenantCaller
from renderfleet_api.estimates import estimate
from renderfleet_api.links import OF_JOB, leads_to
from renderfleet_api.parts import Parts, parts_of
from renderfleet_api.problems import LimitReached, NotFound, Refused, responses
from renderfleet_api.schemas import JobId
from renderfleet_api.submit import Accepted, Submitter, is_over
from renderfleet_api.views import Estimate, Job, Presenter, Row
from renderfleet_api.wishes import RenderRequest, wish_for
from renderfleet_store import jobs
from renderfleet_store.engine import single, transaction

Limit = Annotated[int, Query(ge=1, le=200, description="How many items at most")]
Cursor = Annotated[str | None, Query(max_length=500, description="nextCursor of the part before")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Any text of your own. The same key with the same body gives the same job, however often it is sent.",
    ),
]
Prefer = Annotated[
    str | None,
    Header(
        description="`wait=n`: answer when the job is over, or after n seconds (at most 60); `respond-async`: "
        "with 202 if it is not over, as is usual here anyway. RFC 7240."
    ),
]
MAX_WAIT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Ask:
    """How a render is asked for, besides what."""

    key: str | None = None
    prefer: str | None = None
    dry_run: bool = False


async def how_asked(
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
    dry_run: Annotated[bool, Query(alias="dryRun", description="Check and estimate only; make nothing")] = False,
) -> Ask:
    """Headers and query of a submit."""
    return Ask(idempotency_key, prefer, dry_run)


How = Annotated[Ask, Depends(how_asked)]


async def presenter(request: Request) -> Presenter:
    """Makes views with links."""
    parts = await parts_of(request)
    return Presenter(parts.media, public_url=parts.settings.public_url, ttl_seconds=parts.settings.link_ttl_seconds)


Show = Annotated[Presenter, Depends(presenter)]


async def job_row(job_id: JobId, caller: Reader, request: Request) -> RowMapping:
    """The caller's job of that id. Raises NotFound, also for somebody else's."""
    return await find_job(await parts_of(request), caller, job_id)


FoundJob = Annotated[RowMapping, Depends(job_row)]


async def find_job(parts: Parts, caller: TenantCaller, job_id: str) -> RowMapping:
    """The caller's job of that id. Raises NotFound, also for somebody else's."""
    async with single(parts.primary) as connection:
        row = await jobs.get(connection, caller.namespace, job_id)
    if row is None:
        raise NotFound("There is no job of that id.", job_id=job_id)
    return row


def wait_seconds(prefer: str | None) -> float | None:
    """How long the caller would wait for the end; None when it did not ask to."""
    found = re.search(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?", prefer or "", re.IGNORECASE)
    return float(min(int(found[1]), MAX_WAIT_SECONDS)) if found else None


def prefers_async(prefer: str | None) -> bool:
    """Whether the caller said that it would rather not wait for the end."""
    return re.search(r"(?:^|[,;\s])respond-async(?:$|[,;\s])", prefer or "", re.IGNORECASE) is not None


_HEADERS = ("Location", "Idempotent-Replayed", "Preference-Applied")
SUBMITTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": Job | Estimate,
        **leads_to("Over within the time waited for; or the estimate of a dry run", {}, *_HEADERS),
    },
    202: {"model": Job | Estimate, **leads_to("Accepted; its state is at Location", OF_JOB, *_HEADERS)},
    **responses(Refused, LimitReached),
}


async def submit(
    *,
    parts: Parts,
    caller: TenantCaller,
    show: Presenter,
    body: RenderRequest,
    ask: Ask,
    response: Response,
) -> Job | Estimate:
    """Make the render and answer 202 with its place; with `Prefer: wait`, 200 when it is over in time.

    As a dry run, 200 and an estimate, and nothing is made.
    """
    wish = await wish_for(body, caller, parts)
    submitter = Submitter(parts, caller)
    if ask.dry_run:
        response.status_code = 200
        return await estimate(parts, wish.kind, await submitter.rehearse(wish))
    accepted: Accepted = await submitter.submit(wish, ask.key)
    row: Row = accepted.row
    response.status_code = 202
    if accepted.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    patience = wait_seconds(ask.prefer)
    if patience is not None:
        row = await await_end(parts, row, patience)
        if is_over(row):
            response.status_code = 200
    applied = ["respond-async"] if response.status_code == 202 and prefers_async(ask.prefer) else []
    if patience is not None:
        applied.append(f"wait={math.floor(patience)}")
    if applied:
        response.headers["Preference-Applied"] = ", ".join(applied)
    job = show.job(row)
    response.headers["Location"] = job.links.self
    return job


async def await_end(parts: Parts, row: Row, seconds: float) -> Row:
    """The job when it is over, or as it is after `seconds`."""
    async with parts.hub.listen(row["namespace"], row["uid"]) as listener:
        now = await _again(parts, row)
        try:
            async with asyncio.timeout(seconds):
                while not is_over(now):
                    if await listener.next() is None:
                        break
                    now = await _again(parts, row)
        except TimeoutError:
            pass
    return now


async def _again(parts: Parts, row: Row) -> Row:
    async with transaction(parts.primary) as connection:
        return await jobs.get(connection, row["namespace"], row["uid"]) or row
