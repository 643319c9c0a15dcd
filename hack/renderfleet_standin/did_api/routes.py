"""The D-ID side's calls. Order in POST /talks: key, JSON, fields, limits, plan, credits, scripted fault, a look at picture and
audio, bill, answer 201; the work itself follows in `production.py`."""

import base64
import binascii
import math
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import httpx2
from fastapi import FastAPI, Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, Response

from renderfleet_standin.core import Answer, Call, CallNote, Standin, new_id
from renderfleet_standin.did_api import errors
from renderfleet_standin.did_api.body import TalkOrder, parse_json, talk_order
from renderfleet_standin.did_api.errors import refuse
from renderfleet_standin.did_api.fetch import (
    MOST_AUDIO_BYTES,
    MOST_PICTURE_BYTES,
    SourceUnreadable,
    TooLarge,
    fetch,
    look_at_audio,
    look_at_picture,
    outgoing_client,
)
from renderfleet_standin.did_api.production import Production, credits_for, moment, talk_json
from renderfleet_standin.did_api.store import USER_ID, Talk, TalkStore
from renderfleet_standin.did_api.voices import VOICES
from renderfleet_standin.media.tools import FFMPEG, MediaError, run

MOST_UPLOADED_AUDIO_BYTES = 6_000_000
FILENAME = re.compile(r"[A-Za-z0-9._-]{1,50}")
PAGE = 10
MOST_PER_PAGE = 100


def headers_for(_standin: Standin) -> Callable[[CallNote, int, float], Mapping[str, str]]:
    """The headers on every D-ID answer: those of the gateway in front of it."""

    def build(note: CallNote, _status: int, _seconds: float) -> Mapping[str, str]:
        return {"x-amzn-requestid": note.request_id}

    return build


class DidSide:
    """The application below /did and what it remembers."""

    def __init__(self, standin: Standin) -> None:
        self._standin = standin
        self._settings = standin.settings
        self._store = TalkStore(standin.data)
        self._client: httpx2.AsyncClient = outgoing_client(standin.settings)
        self._production = Production(standin, self._store, self._client)

    async def start(self) -> None:
        """Go on with the talks that a former process left unfinished."""
        for talk in self._store.unfinished():
            self._production.begin(talk)

    async def stop(self) -> None:
        """End the work under way; unfinished talks go on after the next start."""
        await self._production.stop()
        await self._client.aclose()

    def app(self) -> FastAPI:
        """All routes, with the vendor's error bodies for unknown ones."""
        app = FastAPI(openapi_url=None)
        app.add_exception_handler(Answer, _early_answer)
        app.add_exception_handler(HTTPException, _no_such_route)
        app.add_api_route("/talks", self.create_talk, methods=["POST"])
        app.add_api_route("/talks", self.list_talks, methods=["GET"])
        app.add_api_route("/talks/{talk_id}", self.get_talk, methods=["GET"])
        app.add_api_route("/talks/{talk_id}", self.delete_talk, methods=["DELETE"])
        app.add_api_route("/images", self.upload_image, methods=["POST"])
        app.add_api_route("/audios", self.upload_audio, methods=["POST"])
        app.add_api_route("/credits", self.credits, methods=["GET"])
        app.add_api_route("/tts/voices", self.voices, methods=["GET"])
        app.add_api_route("/results/{user}/{talk_id}/{file}", self.result, methods=["GET"])
        return app

    def forget_everything(self) -> None:
        """Drop all talks, as a reset wants."""
        self._production.cancel_all()
        for talk in self._store.newest_first():
            self._store.remove(talk)

    # who calls

    def _authenticate(self, call: Call) -> None:
        """Take the key as it is, base64-encoded, or as a bearer: the vendor's own examples differ."""
        scheme, _, given = call.request.headers.get("authorization", "").partition(" ")
        forms = [given]
        if scheme.lower() == "basic":
            with suppress(binascii.Error, ValueError):
                forms.append(base64.b64decode(given, validate=True).decode())
        known = scheme.lower() in ("basic", "bearer") and any(
            secrets.compare_digest(form.encode(), key.encode()) for form in forms for key in self._settings.did_keys
        )
        if not known:
            raise refuse(401, "AuthorizationError", "user unauthenticated")

    async def _open(self, request: Request, operation: str, **facts: str) -> Call:
        """The common start of the calls that bill nothing."""
        call = Call(self._standin, request, "did", operation)
        self._authenticate(call)
        call.know(**facts)
        await call.enter()
        await call.show_late_fault()
        return call

    def _remaining(self) -> int:
        return self._settings.did_credits - math.ceil(self._standin.ledger.used("did", "credits"))

    # talks

    async def create_talk(self, request: Request) -> Response:
        """POST /talks."""
        call = Call(self._standin, request, "did", "talks.create")
        self._authenticate(call)
        body = parse_json(await request.body())
        script = body.get("script") if isinstance(body.get("script"), dict) else {}
        words = (script or {}).get("input") or (script or {}).get("audio_url")
        call.know(
            prompt=words if isinstance(words, str) else None,
            user_data=body["user_data"] if isinstance(body.get("user_data"), str) else None,
        )
        order = talk_order(body, strict=self._settings.strict)
        self._check_limits(order)
        await call.enter()
        with tempfile.TemporaryDirectory(prefix="talk-") as folder:
            seconds = await self._look_at_inputs(order, Path(folder))
            per_credit = self._settings.did_seconds_per_credit
            units = credits_for(seconds + order.pad_seconds, per_credit) if seconds is not None else 1
            if self._remaining() < units:
                raise refuse(402, "InsufficientCreditsError", "not enough credits")
            talk_id = new_id("tlk_")
            entry = await call.bill(unit="credits", units=units, resource=talk_id)
            talk = self._new_talk(
                talk_id,
                order,
                bill=entry.id,
                base_url=self._standin.base_url(request),
                units=units,
                fault=call.strike.name if call.strike else None,
            )
            for file in Path(folder).iterdir():
                (self._store.folder(talk) / file.name).write_bytes(file.read_bytes())
        self._store.save(talk)
        self._production.begin(talk)
        await call.after_bill()
        return call.finish(
            JSONResponse(
                {
                    "id": talk.id,
                    "object": "talk",
                    "created_by": USER_ID,
                    "created_at": moment(talk.created),
                    "status": "created",
                },
                201,
            )
        )

    def _check_limits(self, order: TalkOrder) -> None:
        rate = self._standin.limits["did.creates_per_second"]
        most = self._settings.did_talks_in_flight
        if rate.wait_for(1) or (most and len(self._store.unfinished()) >= most):
            raise refuse(429, "TooManyRequestsError", "Too many requests")
        rate.take(1)
        if order.stitch and not self._settings.did_may_stitch:
            raise refuse(403, "PermissionError", "you do not have permission to use stitch")
        if self._remaining() < 1:
            raise refuse(402, "InsufficientCreditsError", "not enough credits")

    async def _look_at_inputs(self, order: TalkOrder, folder: Path) -> float | None:
        """Fetch and check picture and audio; the audio's seconds come back, None if it is not there yet.

        What cannot be fetched is no refusal: the talk is accepted and ends with a SourceError, as the vendor does it.
        """
        try:
            content = await self._read(order.source_url, MOST_PICTURE_BYTES)
            picture = await self._standin.make(look_at_picture, content)
            (folder / f"picture.{picture.suffix}").write_bytes(content)
        except SourceUnreadable:
            pass
        except TooLarge:
            raise refuse(400, "InvalidFileSizeError", "image size is too large") from None
        if order.audio_url is None:
            return None
        try:
            audio = folder / "audio"
            audio.write_bytes(await self._read(order.audio_url, MOST_AUDIO_BYTES))
            return await self._standin.make(look_at_audio, audio)
        except SourceUnreadable:
            return None
        except TooLarge:
            raise refuse(400, "BadRequestError", "audio file is larger than 15MB") from None

    async def _read(self, url: str, most_bytes: int) -> bytes:
        if url.startswith("s3:"):
            content = self._store.read_upload(url)
            if content is None:
                raise SourceUnreadable("no such upload")
            return content
        return await fetch(self._client, url, most_bytes)

    @staticmethod
    def _new_talk(talk_id: str, order: TalkOrder, *, bill: str, base_url: str, units: int, fault: str | None) -> Talk:
        now = time.time()
        return Talk(
            id=talk_id,
            created=now,
            modified=now,
            source_url=order.source_url,
            audio_url=order.audio_url,
            text=order.text,
            voice_id=order.voice_id,
            stitch=order.stitch,
            fluent=order.fluent,
            result_format=order.result_format,
            pad_seconds=order.pad_seconds,
            name=order.name,
            user_data=order.user_data,
            webhook=order.webhook,
            fault=fault,
            bill=bill,
            base_url=base_url,
            units=units,
        )

    def _talk(self, talk_id: str) -> Talk:
        talk = self._store.get(talk_id)
        if talk is None:
            raise refuse(404, "NotFoundError", "talk not found")
        return talk

    async def get_talk(self, request: Request, talk_id: str) -> Response:
        """GET /talks/{id}."""
        known = self._store.get(talk_id)
        facts = {"resource": talk_id, **({"user_data": known.user_data} if known and known.user_data else {})}
        call = await self._open(request, "talks.get", **facts)
        talk = self._talk(talk_id)
        expires = int(time.time()) + self._settings.did_result_seconds if self._settings.did_resign_on_get else None
        shown = talk_json(talk, self._store, self._standin.base_url(request), expires=expires)
        return call.finish(JSONResponse(shown))

    async def list_talks(self, request: Request) -> Response:
        """GET /talks, newest first; `token` continues a list."""
        call = await self._open(request, "talks.list")
        try:
            limit = max(1, min(MOST_PER_PAGE, int(request.query_params.get("limit", str(PAGE)))))
        except ValueError:
            raise errors.bad_field("limit", "must be a number") from None
        talks = self._store.newest_first()
        token = request.query_params.get("token")
        if token:
            places = [place for place, talk in enumerate(talks) if talk.id == token]
            talks = talks[places[0] + 1 :] if places else []
        page = talks[:limit]
        base_url = self._standin.base_url(request)
        answer: dict[str, Any] = {"talks": [talk_json(talk, self._store, base_url) for talk in page]}
        if len(talks) > limit:
            answer["token"] = page[-1].id
        return call.finish(JSONResponse(answer))

    async def delete_talk(self, request: Request, talk_id: str) -> Response:
        """DELETE /talks/{id}; there is no way to cancel one that is being made."""
        call = await self._open(request, "talks.delete", resource=talk_id)
        talk = self._talk(talk_id)
        if not talk.is_over:
            raise refuse(409, "NotReadyError", "the talk is still being processed")
        answer = talk_json(talk, self._store, self._standin.base_url(request))
        self._store.remove(talk)
        return call.finish(JSONResponse(answer))

    # uploads

    async def _uploaded(self, request: Request, field: str) -> tuple[str, bytes, dict[str, str]]:
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise refuse(415, "UnsupportedMimeTypeError", "unsupported mime type, use multipart/form-data")
        form = await request.form(max_files=2)
        file = form.get(field)
        if not isinstance(file, UploadFile):
            raise errors.bad_field(field, "is required")
        filename = str(form.get("filename") or file.filename or field)
        if not FILENAME.fullmatch(filename):
            raise errors.bad_field("filename", "must be at most 50 of A-Z a-z 0-9 . _ -")
        others = {name: value for name, value in form.items() if isinstance(value, str)}
        return filename, await file.read(), others

    async def upload_image(self, request: Request) -> Response:
        """POST /images."""
        call = await self._open(request, "images")
        filename, content, fields = await self._uploaded(request, "image")
        picture = await self._standin.make(look_at_picture, content, for_upload=True)
        upload_id = new_id("img_")
        url = self._store.keep_upload(
            "images", upload_id, f"{Path(filename).stem[:40] or 'image'}.{picture.suffix}", content
        )
        faces: list[dict[str, Any]] | None = None
        if fields.get("detect_faces", "").lower() == "true":
            unit = min(picture.width, picture.height)
            left, top = picture.width / 2 - unit * 0.21, picture.height / 2 - unit * 0.3
            faces = [
                {
                    "face_id": new_id("fac_"),
                    "overlap": "NO",
                    "size": round(unit * 0.42),
                    "top_left": [round(left), round(top)],
                    "detect_confidence": 0.99,
                }
            ]
        return call.finish(JSONResponse({"id": upload_id, "url": url, "faces": faces}, 201))

    async def upload_audio(self, request: Request) -> Response:
        """POST /audios: kept as 16 kHz wav."""
        call = await self._open(request, "audios")
        filename, content, _ = await self._uploaded(request, "audio")
        if len(content) > MOST_UPLOADED_AUDIO_BYTES:
            raise refuse(400, "InvalidFileSizeError", "audio file is larger than 6MB")
        with tempfile.TemporaryDirectory(prefix="audio-") as folder:
            source, target = Path(folder) / "in", Path(folder) / "out.wav"
            source.write_bytes(content)
            try:
                await self._standin.make(
                    run,
                    [*FFMPEG, "-i", str(source), "-map", "0:a:0", "-ac", "1", "-ar", "16000", "-f", "wav", str(target)],
                )
            except MediaError:
                raise refuse(415, "UnsupportedMimeTypeError", "unsupported mime type, use an audio file") from None
            seconds = await self._standin.make(look_at_audio, target)
            upload_id = new_id("aud_")
            url = self._store.keep_upload(
                "audios", upload_id, f"{Path(filename).stem[:40] or 'audio'}.wav", target.read_bytes()
            )
        return call.finish(JSONResponse({"id": upload_id, "url": url, "duration": round(seconds, 3)}, 201))

    # the rest

    async def credits(self, request: Request) -> Response:
        """GET /credits."""
        call = await self._open(request, "credits")
        remaining, total = self._remaining(), self._settings.did_credits
        expires = moment(time.time() + 30 * 86_400)
        item = {
            "owner_id": USER_ID, "remaining": remaining, "total": total, "valid_from": moment(time.time() - 86_400),
            "expire_at": expires, "product_billing_interval": "month",
        }  # fmt: skip
        return call.finish(JSONResponse({"credits": [item], "remaining": remaining, "total": total}))

    async def voices(self, request: Request) -> Response:
        """GET /tts/voices."""
        call = await self._open(request, "voices")
        return call.finish(JSONResponse([voice.as_json() for voice in VOICES]))

    async def result(self, request: Request, talk_id: str, file: str) -> Response:
        """A finished video, behind a signed link with an end, as the vendor's storage serves it."""
        call = Call(self._standin, request, "did", "results")
        call.know(resource=talk_id)
        await call.enter()
        await call.show_late_fault()
        expires, signature = request.query_params.get("Expires", ""), request.query_params.get("Signature", "")
        if not expires.isdigit() or not secrets.compare_digest(
            signature, self._store.sign(talk_id, file, int(expires))
        ):
            raise _storage_error(
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided.",
            )
        if int(expires) < time.time():
            raise _storage_error(403, "AccessDenied", "Request has expired")
        talk = self._store.get(talk_id)
        if talk is None or talk.result_file != file:
            raise _storage_error(404, "NoSuchKey", "The specified key does not exist.")
        media_type = "video/quicktime" if talk.result_format == "mov" else "video/mp4"
        return call.finish(FileResponse(self._store.folder(talk) / file, media_type=media_type))


def _storage_error(status: int, code: str, message: str) -> Answer:
    page = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Answer(Response(page, status, media_type="application/xml"))


async def _early_answer(_request: Request, ended: Exception) -> Response:
    return cast("Answer", ended).response


async def _no_such_route(_request: Request, problem: Exception) -> Response:
    status = cast("HTTPException", problem).status_code
    return JSONResponse({"message": "Forbidden" if status == 405 else "Not Found"}, status)
