"""START: hand a picture and a recording to the vendor. FINALIZE: fetch, check and store what it made of them."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, cast

from renderfleet_crds.contract import (
    AcceptedRecord,
    Charged,
    ClaimRecord,
    ExitCode,
    InputFile,
    Output,
    StageResult,
    VideoFinalizeParams,
    VideoStartParams,
)
from renderfleet_providers.guarded import AddressRefused, FetchFailed, GuardedClient, StatusRefused, TooLarge
from renderfleet_providers.pictures import MIN_SIDE_PX
from renderfleet_providers.ports import JobState, TalkingVideoMaker, VendorJobSeen, VideoOrder, VideoSources

from .attempt import REPORT_RESERVE_SECONDS, Attempt, PaidStage, before, cannot, report
from .errors import BadInput, BrokenMedia, LinkExpired, OwnFault, StageError, exit_code_of
from .media import Kind, NotMedia, index_is_in_front, kind_of, listen, move_index_to_front, probe, still
from .pictures import check_picture
from .provenance import provenance_of, provenance_of_copy
from .record import accepted_now
from .vendors import adapter_for

FETCH_SECONDS = 300.0
LONGEST_AUDIO_SECONDS = 600.0
"""What D-ID takes for a talk."""
LENGTH_TOLERANCE_SECONDS = 0.2
AUDIO_KINDS = {Kind.MP3, Kind.WAV, Kind.FLAC, Kind.MP4}
REDIRECTS = 3


async def fetch(attempt: Attempt, given: InputFile, file: Path, vouched_for: Iterable[str] = ()) -> None:
    """Copy an input into `file`, through the guarded client unless it is ours. Raises StageError.

    `vouched_for` are URLs whose origins may be fetched from wherever they are; nothing that a user can choose.
    """
    if given.trusted:
        await attempt.storage.get_file(given.url, file, given.max_bytes, attempt.deadline)
        return
    guarded = GuardedClient.trusting(vouched_for, max_redirects=REDIRECTS)
    seconds = min(FETCH_SECONDS, attempt.deadline.seconds_left())
    try:
        await guarded.fetch_to_file(given.url, file, max_bytes=given.max_bytes, total_seconds=seconds)
    except AddressRefused as refused:
        raise BadInput(refused.code, f"the address of {given.name}: {refused.message}") from refused
    except TooLarge as refused:
        raise BadInput(refused.code, f"{given.name}: {refused.message}") from refused
    except StatusRefused as refused:
        if refused.status in (401, 403, 404, 410):
            raise LinkExpired("link_expired", f"the link to {given.name} is no longer accepted") from refused
        raise FetchBroke(refused.code, f"{given.name}: {refused.message}") from refused
    except FetchFailed as failed:
        raise FetchBroke(failed.code, f"{given.name}: {failed.message}") from failed


class FetchBroke(LinkExpired):
    """It did not work this time."""


class VideoStartStage(PaidStage[VendorJobSeen]):
    """One job at the vendor."""

    def __init__(self, attempt: Attempt, params: VideoStartParams) -> None:
        super().__init__(attempt)
        self._params = params
        access = attempt.task.provider
        self._adapter = adapter_for(access, attempt.call_seconds(access.call_timeout_seconds if access else 0))
        if not isinstance(self._adapter, TalkingVideoMaker):
            raise cannot("make pictures talk")
        self._maker: TalkingVideoMaker = self._adapter
        self._order: VideoOrder | None = None
        self._sources: VideoSources | None = None
        self._made_before: VendorJobSeen | None = None

    async def prepare(self) -> None:
        """Fetch and check picture and recording, and put them where the vendor can read them."""
        attempt, params = self.attempt, self._params
        image_given, audio_given = attempt.input("image"), attempt.input("audio")
        image, audio = attempt.work / "image", attempt.work / "audio"
        await asyncio.gather(fetch(attempt, image_given, image), fetch(attempt, audio_given, audio))
        image_type = await _check_image(image)
        audio_type = await _check_audio(attempt, audio)
        self._order = VideoOrder(
            correlation=params.correlation,
            image=image,
            image_type=image_type,
            audio=audio,
            audio_type=audio_type,
            image_url=image_given.vendor_url,
            audio_url=audio_given.vendor_url,
            stitch=params.stitch,
            callback_url=params.callback_url,
        )
        await self._adapter.warm_up()
        self._made_before = await self._find_earlier()
        if self._made_before is None:
            self._sources = await self._maker.place_sources(self._order)

    async def _find_earlier(self) -> VendorJobSeen | None:
        """A job of an earlier attempt that turned up only after it was given up for lost; it is paid."""
        run, _, _ = self._params.correlation.rpartition("-")
        for earlier in range(1, self.attempt.task.attempt):
            found = await self._maker.look_up(f"{run}-{earlier}")
            if found is not None and found.state is not JobState.FAILED:
                return found
        return None

    async def call(self) -> VendorJobSeen:
        """Paid."""
        if self._made_before is not None:
            job = self._made_before
        else:
            assert self._order is not None and self._sources is not None
            job = await self._maker.start(self._order, self._sources)
        await self.answered(accepted_now(vendor_job_id=job.job_id))
        return job

    async def find(self, claim: ClaimRecord | None, accepted: AcceptedRecord | None) -> VendorJobSeen | None:
        """The job by its noted id, else by our correlation."""
        if accepted is not None and accepted.vendor_job_id is not None:
            return await self._maker.look(accepted.vendor_job_id)
        found = await self._maker.look_up(self._params.correlation)
        if found is not None:
            await self.answered(accepted_now(vendor_job_id=found.job_id))
        return found

    async def deliver(self, answer: VendorJobSeen) -> StageResult:
        """Hand back the job's id, for the operator to poll, and what the vendor took for it if that can be told."""
        before = self._sources.before if self._sources is not None else None
        taken = await self._maker.credits_taken(answer.job_id, before) if before is not None else None
        return StageResult(
            outcome="done",
            charged=self.attempt.charged,
            vendor_job_id=answer.job_id,
            vendor_status=answer.vendor_status,
            usage={"credits": taken} if taken is not None else {},
        )

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._adapter.aclose()


async def _check_image(file: Path) -> Literal["image/png", "image/jpeg"]:
    try:
        picture = await asyncio.to_thread(check_picture, file)
    except NotMedia as bad:
        raise BadInput(f"image_{bad.code}", f"the avatar: {bad.message}") from bad
    if min(picture.width_px, picture.height_px) < MIN_SIDE_PX:
        raise BadInput("image_too_small", f"the avatar is smaller than {MIN_SIDE_PX} pixels on one side")
    return cast(Literal["image/png", "image/jpeg"], picture.content_type)


async def _check_audio(attempt: Attempt, file: Path) -> str:
    try:
        kind = kind_of(file)
        if kind not in AUDIO_KINDS:
            raise NotMedia("unknown_format", "it is a picture")
        seen = await probe(file, kind, attempt.deadline)
        if seen.seconds > LONGEST_AUDIO_SECONDS + 1:
            raise NotMedia("too_long", f"it is longer than {LONGEST_AUDIO_SECONDS:.0f} seconds")
        heard = await listen(file, kind, attempt.deadline)
    except NotMedia as bad:
        raise BadInput(f"audio_{bad.code}", f"the recording: {bad.message}") from bad
    if heard.is_silent:
        raise BadInput("audio_silent", "the recording: nothing can be heard in it")
    if heard.seconds > LONGEST_AUDIO_SECONDS:
        raise BadInput("audio_too_long", f"the recording is longer than {LONGEST_AUDIO_SECONDS:.0f} seconds")
    return "audio/mp4" if kind is Kind.MP4 else kind.value


async def finalize(attempt: Attempt, params: VideoFinalizeParams) -> tuple[StageResult, ExitCode]:
    """Run FINALIZE to its report. It pays nothing and does the same each time, so it needs no claim."""
    try:
        known = await attempt.unless_stopped(attempt.record.read_result())
        if known is not None:
            return known, exit_code_of(known)
        result = await attempt.unless_stopped(
            before(attempt.deadline.earlier(REPORT_RESERVE_SECONDS), _fetch_check_store(attempt, params))
        )
    except StageError as failed:
        result = report(attempt, failed)
        return result, exit_code_of(result)
    try:
        # Only a success is recorded: a failure here may be another runner's success a moment later.
        result = await attempt.record.finish(result)
    except OwnFault as fault:
        attempt.log.error("result record not written", code=fault.code)
    return result, exit_code_of(result)


async def _fetch_check_store(attempt: Attempt, params: VideoFinalizeParams) -> StageResult:
    file = attempt.work / "video.mp4"
    access = attempt.task.provider
    try:
        await fetch(attempt, attempt.input("video"), file, [access.base_url] if access else [])
    except BadInput as refused:
        # The link is the vendor's, so it is not the user who must act.
        raise BrokenMedia(refused.code, refused.message) from refused
    try:
        outputs = await _check_and_store(attempt, file, params.expected_seconds)
    except NotMedia as broken:
        raise BrokenMedia(f"video_{broken.code}", f"the vendor's video: {broken.message}") from broken
    return StageResult(outcome="done", charged=Charged.NO, outputs=outputs)


async def _check_and_store(attempt: Attempt, file: Path, expected_seconds: float | None) -> list[Output]:
    if kind_of(file) is not Kind.MP4:
        raise NotMedia("wrong_format", "it is no mp4")
    in_front = index_is_in_front(file)
    seen = await probe(file, Kind.MP4, attempt.deadline)
    if seen.video_codec != "h264" or seen.audio_codec != "aac":
        raise NotMedia(
            "wrong_streams", f"it holds {seen.video_codec or 'no video'} and {seen.audio_codec or 'no sound'}"
        )
    heard = await listen(file, Kind.MP4, attempt.deadline)
    if heard.is_silent:
        raise NotMedia("silent", "nothing can be heard in it")
    if expected_seconds is not None and abs(seen.seconds - expected_seconds) > LENGTH_TOLERANCE_SECONDS:
        raise NotMedia("wrong_length", f"it lasts {seen.seconds:.2f} s, the recording {expected_seconds:.2f} s")
    outputs: list[Output] = []
    poster_slot = attempt.slot("poster")
    poster = attempt.work / "poster"
    encoder = "png" if poster_slot is not None and poster_slot.content_type == "image/png" else "mjpeg"
    await still(file, min(1.0, seen.seconds / 2), poster, encoder, attempt.deadline)
    provenance = await provenance_of(file, Kind.MP4, attempt.deadline)
    # A signature covers the bytes as they are: a signed video is stored untouched, whatever its index.
    if not in_front and provenance is None:
        rewritten = attempt.work / "video-index-in-front.mp4"
        await move_index_to_front(file, rewritten, attempt.deadline)
        file = rewritten
    video_slot = attempt.slot("video")
    if video_slot is None:
        raise OwnFault("slot_not_given", "the task has no place for the video")
    outputs.append(
        await attempt.store(
            video_slot,
            file,
            width_px=seen.width_px,
            height_px=seen.height_px,
            duration_seconds=round(seen.seconds, 3),
            loudness_lufs=heard.loudness_lufs,
            provenance=provenance,
        )
    )
    if poster_slot is not None:
        outputs.append(
            await attempt.store(
                poster_slot,
                poster,
                width_px=seen.width_px,
                height_px=seen.height_px,
                provenance=provenance_of_copy(provenance),
            )
        )
    return outputs
