"""What happens to a talk after its 201.

created -> started -> done      video made, result_url there
                   -> error     an input was unusable, or a scripted fault; credits are returned
                   -> rejected  scripted: moderation; credits are returned
At every end the webhook is called, once and unsigned, with what GET would show.
"""

import asyncio
import math
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2

from renderfleet_standin.core import Answer, Standin
from renderfleet_standin.did_api.errors import JOB_ERRORS
from renderfleet_standin.did_api.fetch import (
    MOST_AUDIO_BYTES,
    MOST_PICTURE_BYTES,
    SourceUnreadable,
    TooLarge,
    fetch,
    look_at_audio,
    look_at_picture,
)
from renderfleet_standin.did_api.store import USER_ID, Talk, TalkStore
from renderfleet_standin.did_api.voices import speaker_of
from renderfleet_standin.media import speech
from renderfleet_standin.media.talking import Video, render_talk
from renderfleet_standin.media.tools import MediaError

CALLBACK_TIMEOUT_SECONDS = 10.0
CALLBACK_PAUSE_SECONDS = 0.5
LONGEST_CREATED_SECONDS = 0.3


def credits_for(seconds: float, seconds_per_credit: float) -> int:
    """Credits for a video of that length, at least 1. Our own formula: of the vendor's only the "at least 1" is known."""
    return max(1, math.ceil(seconds / seconds_per_credit))


def moment(unix_seconds: float) -> str:
    """ISO 8601 with milliseconds and Z."""
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def talk_json(talk: Talk, store: TalkStore, base_url: str, *, expires: int | None = None) -> dict[str, Any]:
    """A talk as GET shows it: `result_url` only when done, `started_at` without its Z, `result_format` with a dot.

    `expires` signs the link anew, with another end than the one it was born with.
    """
    shown: dict[str, Any] = {
        "id": talk.id,
        "user_id": USER_ID,
        "source_url": talk.source_url,
        "audio_url": talk.audio_url,
        "status": talk.status,
        "driver_url": "bank://lively/",
        "created_at": moment(talk.created),
        "created_by": USER_ID,
        "started_at": moment(talk.started).removesuffix("Z") if talk.started is not None else None,
        "modified_at": moment(talk.modified),
        "name": talk.name,
        "user_data": talk.user_data,
        "webhook": talk.webhook,
        "config": {
            "stitch": talk.stitch,
            "result_format": f".{talk.result_format}",
            "fluent": talk.fluent,
            "pad_audio": talk.pad_seconds,
        },
        "error": talk.error,
    }
    if talk.status == "done":
        shown["duration"] = talk.duration
        shown["metadata"] = {
            "num_faces": 1, "num_frames": talk.frames, "resolution": list(talk.resolution or ()), "size_kib": talk.size_kib,
        }  # fmt: skip
        shown["result_url"] = store.result_link(talk, base_url, expires or talk.result_expires or 0)
    return {name: value for name, value in shown.items() if value is not None}


class JobFailed(Exception):
    """The talk ends in error."""

    def __init__(self, kind: str, description: str) -> None:
        super().__init__(kind)
        self.error = {"kind": kind, "description": description, "details": None}


class Production:
    """The talks under way."""

    def __init__(self, standin: Standin, store: TalkStore, client: httpx2.AsyncClient) -> None:
        self._standin = standin
        self._store = store
        self._client = client
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, talk: Talk) -> None:
        """Take a talk in hand; returns at once."""
        task = asyncio.create_task(self._live(talk))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel_all(self) -> None:
        """Drop what is under way."""
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """Drop what is under way and wait until it is gone."""
        self.cancel_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _live(self, talk: Talk) -> None:
        talk_seconds = self._standin.settings.talk_seconds
        await asyncio.sleep(min(LONGEST_CREATED_SECONDS, talk_seconds / 4))
        talk.status, talk.started = "started", time.time()
        self._store.save(talk)
        if talk.fault == "callback_early":
            await self._call_back(talk)
        if talk.fault == "job_stuck":
            return
        if talk.fault == "job_unknown_status":
            talk.status = "harmonizing"
            self._store.save(talk)
            return
        try:
            video = await self._make(talk)
        except JobFailed as failure:
            await self._until(talk.created + talk_seconds)
            self._give_back(talk, "error", failure.error)
        else:
            await self._until(talk.created + talk_seconds)
            self._deliver(talk, video)
        self._store.drop_inputs(talk)
        if talk.fault != "callback_lost":
            await self._call_back(talk)
        if talk.fault == "callback_twice":
            await self._call_back(talk)

    @staticmethod
    async def _until(unix_seconds: float) -> None:
        await asyncio.sleep(max(0.0, unix_seconds - time.time()))

    async def _make(self, talk: Talk) -> Video | None:
        """The video; None when the talk is rejected. Raises JobFailed."""
        if talk.fault == "job_rejected":
            return None
        if talk.fault in JOB_ERRORS:
            raise JobFailed(*JOB_ERRORS[talk.fault])
        picture, has_face = await self._picture(talk)
        if not has_face:
            raise JobFailed("FaceError", "face not detected")
        audio = await self._audio(talk)
        target = self._store.folder(talk) / f"{int(time.time() * 1000)}.{talk.result_format}"
        try:
            video = await self._standin.make(
                render_talk, picture, audio, target,
                stitch=talk.stitch, pad_seconds=talk.pad_seconds, with_audio=talk.fault != "job_video_without_audio",
                share=0.5 if talk.fault == "job_short_video" else 1.0,
            )  # fmt: skip
        except (MediaError, OSError) as problem:
            raise JobFailed("UnknownError", str(problem)) from problem
        talk.result_file = target.name
        return video

    async def _picture(self, talk: Talk) -> tuple[Path, bool]:
        """The picture's file and whether it can hold a face; fetched again when the look at creation failed."""
        folder = self._store.folder(talk)
        for file in folder.glob("picture.*"):
            return file, (await self._standin.make(look_at_picture, file.read_bytes())).has_face
        try:
            content = await self._read(talk.source_url, MOST_PICTURE_BYTES)
            seen = await self._standin.make(look_at_picture, content)
        except (SourceUnreadable, TooLarge, Answer):
            raise JobFailed("SourceError", f"could not read source_url of {talk.id}") from None
        file = folder / f"picture.{seen.suffix}"
        file.write_bytes(content)
        return file, seen.has_face

    async def _audio(self, talk: Talk) -> Path:
        """The audio's file: fetched, or spoken from the text."""
        audio = self._store.folder(talk) / "audio"
        if audio.exists():
            return audio
        try:
            if talk.text is not None:
                audio.write_bytes(await self._standin.make(_speak, talk.text, talk.voice_id))
            else:
                assert talk.audio_url is not None
                audio.write_bytes(await self._read(talk.audio_url, MOST_AUDIO_BYTES))
            await self._standin.make(look_at_audio, audio)
        except (SourceUnreadable, TooLarge, Answer, MediaError):
            audio.unlink(missing_ok=True)
            raise JobFailed("SourceError", f"could not read the audio of {talk.id}") from None
        return audio

    async def _read(self, url: str, most_bytes: int) -> bytes:
        if url.startswith("s3:"):
            content = self._store.read_upload(url)
            if content is None:
                raise SourceUnreadable("no such upload")
            return content
        return await fetch(self._client, url, most_bytes)

    def _deliver(self, talk: Talk, video: Video | None) -> None:
        if video is None:
            self._give_back(talk, "rejected", {"kind": "ModerationError", "description": "rejected", "details": None})
            return
        talk.duration, talk.frames = round(video.seconds, 3), video.frames
        talk.resolution, talk.size_kib = (video.width, video.height), round(video.bytes / 1024, 1)
        life = -60 if talk.fault == "job_expired_result" else self._standin.settings.did_result_seconds
        talk.result_expires = int(time.time()) + life
        talk.status = "done"
        units = credits_for(video.seconds, self._standin.settings.did_seconds_per_credit)
        if units != talk.units:
            talk.units = units
            self._standin.ledger.amend(talk.bill, units=units, note="settled when the length was known")
        self._store.save(talk)

    def _give_back(self, talk: Talk, status: str, error: dict[str, Any]) -> None:
        """End a talk without a video: its credits are returned."""
        talk.status, talk.error = status, error
        self._store.save(talk)
        self._standin.ledger.amend(talk.bill, refunded=True, note=f"credits returned: {error['kind']}")

    async def _call_back(self, talk: Talk) -> None:
        if talk.webhook is None:
            return
        for attempt in range(self._standin.settings.did_callback_attempts):
            if attempt:
                await asyncio.sleep(CALLBACK_PAUSE_SECONDS)
            record: dict[str, Any] = {"talk": talk.id, "webhook": talk.webhook, "status_told": talk.status}
            told = talk_json(talk, self._store, talk.base_url)
            try:
                answer = await self._client.post(talk.webhook, json=told, timeout=CALLBACK_TIMEOUT_SECONDS)
            except (httpx2.HTTPError, httpx2.InvalidURL) as problem:
                record["failed"] = type(problem).__name__
            else:
                record["answered"] = answer.status_code
            self._standin.callbacks.append(record)
            if 200 <= record.get("answered", 0) < 300:
                return


def _speak(text: str, voice_id: str | None) -> bytes:
    return speech.encode_speech(speech.wav_of(text, speaker_of(voice_id)), "wav_22050")
