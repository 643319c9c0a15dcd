"""Where the D-ID side keeps its talks, uploads and videos: one folder each, so that a restart finds them."""

import base64
import hashlib
import hmac
import secrets
import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

USER_ID = "auth0|standin"
UPLOAD_LIFE_SECONDS = 24 * 3600
KEEP_TALKS = 2000
"""Finished talks kept; a long load test must not fill the disk."""
UPLOAD_BUCKETS = {"images": "d-id-images-standin", "audios": "d-id-audios-standin"}


class Talk(BaseModel):
    """One talk, as kept on disk."""

    id: str
    created: float
    """Unix seconds, as are the others."""
    started: float | None = None
    modified: float
    status: str = "created"
    source_url: str
    audio_url: str | None = None
    text: str | None = None
    voice_id: str | None = None
    stitch: bool = False
    fluent: bool = False
    result_format: str = "mp4"
    pad_seconds: float = 0.0
    name: str | None = None
    user_data: str | None = None
    webhook: str | None = None
    fault: str | None = None
    bill: str
    """Ledger id."""
    base_url: str
    """Where its creator reached this server; the links in callbacks begin with it."""
    units: int = 1
    error: dict[str, Any] | None = None
    duration: float | None = None
    frames: int | None = None
    resolution: tuple[int, int] | None = None
    size_kib: float | None = None
    result_file: str | None = None
    result_expires: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to this talk."""
        return self.status in ("done", "error", "rejected")


class TalkStore:
    """All talks, and the folders of their inputs and videos."""

    def __init__(self, root: Path) -> None:
        self._root = root / "did"
        self._talks: dict[str, Talk] = {}
        for folder in ("talks", "uploads"):
            (self._root / folder).mkdir(parents=True, exist_ok=True)
        for file in (self._root / "talks").glob("*/talk.json"):
            try:
                talk = Talk.model_validate_json(file.read_text(encoding="utf-8"))
            except ValidationError:
                continue  # written by a process killed in the middle; its creation was never answered
            self._talks[talk.id] = talk
        self._secret = self._load_secret()

    def _load_secret(self) -> bytes:
        file = self._root / "signing-secret"
        if not file.exists():
            file.write_bytes(secrets.token_bytes(32))
        return file.read_bytes()

    def folder(self, talk: Talk) -> Path:
        """Where a talk's files are."""
        folder = self._root / "talks" / talk.id
        folder.mkdir(exist_ok=True)
        return folder

    def save(self, talk: Talk) -> None:
        """Keep a talk's present state."""
        talk.modified = time.time()
        self._talks[talk.id] = talk
        fresh = self.folder(talk) / "talk.json.new"
        fresh.write_text(talk.model_dump_json(exclude_none=True), encoding="utf-8")
        fresh.rename(fresh.with_name("talk.json"))

    def get(self, talk_id: str) -> Talk | None:
        return self._talks.get(talk_id)

    def remove(self, talk: Talk) -> None:
        """Forget a talk and its files."""
        self._talks.pop(talk.id, None)
        shutil.rmtree(self._root / "talks" / talk.id, ignore_errors=True)  # its video may still be in the making

    def drop_inputs(self, talk: Talk) -> None:
        """Remove picture and audio of a talk that is over, and the oldest talks past KEEP_TALKS."""
        for file in self.folder(talk).iterdir():
            if file.name.startswith(("picture.", "audio")):
                file.unlink()
        for old in [kept for kept in self.newest_first() if kept.is_over][KEEP_TALKS:]:
            self.remove(old)

    def newest_first(self) -> list[Talk]:
        return sorted(self._talks.values(), key=lambda talk: (talk.created, talk.id), reverse=True)

    def unfinished(self) -> list[Talk]:
        return [talk for talk in self._talks.values() if not talk.is_over]

    # uploads

    def keep_upload(self, kind: str, upload_id: str, filename: str, content: bytes) -> str:
        """Keep an uploaded file; its s3:// address comes back."""
        uploads = sorted((self._root / "uploads").iterdir(), key=lambda folder: folder.stat().st_mtime)
        for old in uploads[: max(0, len(uploads) - KEEP_TALKS)]:
            shutil.rmtree(old, ignore_errors=True)
        folder = self._root / "uploads" / upload_id
        folder.mkdir()
        (folder / filename).write_bytes(content)
        return f"s3://{UPLOAD_BUCKETS[kind]}/{quote(USER_ID)}/{upload_id}/{filename}"

    def read_upload(self, url: str) -> bytes | None:
        """The file behind one of our s3:// addresses; None when it is not ours, gone or older than its life."""
        parts = url.removeprefix("s3://").split("/")
        if not url.startswith("s3://") or len(parts) != 4 or parts[0] not in UPLOAD_BUCKETS.values():
            return None
        if not parts[2].replace("_", "").isalnum():
            return None
        for file in (self._root / "uploads" / parts[2]).glob("*"):
            if file.name == parts[3] and time.time() - file.stat().st_mtime < UPLOAD_LIFE_SECONDS:
                return file.read_bytes()
        return None

    # result links, in the manner of S3's signature version 2

    def sign(self, talk_id: str, file: str, expires: int) -> str:
        """Signature of a result link."""
        text = f"GET\n\n\n{expires}\n/d-id-talks-standin/{talk_id}/{file}"
        return base64.b64encode(hmac.new(self._secret, text.encode(), hashlib.sha256).digest()[:20]).decode()

    def result_link(self, talk: Talk, base_url: str, expires: int) -> str:
        """Link to a finished talk's video."""
        assert talk.result_file is not None
        signature = quote(self.sign(talk.id, talk.result_file, expires), safe="")
        path = f"{quote(USER_ID, safe='')}/{talk.id}/{talk.result_file}"
        return f"{base_url}/did/results/{path}?AWSAccessKeyId=AKIASTANDIN&Expires={expires}&Signature={signature}"
