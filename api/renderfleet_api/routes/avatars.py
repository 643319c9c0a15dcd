"""Faces: preview them, keep the best."""

import uuid
from pathlib import PurePosixPath
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import RowMapping

from renderfleet_api.auth import Reader, Writer
from renderfleet_api.parts import Use
from renderfleet_api.problems import NotFound, Refused, invalid_field, responses
from renderfleet_api.schemas import AvatarChange, AvatarPreviewRequest, AvatarSave
from renderfleet_api.views import Avatar, Estimate, Job, Page, page_of, place_of
from renderfleet_crds import meta
from renderfleet_crds.kinds import AVATAR_RENDER
from renderfleet_crds.phases import Phase
from renderfleet_store import avatars
from renderfleet_store.documents import output_named
from renderfleet_store.engine import transaction

from .common import SUBMITTED, Cursor, How, Limit, Show, find_job, submit

router = APIRouter(tags=["avatars"])
_IDS = uuid.UUID("5a0a1f52-0a0b-5d77-8f3e-52464156aaaa")


@router.post("/avatars/previews", status_code=202, responses=SUBMITTED)
async def preview_avatar(
    *, body: AvatarPreviewRequest, response: Response, caller: Writer, parts: Use, show: Show, ask: How
) -> Job | Estimate:
    """Ask for pictures of a face. They appear as the job's outputs `image-1`, `image-2` …"""
    return await submit(parts=parts, caller=caller, show=show, body=body, ask=ask, response=response)


@router.post("/avatars", status_code=201, responses=responses(NotFound, Refused))
async def save_avatar(*, body: AvatarSave, caller: Writer, parts: Use, show: Show, response: Response) -> Avatar:
    """Keep one picture of a finished preview. Saving the same picture again gives the same avatar."""
    row = await find_job(parts, caller, body.job_id)
    picture = _picture(row, body.index)
    identity = uuid.uuid5(_IDS, f"{row['uid']}/{row['run']}/{body.index}").hex
    key = f"{meta.media_prefix(caller.namespace)}avatars/{identity}{PurePosixPath(picture['key']).suffix}"
    # First the picture, then the row: a crash in between leaves a file that the next try finds and uses.
    if await parts.media.head(key) is None:
        try:
            await parts.media.copy(picture["key"], key)
        except FileNotFoundError:
            raise Refused("The picture is no longer in the storage.", code="media_gone", job_id=row["uid"]) from None
    values = {
        "id": identity,
        "namespace": caller.namespace,
        "name": body.name,
        "key": key,
        "content_type": picture["contentType"],
        "bytes": picture["bytes"],
        "sha256": picture["sha256"],
        "width_px": picture.get("widthPx"),
        "height_px": picture.get("heightPx"),
        "job_uid": row["uid"],
        "job_index": body.index,
    }
    async with parts.turns.of(caller.namespace), transaction(parts.primary) as connection:
        saved = await avatars.save(connection, values, preferred=body.preferred)
    response.headers["Location"] = f"{parts.settings.public_url}/avatars/{identity}"
    return show.avatar(saved)


@router.get("/avatars", responses=responses())
async def list_avatars(
    *, caller: Reader, parts: Use, show: Show, limit: Limit = 50, cursor: Cursor = None
) -> Page[Avatar]:
    """The tenant's avatars, newest first."""
    async with transaction(parts.replica) as connection:
        rows = await avatars.page(connection, caller.namespace, limit=limit + 1, after=place_of(cursor))
    return Page[Avatar](**page_of(rows, limit, "id", show.avatar))


@router.get("/avatars/{avatar_id}", responses=responses(NotFound))
async def get_avatar(avatar_id: str, caller: Reader, parts: Use, show: Show) -> Avatar:
    """One avatar with a fresh link."""
    async with transaction(parts.primary) as connection:
        row = await avatars.get(connection, caller.namespace, avatar_id)
    return show.avatar(_there(row))


@router.patch("/avatars/{avatar_id}", responses=responses(NotFound))
async def change_avatar(*, avatar_id: str, body: AvatarChange, caller: Writer, parts: Use, show: Show) -> Avatar:
    """Rename an avatar, or make it the preferred one."""
    async with parts.turns.of(caller.namespace), transaction(parts.primary) as connection:
        row = await avatars.change(connection, caller.namespace, avatar_id, name=body.name, preferred=body.preferred)
    return show.avatar(_there(row))


@router.delete("/avatars/{avatar_id}", status_code=204, responses=responses(NotFound))
async def delete_avatar(avatar_id: str, caller: Writer, parts: Use) -> None:
    """Forget an avatar and its picture; videos made of it stay."""
    async with transaction(parts.primary) as connection:
        key = await avatars.remove(connection, caller.namespace, avatar_id)
    if key is None:
        raise NotFound("There is no avatar of that id.")
    await parts.media.delete(key)


def _there(row: RowMapping | None) -> RowMapping:
    if row is None:
        raise NotFound("There is no avatar of that id.")
    return row


def _picture(row: RowMapping, index: int) -> dict[str, Any]:
    """The output that is to be saved. Raises Refused or InvalidRequest."""
    if row["kind"] != AVATAR_RENDER.kind:
        raise invalid_field("jobId", f"is a {row['kind']}; an avatar preview is needed")
    if row["phase"] != Phase.SUCCEEDED:
        raise Refused(f"The preview is {row['phase']}; only a succeeded one can be saved.", code="not_finished",
                      job_id=row["uid"])  # fmt: skip
    picture = output_named(dict(row), f"image-{index}")
    if picture is None:
        raise invalid_field("index", "the preview has no picture of that number")
    return picture
