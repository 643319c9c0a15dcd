"""Speech from a text or a prompt."""

from fastapi import APIRouter, Response

from renderfleet_api.auth import Reader, Writer
from renderfleet_api.conditional import UNCHANGED, Known
from renderfleet_api.parts import Use
from renderfleet_api.problems import responses
from renderfleet_api.schemas import VoiceRequest
from renderfleet_api.views import Estimate, Job, Page, Recording, page_of, place_of
from renderfleet_store import jobs

from .common import SUBMITTED, Cursor, How, Limit, Show, submit

router = APIRouter(tags=["voice"])


@router.post("/voice", status_code=202, responses=SUBMITTED)
async def create_voice(
    *, body: VoiceRequest, response: Response, caller: Writer, parts: Use, show: Show, ask: How
) -> Job | Estimate:
    """Ask for speech: of `text` as it stands, or of a script written from `prompt`."""
    return await submit(parts=parts, caller=caller, show=show, body=body, ask=ask, response=response)


@router.get("/voice", responses=responses() | UNCHANGED)
async def list_voice(
    *, caller: Reader, parts: Use, show: Show, known: Known, limit: Limit = 50, cursor: Cursor = None
) -> Page[Recording]:
    """Finished recordings, newest first; those not finished yet are in `GET /jobs?kind=VoiceJob`."""
    async with parts.for_lists() as connection:
        rows = await jobs.voice_page(connection, caller.namespace, limit=limit + 1, after=place_of(cursor))
    known.check(rows, has_links=True)
    return Page[Recording](**page_of(rows, limit, "uid", show.recording))
