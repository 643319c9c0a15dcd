"""Jobs of every kind: look, cancel, try again."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import StringConstraints

from renderfleet_api.auth import Reader, Writer
from renderfleet_api.conditional import UNCHANGED, Known
from renderfleet_api.links import OF_JOB
from renderfleet_api.parts import Use
from renderfleet_api.problems import NotFound, Refused, responses
from renderfleet_api.schemas import Instant, JobId
from renderfleet_api.submit import act
from renderfleet_api.views import Job, Page, page_of, place_of, version_of
from renderfleet_crds.phases import Phase
from renderfleet_store import jobs

from .common import Cursor, FoundJob, Limit, Show, find_job

router = APIRouter(tags=["jobs"])
LabelEquals = Annotated[str, StringConstraints(pattern=r"^[^=]+=[^=]*$", max_length=320)]
Kind = Literal["AvatarRender", "VoiceJob", "VideoRender"]


@router.get("/jobs", responses=responses() | UNCHANGED)
async def list_jobs(
    *,
    caller: Reader,
    parts: Use,
    show: Show,
    known: Known,
    kind: Kind | None = None,
    status: Annotated[list[Phase] | None, Query()] = None,
    client_reference: Annotated[str | None, Query(alias="clientReference", max_length=256)] = None,
    label: Annotated[list[LabelEquals] | None, Query(description="`name=value`; all must fit", max_length=16)] = None,
    created_after: Annotated[Instant | None, Query(alias="createdAfter")] = None,
    created_before: Annotated[Instant | None, Query(alias="createdBefore")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[Job]:
    """The tenant's jobs, newest first; also those made with kubectl or from Git."""
    wanted = jobs.JobFilter(
        namespace=caller.namespace,
        kind=kind,
        phases=[one.value for one in status or ()],
        client_reference=client_reference,
        labels=_labels(label),
        created_after=created_after,
        created_before=created_before,
    )
    async with parts.for_lists() as connection:
        rows = await jobs.page(connection, wanted, limit=limit + 1, after=place_of(cursor))
    known.check([version_of(row) for row in rows], has_links=True)
    return Page[Job](**page_of(rows, limit, "uid", show.job))


@router.get("/jobs/{job_id}", responses={200: {"links": OF_JOB}, **responses(NotFound), **UNCHANGED})
async def get_job(row: FoundJob, show: Show, known: Known) -> Job:
    """One job as it is now, with fresh links to its media; 304 when nothing has changed since the ETag."""
    known.check(version_of(row), has_links=bool(row["status"].get("outputs")))
    return show.job(row)


@router.post(
    "/jobs/{job_id}/cancel", status_code=202, responses={202: {"links": OF_JOB}, **responses(NotFound, Refused)}
)
async def cancel_job(job_id: JobId, caller: Writer, parts: Use, show: Show) -> Job:
    """Stop a job. One that never started is Aborted and costs nothing; one at work is Cancelled."""
    row = await find_job(parts, caller, job_id)
    if row["phase"] in {Phase.CANCELLED, Phase.ABORTED}:
        return show.job(row)
    if Phase(row["phase"]).is_final:
        raise Refused(f"The job is over: {row['phase']}.", code="job_over", job_id=job_id)
    return show.job(await act(parts, row, {"cancel": True}))


@router.post(
    "/jobs/{job_id}/retry", status_code=202, responses={202: {"links": OF_JOB}, **responses(NotFound, Refused)}
)
async def retry_job(job_id: JobId, caller: Writer, parts: Use, show: Show) -> Job:
    """Try again a job that ended badly or is held. Its input stays as it was; a paid call may be paid again."""
    row = await find_job(parts, caller, job_id)
    phase = Phase(row["phase"])
    asked = row["spec"].get("redrive", 0)
    if asked > row["run"]:
        # Already asked for; the operator has not answered yet.
        return show.job(row)
    if phase is Phase.SUCCEEDED or not (phase.is_final or phase is Phase.HELD):
        raise Refused(f"Only a job that ended badly or is held can be retried; this one is {phase}.",
                      code="not_retryable", job_id=job_id)  # fmt: skip
    return show.job(await act(parts, row, {"redrive": asked + 1, "cancel": False}))


def _labels(given: list[str] | None) -> dict[str, str]:
    pairs = (one.partition("=") for one in given or ())
    return {name: value for name, _, value in pairs}
