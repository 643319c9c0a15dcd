"""Many renders by one request: each item stands for itself, and one that is refused does not touch the others."""

import asyncio
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request
from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from renderfleet_api import problems
from renderfleet_api.auth import TenantCaller, Writer
from renderfleet_api.parts import Parts, Use
from renderfleet_api.problems import ProblemBody, invalid_field, invalid_request, responses
from renderfleet_api.schemas import AvatarPreviewRequest, Body, VideoRequest, VoiceRequest
from renderfleet_api.submit import Submitter
from renderfleet_api.views import Job, View
from renderfleet_api.wishes import wish_for
from renderfleet_crds.kinds import AVATAR_RENDER, VIDEO_RENDER, VOICE_JOB

from .common import IdempotencyKey, Show

router = APIRouter(tags=["jobs"])
MOST_ITEMS = 100
_AT_ONCE = 8


class AvatarPreviewItem(AvatarPreviewRequest):
    """As for POST /avatars/previews."""

    kind: Literal["AvatarRender"]


class VoiceItem(VoiceRequest):
    """As for POST /voice."""

    kind: Literal["VoiceJob"]


class VideoItem(VideoRequest):
    """As for POST /videos."""

    kind: Literal["VideoRender"]


_ITEMS: Final[dict[str, type[AvatarPreviewItem] | type[VoiceItem] | type[VideoItem]]] = {
    AVATAR_RENDER.kind: AvatarPreviewItem,
    VOICE_JOB.kind: VoiceItem,
    VIDEO_RENDER.kind: VideoItem,
}
_ANY_ITEM: Final[TypeAdapter[AvatarPreviewItem | VoiceItem | VideoItem]] = TypeAdapter(
    Annotated[AvatarPreviewItem | VoiceItem | VideoItem, Field(discriminator="kind")]
)


class _ReadLater:
    """Any object, which OpenAPI shows as what it has to be: each item is read, and perhaps refused, by itself."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler(source)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(_ANY_ITEM.core_schema)


class BulkRequest(Body):
    """Renders to be made."""

    items: Annotated[list[Annotated[dict[str, Any], _ReadLater()]], Field(min_length=1, max_length=MOST_ITEMS)]
    """Each is `kind` and the fields of that kind's own route."""


class BulkResult(View):
    """What became of one item: a job, or a problem."""

    status: int
    """As its own route would have answered."""
    job: Job | None = None
    problem: ProblemBody | None = None


class BulkAnswer(View):
    """One result for each item, in their order."""

    accepted: int
    results: list[BulkResult]


@router.post("/jobs", responses=responses())
async def submit_many(
    *,
    body: BulkRequest,
    request: Request,
    caller: Writer,
    parts: Use,
    show: Show,
    idempotency_key: IdempotencyKey = None,
) -> BulkAnswer:
    """Make many renders. With an Idempotency-Key, the same list may be sent again: what was made is not made twice."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(place: int, item: dict[str, Any]) -> BulkResult:
        key = f"{idempotency_key}/{place}" if idempotency_key else None
        async with gate:
            try:
                return BulkResult(status=202, job=show.job(await _submit(item, key, caller, parts)))
            except Exception as failed:
                problem = problems.problem_of(failed)
                return BulkResult(status=problem.status, problem=problem.told(request.url.path))

    results = await asyncio.gather(*(one(place, item) for place, item in enumerate(body.items)))
    return BulkAnswer(accepted=sum(one.job is not None for one in results), results=list(results))


async def _submit(item: dict[str, Any], key: str | None, caller: TenantCaller, parts: Parts) -> Any:
    model = _ITEMS.get(str(item.get("kind", "")))
    if model is None:
        raise invalid_field("kind", f"must be one of {', '.join(_ITEMS)}")
    try:
        wanted = model.model_validate(item)
    except ValidationError as broken:
        raise invalid_request(broken) from broken
    wish = await wish_for(wanted, caller, parts)
    return (await Submitter(parts, caller).submit(wish, key)).row
