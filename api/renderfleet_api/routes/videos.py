"""Talking videos from a face and a voice."""

from fastapi import APIRouter, Response

from renderfleet_api.auth import Reader, Writer
from renderfleet_api.conditional import UNCHANGED, Known
from renderfleet_api.parts import Use
from renderfleet_api.problems import responses
from renderfleet_api.schemas import VideoRequest
from renderfleet_api.views import Estimate, Job, Page, Video, page_of, place_of
from renderfleet_store import jobs

from .common import SUBMITTED, Cursor, How, Limit, Show, submit

router = APIRouter(tags=["videos"])


@router.post("/videos", status_code=202, responses=SUBMITTED)
async def create_video(
    *, body: VideoRequest, response: Response, caller: Writer, parts: Use, show: Show, ask: How
) -> Job | Estimate:
    """Ask for a talking video. Avatar and voice may be jobs that are not finished yet: the video waits for them."""
    return await submit(parts=parts, caller=caller, show=show, body=body, ask=ask, response=response)


@router.get("/videos", responses=responses() | UNCHANGED)
async def list_videos(
    *, caller: Reader, parts: Use, show: Show, known: Known, limit: Limit = 50, cursor: Cursor = None
) -> Page[Video]:
    """Finished videos, newest first; those not finished yet are in `GET /jobs?kind=VideoRender`."""
    async with parts.for_lists() as connection:
        rows = await jobs.video_page(connection, caller.namespace, limit=limit + 1, after=place_of(cursor))
    known.check(rows, has_links=True)
    return Page[Video](**page_of(rows, limit, "uid", show.video))
