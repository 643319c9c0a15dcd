"""From a request body to what shall be made: ids become names and keys, and only the caller's own media may be used."""

from typing import Any

from sqlalchemy import RowMapping

from renderfleet_crds.kinds import AVATAR_RENDER, VIDEO_RENDER, VOICE_JOB
from renderfleet_crds.meta import media_prefix
from renderfleet_store import avatars, jobs
from renderfleet_store.engine import transaction

from .auth import TenantCaller
from .parts import Parts
from .problems import invalid_field
from .schemas import AvatarPreviewRequest, VideoRequest, VoiceRequest
from .submit import Wish, request_digest

RenderRequest = AvatarPreviewRequest | VoiceRequest | VideoRequest


async def wish_for(body: RenderRequest, caller: TenantCaller, parts: Parts) -> Wish:
    """What the body asks for. Raises InvalidRequest for ids and keys that lead nowhere or to somebody else."""
    spec = body.spec()
    match body:
        case AvatarPreviewRequest():
            kind = AVATAR_RENDER
            _own_key(caller, "baseImageKey", body.base_image_key)
        case VoiceRequest():
            kind = VOICE_JOB
        case VideoRequest():
            kind = VIDEO_RENDER
            spec |= {**await _face(body, caller, parts), **await _voice(body, caller, parts)}
    # Of the body as it was given: what an id leads to may change between two tries of one request.
    digest = request_digest(kind.kind, body.model_dump(mode="json", exclude={"kind"}))
    return Wish(kind, spec, body.name, dict(body.labels), digest)


def _own_key(caller: TenantCaller, field: str, key: str | None) -> None:
    prefix = media_prefix(caller.namespace)
    if key is not None and (not key.startswith(prefix) or ".." in key.split("/")):
        raise invalid_field(field, f"must begin with {prefix}")


async def _face(body: VideoRequest, caller: TenantCaller, parts: Parts) -> dict[str, Any]:
    """What the spec says of the avatar."""
    _own_key(caller, "avatarKey", body.avatar_key)
    if body.avatar_key or body.avatar_ref:
        return {}
    if body.avatar_job_id:
        row = await _job(body.avatar_job_id, AVATAR_RENDER.kind, "avatarJobId", caller, parts)
        return {"avatarRef": {"name": row["name"], "index": body.avatar_index}}
    async with transaction(parts.primary) as connection:
        if body.avatar_id:
            avatar = await avatars.get(connection, caller.namespace, body.avatar_id)
        else:
            avatar = await avatars.preferred_of(connection, caller.namespace)
    if avatar is None:
        raise invalid_field("avatarId", "no such avatar" if body.avatar_id else "name an avatar, or prefer one before")
    return {"avatarKey": avatar["key"]}


async def _voice(body: VideoRequest, caller: TenantCaller, parts: Parts) -> dict[str, Any]:
    """What the spec says of the recording."""
    _own_key(caller, "audioKey", body.audio_key)
    if body.voice_job_id is None:
        return {}
    row = await _job(body.voice_job_id, VOICE_JOB.kind, "voiceJobId", caller, parts)
    return {"voiceRef": {"name": row["name"]}}


async def _job(job_id: str, kind: str, field: str, caller: TenantCaller, parts: Parts) -> RowMapping:
    async with transaction(parts.primary) as connection:
        row = await jobs.get(connection, caller.namespace, job_id)
    if row is None:
        raise invalid_field(field, "no such job")
    if row["kind"] != kind:
        raise invalid_field(field, f"is a {row['kind']}, not a {kind}")
    if row["deleted_at"] is not None:
        raise invalid_field(field, "its object is no longer in the cluster; name its media by their key instead")
    return row
