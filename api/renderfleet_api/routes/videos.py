"""Talking videos from a face and a voice."""

from typing import Any

from fastapi import APIRouter, Request, Response

from renderfleet_api.auth import Reader, TenantCaller, Writer
from renderfleet_api.parts import Parts, Use
from renderfleet_api.problems import LimitReached, Refused, invalid_field, responses
from renderfleet_api.schemas import VideoRequest
from renderfleet_api.submit import Wish
from renderfleet_api.views import Job, Page, Video, page_of, place_of
from renderfleet_crds.kinds import AVATAR_RENDER, VIDEO_RENDER, VOICE_JOB
from renderfleet_store import avatars, jobs
from renderfleet_store.engine import transaction

from .common import Cursor, IdempotencyKey, Limit, Prefer, Show, own_key, submit, wish_digest

router = APIRouter(tags=["videos"])


@router.post("/videos", status_code=202, responses=responses(Refused, LimitReached))
async def create_video(
    *,
    body: VideoRequest,
    request: Request,
    response: Response,
    caller: Writer,
    parts: Use,
    show: Show,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Job:
    """Ask for a talking video. Avatar and voice may be jobs that are not finished yet: the video waits for them."""
    digest = wish_digest(request, body.model_dump(mode="json"))
    spec = {**body.spec(), **await _face(body, caller, parts), **await _voice(body, caller, parts)}
    wish = Wish(VIDEO_RENDER, spec, body.name, dict(body.labels), digest)
    return await submit(
        parts=parts, caller=caller, show=show, wish=wish, key=idempotency_key, prefer=prefer, response=response
    )


@router.get("/videos", responses=responses())
async def list_videos(
    *, caller: Reader, parts: Use, show: Show, limit: Limit = 50, cursor: Cursor = None
) -> Page[Video]:
    """Finished videos, newest first; those not finished yet are in `GET /jobs?kind=VideoRender`."""
    async with transaction(parts.replica) as connection:
        rows = await jobs.video_page(connection, caller.namespace, limit=limit + 1, after=place_of(cursor))
    return Page[Video](**page_of(rows, limit, "uid", show.video))


async def _face(body: VideoRequest, caller: TenantCaller, parts: Parts) -> dict[str, Any]:
    """What the spec says of the avatar: ids become keys and names."""
    own_key(caller, "avatarKey", body.avatar_key)
    if body.avatar_key or body.avatar_ref:
        return {}
    if body.avatar_job_id:
        name = await _name_of(body.avatar_job_id, AVATAR_RENDER.kind, "avatarJobId", caller, parts)
        return {"avatarRef": {"name": name, "index": body.avatar_index}}
    async with transaction(parts.primary) as connection:
        if body.avatar_id:
            avatar = await avatars.get(connection, caller.namespace, body.avatar_id)
        else:
            avatar = await avatars.preferred_of(connection, caller.namespace)
    if avatar is None:
        raise invalid_field("avatarId", "no such avatar" if body.avatar_id else "name an avatar, or prefer one before")
    return {"avatarKey": avatar["key"]}


async def _voice(body: VideoRequest, caller: TenantCaller, parts: Parts) -> dict[str, Any]:
    own_key(caller, "audioKey", body.audio_key)
    if body.voice_job_id is None:
        return {}
    return {"voiceRef": {"name": await _name_of(body.voice_job_id, VOICE_JOB.kind, "voiceJobId", caller, parts)}}


async def _name_of(job_id: str, kind: str, field: str, caller: TenantCaller, parts: Parts) -> str:
    async with transaction(parts.primary) as connection:
        row = await jobs.get(connection, caller.namespace, job_id)
    if row is None:
        raise invalid_field(field, "no such job")
    if row["kind"] != kind:
        raise invalid_field(field, f"is a {row['kind']}, not a {kind}")
    if row["deleted_at"] is not None:
        raise invalid_field(field, "its object is no longer in the cluster; name its media by their key instead")
    return str(row["name"])
