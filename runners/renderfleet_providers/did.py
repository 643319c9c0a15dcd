"""D-ID: a picture and a recording become a talking video, as a job that is polled.

connection refused, DNS, TLS                            VendorDown
POST /talks: no answer after it had left, any 5xx       looked for among the talks: found, or VendorDown when it is not
                                                        there; OutcomeUnknown when the list cannot be read
reads: no answer, any 5xx; 4xx as an HTML page          VendorDown
400, 403, 404, 415                                      InputRefused
401                                                     KeyRefused
402                                                     OutOfCredit
409                                                     TryAgain
429                                                     Throttled
451                                                     ContentRefused
job error FaceError, DriverError, LogoError             InputRefused, credits returned
job error SourceError                                   TryAgain, once: our link may have expired
job error UnknownError, VideoEnhanceError, others       VendorDown, once, credits returned
job rejected                                            ContentRefused

What a talk cost is the difference that it made to the account's credits; where that cannot be told, since another was
under way at the same time, its length by `secondsPerCredit`.

Options: `authScheme` basic-raw (default), basic-base64 or bearer; `secondsPerCredit` for estimates (default 15);
`lostJobSeconds`, how long a job is looked for when its creation was not answered (default 35).
"""

import asyncio
import base64
import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2

from .errors import (
    BrokenAnswer,
    ContentRefused,
    InputRefused,
    KeyRefused,
    OutcomeUnknown,
    OutOfCredit,
    Throttled,
    TryAgain,
    VendorDown,
    VendorError,
    as_code,
    is_an_edges_refusal,
    retry_after_seconds,
)
from .http import TIMED_OUT, free_call, json_of, paid_call, vendor_client
from .ports import Balance, Health, JobState, VendorJobSeen, VideoOrder, VideoSources

NAME = "D-ID"
SOURCE_URL = re.compile(r"https:.*\.(jpg|jpeg|png)")
"""Published pattern, not anchored at its end, without s3: which we cannot give."""
AUDIO_URL = re.compile(r"https://\S+\.(m4a|flac|mp3|mp4|wav|M4A|FLAC|MP3|MP4|WAV)([?#][\w./=&#%-]+)?")
"""Published pattern, anchored. It knows no tilde, which most CloudFront signatures hold; those are uploaded instead."""
ENDED = frozenset({"done", "error", "rejected"})
TALKS_UNDER_WAY_MOST = 25
"""More at a time than plans allow."""
CALLBACK_URL = re.compile(r"https://\S+")
IMAGE_UPLOAD_LIMIT_BYTES = 10_000_000
AUDIO_UPLOAD_LIMIT_BYTES = 6_000_000
AUDIO_URL_LIMIT_BYTES = 15_000_000
LOOK_UP_PAGES = 5
LOOK_UP_PAGE_SIZE = 100
FREE_CALL_SECONDS = 30.0
UPLOAD_SECONDS = 120.0
BOOKS_SECONDS = 5.0
"""For reading the account beside a job: no render waits longer for its own bill."""
DEFAULT_SECONDS_PER_CREDIT = 15
DEFAULT_LOST_JOB_SECONDS = 35.0
"""How long a job whose creation was not answered is looked for; the vendor's gateway holds a request about 29 s."""
LOST_JOB_FIRST_PAUSE_SECONDS = 1.0
LOST_JOB_LONGEST_PAUSE_SECONDS = 8.0

_TALK_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_AUDIO_SUFFIXES = {
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
    "audio/mp4": "m4a",
    "audio/flac": "flac",
}
_INPUT_ERRORS = {
    "FaceError": "no usable face was found in the picture",
    "DriverError": "the movement could not be applied to this picture",
    "LogoError": "the logo could not be used",
}


class DID:
    """One D-ID account."""

    def __init__(self, base_url: str, api_key: str, options: Mapping[str, str], timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._seconds_per_credit = int(_number(options.get("secondsPerCredit")) or DEFAULT_SECONDS_PER_CREDIT)
        self._lost_job_seconds = _number(options.get("lostJobSeconds")) or DEFAULT_LOST_JOB_SECONDS
        headers = {"Authorization": authorization(api_key, options.get("authScheme", "basic-raw"))}
        self._http = vendor_client(base_url, headers=headers)

    async def warm_up(self) -> None:
        """Nothing to load."""

    async def aclose(self) -> None:
        """Close connections."""
        await self._http.aclose()

    async def place_sources(self, order: VideoOrder) -> VideoSources:
        """Links where D-ID will take them, uploads where it would not. Free. Raises VendorError."""
        image_url = order.image_url
        if image_url is None or not SOURCE_URL.match(image_url):
            suffix = "png" if order.image_type == "image/png" else "jpg"
            image_url = await self._upload("images", "image", order.image, f"avatar.{suffix}", order.image_type)
        audio_url = order.audio_url
        if audio_url is None or not AUDIO_URL.fullmatch(audio_url):
            suffix = _AUDIO_SUFFIXES.get(order.audio_type, "mp3")
            audio_url = await self._upload("audios", "audio", order.audio, f"speech.{suffix}", order.audio_type)
        return VideoSources(image_url, audio_url, await self._balance())

    async def _upload(self, path: str, field: str, file: Path, name: str, content_type: str) -> str:
        limit = IMAGE_UPLOAD_LIMIT_BYTES if field == "image" else AUDIO_UPLOAD_LIMIT_BYTES
        content = await asyncio.to_thread(file.read_bytes)
        if len(content) > limit:
            raise InputRefused(
                f"{field}_too_large",
                f"the {field} is larger than the {limit // 1_000_000} MB that D-ID takes as an upload, "
                "and there is no https link to it that D-ID would read",
            )
        async with free_call(NAME, UPLOAD_SECONDS):
            response = await self._http.post(path, files={field: (name, content, content_type)})
        if response.status_code not in (200, 201):
            raise _as_read(classify(response.status_code, json_of(response), response.headers))
        body = json_of(response)
        url = body.get("url") if isinstance(body, dict) else None
        if not isinstance(url, str) or not url:
            raise VendorDown("upload_without_url", "D-ID took an upload but did not say where it is")
        return url

    async def start(self, order: VideoOrder, sources: VideoSources) -> VendorJobSeen:
        """Paid: create the talk. Raises VendorError.

        When the vendor does not answer, its list of talks is asked before anybody else is: found is as good as answered,
        and absent for long enough means that it was never taken, VendorDown. OutcomeUnknown is left for a vendor that
        cannot be asked either.
        """
        try:
            return await self._create(order, sources)
        except OutcomeUnknown as lost:
            return await self._find_lost(order.correlation, lost)

    async def _find_lost(self, correlation: str, lost: OutcomeUnknown) -> VendorJobSeen:
        until = time.monotonic() + self._lost_job_seconds
        pause = LOST_JOB_FIRST_PAUSE_SECONDS
        while True:
            await asyncio.sleep(min(pause, max(0.0, until - time.monotonic())))
            pause = min(2 * pause, LOST_JOB_LONGEST_PAUSE_SECONDS)
            last = time.monotonic() >= until
            try:
                found = await self.look_up(correlation)
            except VendorError:
                if last:
                    raise lost from None
                continue
            if found is not None:
                return found
            if last:
                raise VendorDown(
                    lost.code,
                    "D-ID did not answer, and its list of talks shows that it did not take the job",
                    request_id=lost.request_id,
                    http_status=lost.http_status,
                ) from lost

    async def _create(self, order: VideoOrder, sources: VideoSources) -> VendorJobSeen:
        """Every field is sent always: the vendor fills a missing source_url with a demo face, and would charge for it."""
        body: dict[str, Any] = {
            "source_url": sources.image_url,
            "script": {"type": "audio", "audio_url": sources.audio_url},
            "config": {"stitch": order.stitch, "result_format": "mp4"},
            "user_data": order.correlation,
        }
        if order.callback_url and CALLBACK_URL.fullmatch(order.callback_url):
            body["webhook"] = order.callback_url
        try:
            async with paid_call(NAME, self._timeout_seconds):
                response = await self._http.post("talks", json=body)
            answer = json_of(response)
            if response.status_code not in (200, 201):
                raise classify(response.status_code, answer, response.headers)
            return self._seen(answer)
        except BrokenAnswer as broken:
            # It says yes but not to what: the job exists, and only a look-up can find it.
            raise OutcomeUnknown(broken.code, "D-ID took the job but its answer cannot be read") from broken

    async def _balance(self) -> Balance | None:
        """The account as it is; None while talks are under way, since one that fails returns its credits.

        It is only for the books, so no trouble with it may stop a render.
        """
        try:
            async with asyncio.timeout(BOOKS_SECONDS):
                talks = await self._newest_talks(TALKS_UNDER_WAY_MOST)
                remaining = await self.credits_remaining()
        except (VendorError, TimeoutError):
            return None
        if remaining is None or any(status not in ENDED for _, status in talks):
            return None
        return Balance(remaining, talks[0][0] if talks else None)

    async def credits_taken(self, job_id: str, before: Balance) -> int | None:
        """The difference that this talk made to the account's credits. Free, never raises.

        D-ID names no price, neither beforehand nor in the talk. The difference belongs to this talk alone when no other
        was under way before or begun meanwhile, which the list tells; it is read after the credits, so that it cannot
        miss one.
        """
        try:
            async with asyncio.timeout(BOOKS_SECONDS):
                remaining = await self.credits_remaining()
                since = [talk for talk, _ in await self._newest_talks(2)]
        except (VendorError, TimeoutError):
            return None
        alone = since[:2] == [job_id, before.newest_job] or (since == [job_id] and before.newest_job is None)
        if remaining is None or not alone or remaining >= before.credits_remaining:
            return None
        return before.credits_remaining - remaining

    async def _newest_talks(self, count: int) -> list[tuple[str, str]]:
        """(id, status) of each, the newest first."""
        page = await self._read("talks", {"limit": str(count)})
        talks = page.get("talks") if isinstance(page, dict) else None
        if not isinstance(talks, list):
            raise VendorDown("bad_list", "D-ID's list of talks cannot be read")
        return [(str(talk.get("id")), str(talk.get("status"))) for talk in talks[:count] if isinstance(talk, dict)]

    async def look(self, job_id: str) -> VendorJobSeen:
        """How the talk is. Free. Raises VendorError; InputRefused with code NotFoundError when D-ID does not know it.

        Directly after the start that may pass: the vendor's reads lag its writes by seconds.
        """
        return self._seen(await self._read(f"talks/{_safe_id(job_id)}"))

    async def look_up(self, correlation: str) -> VendorJobSeen | None:
        """The newest talk that carries this correlation, among the last few hundred. Free. Raises VendorError."""
        params = {"limit": str(LOOK_UP_PAGE_SIZE)}
        for _ in range(LOOK_UP_PAGES):
            page = await self._read("talks", params)
            talks = page.get("talks") if isinstance(page, dict) else None
            if not isinstance(talks, list):
                raise VendorDown("bad_list", "D-ID's list of talks cannot be read")
            for talk in talks:
                if isinstance(talk, dict) and talk.get("user_data") == correlation:
                    return self._seen(talk)
            token = page.get("token")
            if not token or not talks:
                return None
            params["token"] = str(token)
        return None

    async def discard(self, job_id: str) -> bool:
        """Delete the talk; False while D-ID works on it, which it will not interrupt. Free. Raises VendorError."""
        async with free_call(NAME, FREE_CALL_SECONDS):
            response = await self._http.delete(f"talks/{_safe_id(job_id)}")
        if response.status_code in (200, 204, 404):
            return True
        if response.status_code == 409:
            return False
        raise _as_read(classify(response.status_code, json_of(response), response.headers))

    async def credits_remaining(self) -> int | None:
        """Credits left in the account; None when the vendor's answer does not say. Free. Raises VendorError."""
        answer = await self._read("credits")
        remaining = answer.get("remaining") if isinstance(answer, dict) else None
        return int(remaining) if isinstance(remaining, int | float) else None

    async def probe(self) -> Health:
        """Ask for the credits: proves the key and that something is left. Free. Raises VendorError."""
        remaining = await self.credits_remaining()
        if remaining is not None and remaining <= 0:
            raise OutOfCredit("InsufficientCreditsError", "the D-ID account has no credits left")
        return Health(credits_remaining=remaining)

    async def _read(self, path: str, params: dict[str, str] | None = None) -> Any:
        seconds = min(FREE_CALL_SECONDS, self._timeout_seconds)
        try:
            response = await self._get(path, params, seconds)
        except VendorDown as failed:
            if failed.code == TIMED_OUT:
                raise
            # A kept connection may have been closed just now; that says nothing about the vendor.
            response = await self._get(path, params, seconds)
        answer = json_of(response)
        if response.status_code != 200:
            raise _as_read(classify(response.status_code, answer, response.headers))
        if answer is None:
            raise VendorDown("bad_json", "D-ID's answer cannot be read")
        return answer

    async def _get(self, path: str, params: dict[str, str] | None, seconds: float) -> httpx2.Response:
        async with free_call(NAME, seconds):
            response: httpx2.Response = await self._http.get(path, params=params)
        return response

    def _seen(self, talk: Any) -> VendorJobSeen:
        job_id = talk.get("id") if isinstance(talk, dict) else None
        if not isinstance(job_id, str) or not _TALK_ID.fullmatch(job_id):
            raise BrokenAnswer("bad_talk", "D-ID's answer names no talk")
        status = as_code(talk.get("status"), "unknown")
        seconds = talk.get("duration")
        seconds = float(seconds) if isinstance(seconds, int | float) and seconds > 0 else None
        result_url = talk.get("result_url")
        state, error = JobState.WORKING, None
        if status == "done" and isinstance(result_url, str) and result_url:
            state = JobState.DONE
        elif status in ("error", "rejected"):
            state, error = JobState.FAILED, job_error(status, talk.get("error"))
        return VendorJobSeen(
            job_id=job_id,
            state=state,
            vendor_status=status,
            result_url=result_url if state is JobState.DONE else None,
            result_seconds=seconds,
            correlation=talk.get("user_data") if isinstance(talk.get("user_data"), str) else None,
            error=error,
            usage=self._usage(seconds) if state is JobState.DONE else {},
        )

    def _usage(self, seconds: float | None) -> dict[str, int]:
        if seconds is None:
            return {}
        return {"seconds": math.ceil(seconds), "credits": max(1, math.ceil(seconds / self._seconds_per_credit))}


def authorization(api_key: str, scheme: str) -> str:
    """Value of the Authorization header; the vendor's documentation, SDK and users disagree, so it is a choice."""
    match scheme:
        case "basic-base64":
            return "Basic " + base64.b64encode(api_key.encode()).decode()
        case "bearer":
            return f"Bearer {api_key}"
        case _:
            return f"Basic {api_key}"


def job_error(status: str, error: Any) -> VendorError:
    """Why a talk failed. D-ID gives the credits of failed talks back, so nothing is charged."""
    if status == "rejected":
        return ContentRefused("rejected", "D-ID's moderation rejected the picture or the recording")
    kind = as_code(error.get("kind") if isinstance(error, dict) else None, "UnknownError")
    if kind in _INPUT_ERRORS:
        return InputRefused(kind, f"D-ID: {_INPUT_ERRORS[kind]}")
    if kind.endswith(("ModerationError", "RecognizedError")):
        return ContentRefused(kind, "D-ID's moderation refused the picture or the recording")
    if kind == "SourceError":
        return TryAgain(kind, "D-ID could not read picture or recording; the links may have expired", retry_limit=1)
    return VendorDown(kind, "D-ID failed while it made the video", retry_limit=1)


def classify(status: int, body: Any, headers: Mapping[str, str]) -> VendorError:
    """Which row of the table an error answer to a paid call is. `body` is the parsed JSON, None when it was none."""
    kind = body.get("kind") if isinstance(body, dict) else None
    code = as_code(kind, f"http_{status}")

    def made(cls: type[VendorError], message: str, **more: Any) -> VendorError:
        return cls(code, message, http_status=status, request_id=headers.get("x-request-id"), **more)

    if is_an_edges_refusal(status, body, headers):
        return made(VendorDown, "something before D-ID refused the call in its place")
    match status:
        case 401:
            return made(KeyRefused, "D-ID does not accept the API key")
        case 402:
            return made(OutOfCredit, "the D-ID account has no credits left for this")
        case 403:
            return made(InputRefused, "the D-ID plan does not include this feature")
        case 404:
            return made(InputRefused, "D-ID does not know what was asked for")
        case 409:
            return made(TryAgain, "D-ID is still working on it", retry_after_seconds=retry_after_seconds(headers))
        case 415:
            return made(InputRefused, "D-ID does not take files of this type")
        case 429:
            return made(Throttled, "D-ID's limit is reached", retry_after_seconds=retry_after_seconds(headers))
        case 451:
            return made(ContentRefused, "D-ID's moderation refused the picture or the recording")
        case _ if 400 <= status < 500:
            return made(InputRefused, "D-ID refused the picture or the recording")
        case _ if status >= 500:
            return made(OutcomeUnknown, "D-ID failed while it took the job; it may have been charged")
        case _:
            return made(OutcomeUnknown, "D-ID's answer is none that it is known to give")


def _as_read(error: VendorError) -> VendorError:
    """A read or an upload costs nothing, so its outcome cannot be unknown in a way that matters."""
    if isinstance(error, OutcomeUnknown):
        return VendorDown(error.code, "D-ID failed by itself", http_status=error.http_status)
    return error


def _number(option: str | None) -> float | None:
    try:
        number = float(option or "")
    except ValueError:
        return None
    return number if 0 < number < math.inf else None


def _safe_id(job_id: str) -> str:
    if not _TALK_ID.fullmatch(job_id):
        raise InputRefused("bad_job_id", "this is no id of a D-ID talk")
    return job_id


ADAPTER = DID
