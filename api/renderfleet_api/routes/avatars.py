"""Faces: preview them, keep the best."""

import secrets
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import structlog
from fastapi import APIRouter, Response
from sqlalchemy import RowMapping

from renderfleet_api.auth import Reader, TenantCaller, Writer
from renderfleet_api.conditional import UNCHANGED, Known
from renderfleet_api.links import OF_AVATAR, leads_to
from renderfleet_api.parts import Parts, Use
from renderfleet_api.problems import NotFound, Refused, invalid_field, responses
from renderfleet_api.schemas import AvatarChange, AvatarPreviewRequest, AvatarSave
from renderfleet_api.views import Avatar, Estimate, Job, Page, page_of, place_of
from renderfleet_crds import meta
from renderfleet_crds.kinds import AVATAR_RENDER
from renderfleet_crds.phases import Phase
from renderfleet_store import avatars
from renderfleet_store.documents import output_named
from renderfleet_store.engine import transaction
from renderfleet_store.media import MediaUnavailable

from .common import SUBMITTED, Cursor, How, Limit, Show, find_job, submit

log = structlog.get_logger(__name__)

router = APIRouter(tags=["avatars"])
_IDS = uuid.UUID("5a0a1f52-0a0b-5d77-8f3e-52464156aaaa")


@router.post("/avatars/previews", status_code=202, responses=SUBMITTED)
async def preview_avatar(
    *, body: AvatarPreviewRequest, response: Response, caller: Writer, parts: Use, show: Show, ask: How
) -> Job | Estimate:
    """Ask for pictures of a face. They appear as the job's outputs `image-1`, `image-2` …"""
    return await submit(parts=parts, caller=caller, show=show, body=body, ask=ask, response=response)


@router.post(
    "/avatars",
    status_code=201,
    responses={201: leads_to("Saved", OF_AVATAR, "Location"), **responses(NotFound, Refused)},
)
async def save_avatar(*, body: AvatarSave, caller: Writer, parts: Use, show: Show, response: Response) -> Avatar:
    """Keep one picture of a finished preview, or one from an allowed host. The same picture gives the same avatar."""
    picked = await _from_preview(parts, caller, body) if body.job_id else await _from_elsewhere(parts, caller, body)
    async with parts.turns.of(caller.namespace), transaction(parts.primary) as connection:
        wanted = True if body.preferred else None
        saved = await avatars.change(connection, caller.namespace, picked.values["id"], name=None, preferred=wanted)
    if saved is None:
        saved = await _keep(parts, caller, picked, preferred=body.preferred)
    response.headers["Location"] = f"{parts.settings.public_url}/avatars/{saved['id']}"
    return show.avatar(saved)


@router.get("/avatars", responses=responses() | UNCHANGED)
async def list_avatars(
    *, caller: Reader, parts: Use, show: Show, known: Known, limit: Limit = 50, cursor: Cursor = None
) -> Page[Avatar]:
    """The tenant's avatars, newest first."""
    async with parts.for_lists() as connection:
        rows = await avatars.page(connection, caller.namespace, limit=limit + 1, after=place_of(cursor))
    known.check(rows, has_links=True)
    return Page[Avatar](**page_of(rows, limit, "id", show.avatar))


@router.get("/avatars/{avatar_id}", responses=responses(NotFound) | UNCHANGED)
async def get_avatar(*, avatar_id: str, caller: Reader, parts: Use, show: Show, known: Known) -> Avatar:
    """One avatar with a fresh link."""
    async with transaction(parts.primary) as connection:
        row = _there(await avatars.get(connection, caller.namespace, avatar_id))
    known.check(row, has_links=True)
    return show.avatar(row)


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
        # Before the commit: when the storage is away the row stays, and says that the picture may still be there.
        await parts.media.delete(key)


def _there(row: RowMapping | None) -> RowMapping:
    if row is None:
        raise NotFound("There is no avatar of that id.")
    return row


@dataclass(frozen=True, slots=True)
class _Picked:
    """A picture that is to be kept, and how to bring it to a place of its own."""

    values: dict[str, Any]
    """The avatar's row, without the place."""
    suffix: str
    store_as: Callable[[str], Awaitable[None]]


async def _keep(parts: Parts, caller: TenantCaller, picked: _Picked, *, preferred: bool) -> RowMapping:
    """The avatar's row, whose picture is in the storage.

    First the picture, then the row, so that a row never leads nowhere. Each try writes to a place of its own, so that
    none can take away what another one's row leads to; who comes second takes its picture back, and so does who cannot
    write the row. A crash in between leaves a picture without a row: nobody is led to it, and the janitor finds it.
    """
    key = f"{meta.avatar_prefix(caller.namespace)}{picked.values['id']}-{secrets.token_hex(4)}{picked.suffix}"
    await picked.store_as(key)
    is_written = False
    try:
        async with parts.turns.of(caller.namespace), transaction(parts.primary) as connection:
            saved = await avatars.save(connection, {**picked.values, "key": key}, preferred=preferred)
            is_written = True
    except BaseException:
        # Past the write the commit may have come through unseen: its row must not lose the picture, so that one stays.
        if not is_written:
            await _take_back(parts, key)
        raise
    if saved["key"] != key:
        await _take_back(parts, key)
    return saved


async def _take_back(parts: Parts, key: str) -> None:
    """Delete a picture that no row leads to. One that cannot be deleted is left to the janitor."""
    try:
        await parts.media.delete(key)
    except MediaUnavailable as away:
        log.warning("a picture without an avatar could not be deleted", key=key, error=str(away))


async def _from_preview(parts: Parts, caller: TenantCaller, body: AvatarSave) -> _Picked:
    """A picture of a preview. Raises NotFound, Refused or InvalidRequest."""
    row = await find_job(parts, caller, str(body.job_id))
    picture = _picture(row, body.index)

    async def copy(key: str) -> None:
        try:
            await parts.media.copy(picture["key"], key)
        except FileNotFoundError:
            raise Refused("The picture is no longer in the storage.", code="media_gone", job_id=row["uid"]) from None

    values = {
        "id": uuid.uuid5(_IDS, f"{row['uid']}/{row['run']}/{body.index}").hex,
        "namespace": caller.namespace,
        "name": body.name,
        "content_type": picture["contentType"],
        "bytes": picture["bytes"],
        "sha256": picture["sha256"],
        "width_px": picture.get("widthPx"),
        "height_px": picture.get("heightPx"),
        "job_uid": row["uid"],
        "job_index": body.index,
    }
    return _Picked(values, PurePosixPath(picture["key"]).suffix, copy)


async def _from_elsewhere(parts: Parts, caller: TenantCaller, body: AvatarSave) -> _Picked:
    """A picture of an allowed host. Raises InvalidRequest or NotNow."""
    fetched = await parts.pictures.fetch(str(body.image_url), "imageUrl")
    about = fetched.about

    async def write(key: str) -> None:
        await parts.media.write(key, fetched.data, about.content_type)

    values = {
        "id": uuid.uuid5(_IDS, f"{caller.namespace}/{fetched.sha256}").hex,
        "namespace": caller.namespace,
        "name": body.name,
        "content_type": about.content_type,
        "bytes": len(fetched.data),
        "sha256": fetched.sha256,
        "width_px": about.width_px,
        "height_px": about.height_px,
    }
    return _Picked(values, {"image/png": ".png", "image/jpeg": ".jpg"}[about.content_type], write)


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
