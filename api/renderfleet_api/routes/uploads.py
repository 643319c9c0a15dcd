"""Uploads: a signed form; the bytes go from the client straight to the storage."""

import secrets
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter

from renderfleet_api.auth import Writer
from renderfleet_api.parts import Use
from renderfleet_api.problems import invalid_field, responses
from renderfleet_api.schemas import UploadRequest
from renderfleet_api.views import View
from renderfleet_crds import meta

router = APIRouter(tags=["uploads"])
_SUFFIX = {"image/png": ".png", "image/jpeg": ".jpg", "audio/mpeg": ".mp3", "audio/wav": ".wav"}


class Upload(View):
    """Where and how to send one file: POST `fields` and then `file` as multipart/form-data to `url`."""

    key: str
    """What to give as avatarKey, baseImageKey or audioKey afterwards."""
    url: str
    fields: dict[str, str]
    max_bytes: int
    expires_at: datetime


@router.post("/uploads", status_code=201, responses=responses())
async def create_upload(body: UploadRequest, caller: Writer, parts: Use) -> Upload:
    """Allow one upload of a picture or a recording of your own."""
    settings = parts.settings
    limit = body.bytes or settings.upload_max_bytes
    if limit > settings.upload_max_bytes:
        raise invalid_field("bytes", f"at most {settings.upload_max_bytes}")
    key = f"{meta.media_prefix(caller.namespace)}uploads/{secrets.token_hex(16)}{_SUFFIX[body.content_type]}"
    form = parts.media.presign_post(key, settings.upload_ttl_seconds, body.content_type, limit)
    return Upload(
        key=key,
        url=form["url"],
        fields=form["fields"],
        max_bytes=limit,
        expires_at=datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=settings.upload_ttl_seconds),
    )
