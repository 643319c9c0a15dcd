"""Every row of the three vendors' error tables, as the stand-in answers it, is one kind of error with its own consequence.

The last tests of each vendor hold that no row of the stand-in is left out here.
"""

import asyncio
import base64
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.wire import KEYS, VOICE_ID, Standin, standin_process

from renderfleet_crds.contract import Charged, Vendor
from renderfleet_providers.did import DID
from renderfleet_providers.elevenlabs import ElevenLabs
from renderfleet_providers.errors import (
    BrokenAnswer,
    ContentRefused,
    InputRefused,
    KeyRefused,
    OutcomeUnknown,
    OutOfCredit,
    OutputRefused,
    Throttled,
    TryAgain,
    VendorDown,
    VendorError,
)
from renderfleet_providers.openai import OpenAI
from renderfleet_providers.ports import JobState, PictureOrder, SpeechOrder, VideoOrder, VideoSources
from renderfleet_providers.registry import connect

NO, YES, UNKNOWN = Charged.NO, Charged.YES, Charged.UNKNOWN
Expected = tuple[type[VendorError], Charged]

TRANSPORT: dict[str, Expected] = {
    "hang": (OutcomeUnknown, UNKNOWN),
    "hang_after_bill": (OutcomeUnknown, UNKNOWN),
    "reset_before_send": (OutcomeUnknown, UNKNOWN),
    "reset_after_bill": (OutcomeUnknown, UNKNOWN),
    "truncate": (OutcomeUnknown, UNKNOWN),
    "slow_drip": (OutcomeUnknown, UNKNOWN),
    "bad_json": (BrokenAnswer, YES),
    "huge_body": (BrokenAnswer, YES),
    "html_403": (VendorDown, NO),
    "html_429": (Throttled, NO),
    "html_502": (VendorDown, NO),
    "html_520": (VendorDown, NO),
    "html_521": (VendorDown, NO),
    "html_522": (VendorDown, NO),
    "html_523": (VendorDown, NO),
    "html_504_after_bill": (OutcomeUnknown, UNKNOWN),
    "html_524_after_bill": (OutcomeUnknown, UNKNOWN),
}
"""A hang and a reset look the same whether the vendor has billed or not: that is what makes the outcome unknown.

An answer that drips never stands still, so only a deadline over all of it ends the wait.
"""
NO_FAULT_IN_ITSELF = {"latency_ms"}

PICTURES: dict[str, Expected] = {
    "400_moderation_blocked": (OutputRefused, NO),
    "400_moderation_blocked_input": (ContentRefused, NO),
    "400_content_policy_violation": (ContentRefused, NO),
    "400_invalid_request": (InputRefused, NO),
    "400_billing_hard_limit_reached": (OutOfCredit, NO),
    "400_model_not_found": (InputRefused, NO),
    "401_invalid_api_key": (KeyRefused, NO),
    "401_ip_not_authorized": (KeyRefused, NO),
    "401_organization_membership": (KeyRefused, NO),
    "403_unsupported_country": (KeyRefused, NO),
    "403_unverified_organization": (KeyRefused, NO),
    "403_missing_scope": (KeyRefused, NO),
    "404_model_not_found": (InputRefused, NO),
    "408_request_timeout": (VendorDown, NO),
    "409_conflict": (VendorDown, NO),
    "413_payload_too_large": (InputRefused, NO),
    "415_unsupported_media_type": (InputRefused, NO),
    "422_unprocessable": (InputRefused, NO),
    "429_rate_limit": (Throttled, NO),
    "429_rate_limit_text_only": (Throttled, NO),
    "429_rate_limit_requests": (Throttled, NO),
    "429_rate_limit_tokens": (Throttled, NO),
    "429_slow_down": (Throttled, NO),
    "503_slow_down": (Throttled, NO),
    "429_insufficient_quota": (OutOfCredit, NO),
    "429_credit_balance_exhausted": (OutOfCredit, NO),
    "429_organization_spend_limit_exceeded": (OutOfCredit, NO),
    "429_project_spend_limit_exceeded": (OutOfCredit, NO),
    "429_organization_usage_limit_exceeded": (OutOfCredit, NO),
    "500_server_error": (VendorDown, NO),
    "500_image_generation_server_error": (VendorDown, NO),
    "503_server_is_overloaded": (VendorDown, NO),
    "200_no_b64_json": (BrokenAnswer, YES),
    "200_empty_data": (BrokenAnswer, YES),
    "200_bad_base64": (BrokenAnswer, YES),
    **TRANSPORT,
}
SCRIPTS: dict[str, Expected] = {
    "200_refusal": (ContentRefused, YES),
    "200_incomplete_content_filter": (ContentRefused, YES),
    "200_failed_server_error": (VendorDown, YES),
    "200_failed_rate_limit_exceeded": (Throttled, YES),
    "200_failed_invalid_prompt": (InputRefused, YES),
    "200_empty_text": (BrokenAnswer, YES),
    "429_rate_limit": (Throttled, NO),
    "reset_after_bill": (OutcomeUnknown, UNKNOWN),
}
SEEN_BY_THE_RUNNER = {"200_not_a_picture", "200_wrong_size", "200_short_audio", "200_silent_audio", "200_not_audio"}
"""Answers that only somebody who decodes them can find fault with: tests/wire/test_runner_faults.py."""
NEVER_ASKED_FOR = {"200_stream_error"}
"""We do not stream pictures."""

SPEECH: dict[str, Expected] = {
    "422_validation": (InputRefused, NO),
    "400_text_too_long": (InputRefused, NO),
    "400_max_character_limit_exceeded": (InputRefused, NO),
    "400_empty_text": (InputRefused, NO),
    "400_invalid_voice_settings": (InputRefused, NO),
    "400_invalid_output_format": (InputRefused, NO),
    "400_unsupported_model": (InputRefused, NO),
    "401_quota_exceeded": (OutOfCredit, NO),
    "401_quota_exceeded_legacy": (OutOfCredit, NO),
    "402_insufficient_credits": (OutOfCredit, NO),
    "401_invalid_api_key": (KeyRefused, NO),
    "401_invalid_api_key_legacy": (KeyRefused, NO),
    "401_missing_api_key": (KeyRefused, NO),
    "401_unauthorized": (KeyRefused, NO),
    "401_needs_authorization": (KeyRefused, NO),
    "401_missing_permissions": (KeyRefused, NO),
    "404_workspace_not_found": (KeyRefused, NO),
    "401_detected_unusual_activity": (KeyRefused, NO),
    "402_subscription_required": (InputRefused, NO),
    "403_subscription_required": (InputRefused, NO),
    "402_paid_plan_required": (InputRefused, NO),
    "403_feature_not_available": (InputRefused, NO),
    "403_voice_access_denied": (InputRefused, NO),
    "403_model_access_denied": (InputRefused, NO),
    "403_forbidden": (KeyRefused, NO),
    "403_insufficient_permissions": (KeyRefused, NO),
    "404_voice_not_found": (InputRefused, NO),
    "404_model_not_found": (InputRefused, NO),
    "409_already_running": (TryAgain, NO),
    "409_concurrent_modification": (TryAgain, NO),
    "429_concurrent_limit_exceeded": (Throttled, NO),
    "429_concurrent_limit_exceeded_retry_after": (Throttled, NO),
    "429_too_many_concurrent_requests": (Throttled, NO),
    "429_rate_limit_exceeded": (Throttled, NO),
    "429_system_busy": (VendorDown, NO),
    "500_internal_error": (VendorDown, NO),
    "503_service_unavailable": (VendorDown, NO),
    "503_maintenance": (VendorDown, NO),
    "200_empty_audio": (BrokenAnswer, YES),
    "huge_body": (BrokenAnswer, YES),
    **{
        name: expected
        for name, expected in TRANSPORT.items()
        if name.startswith("html_") and expected[0] is not OutcomeUnknown
    },
}
"""Lost answers are not here: ElevenLabs has a history, see test_a_lost_speech_is_found_in_the_history."""

TALKS: dict[str, Expected] = {
    "400_bad_request": (InputRefused, NO),
    "400_invalid_file_size": (InputRefused, NO),
    "400_invalid_image_resolution": (InputRefused, NO),
    "400_invalid_audio_duration": (InputRefused, NO),
    "401_authorization": (KeyRefused, NO),
    "402_insufficient_credits": (OutOfCredit, NO),
    "403_permission": (InputRefused, NO),
    "404_not_found": (InputRefused, NO),
    "409_not_ready": (TryAgain, NO),
    "415_unsupported_mime_type": (InputRefused, NO),
    "429_too_many_requests": (Throttled, NO),
    "429_gateway": (Throttled, NO),
    "451_image_moderation": (ContentRefused, NO),
    "451_celebrity_recognized": (ContentRefused, NO),
    "451_text_moderation": (ContentRefused, NO),
    "451_audio_moderation": (ContentRefused, NO),
    # Not answered, and the list of talks shows that nothing was created.
    "500_internal_server": (VendorDown, NO),
    "502_gateway": (VendorDown, NO),
    "503_gateway": (VendorDown, NO),
    "504_gateway_timeout": (VendorDown, NO),
    "reset_before_send": (VendorDown, NO),
    "hang": (VendorDown, NO),
    "html_403": (VendorDown, NO),
    "html_429": (Throttled, NO),
    "html_502": (VendorDown, NO),
    "html_520": (VendorDown, NO),
    "html_521": (VendorDown, NO),
    "html_522": (VendorDown, NO),
    "html_523": (VendorDown, NO),
}
FOUND_AFTER_ALL = [
    "504_gateway_timeout_after_bill",
    "reset_after_bill",
    "hang_after_bill",
    "truncate",
    "slow_drip",
    "bad_json",
    "huge_body",
    "html_504_after_bill",
    "html_524_after_bill",
]
"""The talk exists although its creation was not answered."""
JOBS: dict[str, tuple[type[VendorError], int | None]] = {
    "job_face_error": (InputRefused, None),
    "job_driver_error": (InputRefused, None),
    "job_logo_error": (InputRefused, None),
    "job_source_error": (TryAgain, 1),
    "job_unknown_error": (VendorDown, 1),
    "job_video_enhance_error": (VendorDown, 1),
    "job_rejected": (ContentRefused, None),
}
CALLBACKS = {"callback_lost", "callback_twice", "callback_early"}
"""The operator's business: a callback is only a hint to look."""
SEEN_AT_FINALIZE = {"job_video_without_audio", "job_short_video", "job_expired_result"}


def order(base: Path | None = None) -> PictureOrder:
    return PictureOrder("a friendly guide", 2, 1024, 1024, "low", "auto", "png", base=base)


def speech(text: str = "Welcome aboard, dear guests.") -> SpeechOrder:
    return SpeechOrder(text, VOICE_ID, "eleven_multilingual_v2", "mp3_22050_32", seed=7)


class Answered:
    """Notes that an adapter has said "the vendor answered"."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self, request_id: str | None) -> None:
        self.count += 1


@pytest.fixture
def answered() -> Answered:
    return Answered()


@pytest.fixture
def patience_seconds(request: pytest.FixtureRequest) -> float:
    """Time for one call: short only where the point is that no whole answer comes."""
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    return 1.5 if str(params.get("fault")).startswith(("hang", "slow_drip")) else 30.0


@pytest.fixture
async def openai(standin: Standin, patience_seconds: float) -> AsyncIterator[OpenAI]:
    access = standin.provider(Vendor.OPENAI)
    adapter = OpenAI(access.base_url, KEYS[Vendor.OPENAI], {}, timeout_seconds=patience_seconds)
    yield adapter
    await adapter.aclose()


@pytest.fixture
async def elevenlabs(standin: Standin, patience_seconds: float) -> AsyncIterator[ElevenLabs]:
    access = standin.provider(Vendor.ELEVENLABS)
    adapter = ElevenLabs(access.base_url, KEYS[Vendor.ELEVENLABS], {}, timeout_seconds=patience_seconds)
    yield adapter
    await adapter.aclose()


@pytest.fixture
def lost_job_seconds(request: pytest.FixtureRequest) -> str:
    """Time to look for a lost job: ample where it is there to be found, short where the wait would be for nothing."""
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    return "20" if params.get("fault") in FOUND_AFTER_ALL else "0.3"


@pytest.fixture
async def did(standin: Standin, patience_seconds: float, lost_job_seconds: str) -> AsyncIterator[DID]:
    access = standin.provider(Vendor.DID)
    adapter = DID(
        access.base_url, KEYS[Vendor.DID], {"lostJobSeconds": lost_job_seconds}, timeout_seconds=patience_seconds
    )
    yield adapter
    await adapter.aclose()


@pytest.fixture
async def talk(did: DID, talk_files: tuple[Path, Path]) -> tuple[VideoOrder, VideoSources]:
    image, audio = talk_files
    video = VideoOrder("uid-1/0-1", image, "image/png", audio, "audio/mpeg")
    return video, await did.place_sources(video)


def assert_same(failed: VendorError, expected: Expected) -> None:
    assert (type(failed), failed.charged) == expected
    if expected[0] in (OutcomeUnknown, BrokenAnswer):
        assert failed.retry_limit == 1, "what may be charged each time is sent once more at most"
    assert "sk-standin" not in f"{failed} {failed.message}"
    assert "friendly guide" not in f"{failed} {failed.message}"


@pytest.mark.parametrize(("fault", "expected"), PICTURES.items(), ids=PICTURES.keys())
async def test_pictures(openai: OpenAI, standin: Standin, answered: Answered, fault: str, expected: Expected) -> None:
    standin.fault("openai", "images.generations", fault, seconds=30, retry_after_seconds=12)
    with pytest.raises(VendorError) as failed:
        await openai.make_pictures(order(), answered)
    assert_same(failed.value, expected)
    assert standin.hits() == 1
    assert [call["stainless_retry_count"] for call in standin.calls("openai", "images.generations")] == ["0"]
    if fault in ("429_rate_limit", "429_rate_limit_text_only"):
        assert failed.value.retry_after_seconds == 12
    if fault == "400_moderation_blocked":
        assert "violence" in failed.value.message


@pytest.mark.parametrize(("fault", "expected"), SCRIPTS.items(), ids=SCRIPTS.keys())
async def test_scripts(openai: OpenAI, standin: Standin, fault: str, expected: Expected) -> None:
    standin.fault("openai", "responses", fault)
    with pytest.raises(VendorError) as failed:
        await openai.write_script("a friendly guide through the harbour", 400, "en")
    assert_same(failed.value, expected)


async def test_a_script_that_ran_out_of_tokens_gets_more_of_them(openai: OpenAI, standin: Standin) -> None:
    standin.fault("openai", "responses", "200_incomplete_max_output_tokens")
    script = await openai.write_script("a friendly guide", 400, None)
    assert script.text
    assert len(standin.calls("openai", "responses")) == 2
    assert script.usage["outputTokens"] > 0

    standin.fault("openai", "responses", "200_incomplete_max_output_tokens", times=2)
    with pytest.raises(BrokenAnswer) as failed:
        await openai.write_script("a friendly guide", 400, None)
    assert failed.value.code == "script_truncated"


async def test_a_rate_limit_tells_what_the_account_may(openai: OpenAI, standin: Standin, answered: Answered) -> None:
    with standin.limited("openai.requests_per_minute", 1):
        taken = await openai.make_pictures(order(), answered)
        with pytest.raises(Throttled) as failed:
            await openai.make_pictures(order(), answered)
    assert taken.learned == failed.value.learned == {"maxPerMinute": 1}
    assert (failed.value.retry_after_seconds or 0) > 1


@pytest.mark.parametrize(
    ("fault", "option", "calls"),
    [
        pytest.param("400_moderation_blocked", None, 1, id="not asked for"),
        pytest.param("400_moderation_blocked", "true", 2, id="another picture may pass"),
        pytest.param("400_moderation_blocked_input", "true", 1, id="the prompt stays the same"),
    ],
)
async def test_a_verdict_on_the_picture_is_tried_again_once_if_asked_for(
    standin: Standin, answered: Answered, fault: str, option: str | None, calls: int
) -> None:
    options = {"resendModeratedOutput": option} if option else {}
    adapter = OpenAI(standin.provider(Vendor.OPENAI).base_url, KEYS[Vendor.OPENAI], options, timeout_seconds=30)
    standin.fault("openai", "images.generations", fault, times=2)
    with pytest.raises(ContentRefused):
        await adapter.make_pictures(order(), answered)
    assert len(standin.calls("openai", "images.generations")) == calls
    if calls == 2:
        standin.fault("openai", "images.generations", fault)
        assert len((await adapter.make_pictures(order(), answered)).files) == 2
        assert len(standin.billed("openai")) == 1
    await adapter.aclose()


async def test_a_picture_is_edited_from_a_base(
    openai: OpenAI, standin: Standin, answered: Answered, talk_files: tuple[Path, Path]
) -> None:
    pictures = await openai.make_pictures(order(talk_files[0]), answered)
    assert len(pictures.files) == 2
    assert answered.count == 1
    assert len(standin.calls("openai", "images.edits")) == 1


@pytest.mark.parametrize(("fault", "expected"), SPEECH.items(), ids=SPEECH.keys())
async def test_speech(
    elevenlabs: ElevenLabs, standin: Standin, answered: Answered, fault: str, expected: Expected
) -> None:
    standin.fault("elevenlabs", "text-to-speech", fault)
    with pytest.raises(VendorError) as failed:
        await elevenlabs.speak(speech(), answered)
    assert_same(failed.value, expected)
    assert standin.hits() == 1


LOST_SPEECH = [
    *("hang_after_bill", "reset_after_bill", "truncate", "slow_drip", "html_504_after_bill", "html_524_after_bill"),
]
NEVER_SPOKEN = ["hang", "reset_before_send"]


@pytest.mark.parametrize("fault", LOST_SPEECH)
async def test_a_lost_speech_is_found_in_the_history(
    elevenlabs: ElevenLabs, standin: Standin, answered: Answered, fault: str
) -> None:
    standin.fault("elevenlabs", "text-to-speech", fault, seconds=30)
    spoken = await elevenlabs.speak(speech(), answered)
    assert len(spoken.parts) == 1
    assert len(spoken.parts[0]) > 1000
    assert answered.count == 1
    assert len(standin.billed("elevenlabs")) == 1


async def test_a_lost_speech_is_found_though_others_were_made_since(
    elevenlabs: ElevenLabs, standin: Standin, answered: Answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account is shared: what was lost a minute ago is no longer on the first page."""
    monkeypatch.setattr("renderfleet_providers.elevenlabs.HISTORY_PAGE_SIZE", 2)
    before = datetime.now(UTC)
    await elevenlabs.speak(speech("The one that was lost."), answered)
    for number in range(5):
        await elevenlabs.speak(speech(f"Speech {number}."), answered)
    found = await elevenlabs.find_speech(speech("The one that was lost."), before)
    assert found is not None
    assert found.usage["characters"] == len("The one that was lost.")

    looked = len(standin.calls("elevenlabs", "history"))
    assert await elevenlabs.find_speech(speech("Never said."), before + timedelta(hours=1)) is None
    assert len(standin.calls("elevenlabs", "history")) == looked + 1, "no further back than the call itself"


async def test_a_speech_that_was_spoken_in_another_manner_is_not_taken_for_ours(
    elevenlabs: ElevenLabs, answered: Answered
) -> None:
    calm, lively = replace(speech(), stability=0.9), replace(speech(), stability=0.1)
    before = datetime.now(UTC)
    await elevenlabs.speak(calm, answered)
    assert await elevenlabs.find_speech(lively, before) is None
    assert await elevenlabs.find_speech(calm, before) is not None


@pytest.mark.parametrize("fault", NEVER_SPOKEN)
async def test_a_speech_that_is_not_in_the_history_stays_unknown(
    elevenlabs: ElevenLabs, standin: Standin, answered: Answered, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("renderfleet_providers.elevenlabs.LOST_ANSWER_LOOKS_SECONDS", (0.1, 0.2))
    standin.fault("elevenlabs", "text-to-speech", fault, seconds=30)
    with pytest.raises(OutcomeUnknown) as failed:
        await elevenlabs.speak(speech(), answered)
    assert failed.value.charged is UNKNOWN
    assert failed.value.retry_limit == 1
    assert standin.billed("elevenlabs") == []


async def test_the_vendors_own_limit_is_learned(elevenlabs: ElevenLabs, answered: Answered) -> None:
    spoken = await elevenlabs.speak(speech(), answered)
    assert spoken.learned["maxConcurrent"] >= 1


async def test_a_refusal_for_want_of_a_place_tells_how_many_there_are(tmp_path: Path, answered: Answered) -> None:
    with standin_process(tmp_path, elevenlabs_tier="free") as standin:
        adapter = ElevenLabs(standin.provider(Vendor.ELEVENLABS).base_url, KEYS[Vendor.ELEVENLABS], {}, 30)
        standin.hold("elevenlabs", "text-to-speech", "before_bill")
        running = [asyncio.create_task(adapter.speak(speech(f"Number {number}."), answered)) for number in range(2)]
        while await asyncio.to_thread(standin.waiting) < 2:
            await asyncio.sleep(0.02)
        with pytest.raises(Throttled) as refused:
            await adapter.speak(speech("One too many."), answered)
        standin.release()
        spoken = await asyncio.gather(*running)
        await adapter.aclose()
    assert refused.value.learned == spoken[0].learned == {"maxConcurrent": 2}


async def test_a_long_text_is_spoken_in_chained_parts(standin: Standin, answered: Answered) -> None:
    access = standin.provider(Vendor.ELEVENLABS)
    adapter = ElevenLabs(access.base_url, KEYS[Vendor.ELEVENLABS], {"maxCharacters": "40"}, timeout_seconds=20)
    standin.fault("elevenlabs", "text-to-speech", "429_rate_limit_exceeded", skip=1)
    spoken = await adapter.speak(
        speech("The first sentence stands here. The second one follows it. A third one ends it."), answered
    )
    await adapter.aclose()
    assert len(spoken.parts) == 3
    assert answered.count == 1
    assert len(standin.billed("elevenlabs")) == 3
    calls = standin.calls("elevenlabs", "text-to-speech")
    first, second, third = (bill["request_id"] for bill in standin.billed("elevenlabs"))
    assert [call["status"] for call in calls] == [200, 429, 200, 200], "the refused second part was tried again"
    assert [call["previous_request_ids"] for call in calls] == [None, [first], [first], [first, second]]
    assert spoken.request_id == third


async def test_no_more_parts_are_named_than_the_vendor_takes(standin: Standin, answered: Answered) -> None:
    access = standin.provider(Vendor.ELEVENLABS)
    adapter = ElevenLabs(access.base_url, KEYS[Vendor.ELEVENLABS], {"maxCharacters": "12"}, timeout_seconds=20)
    await adapter.speak(speech("It is one. It is two. It is six. It is ten. It is all."), answered)
    await adapter.aclose()
    made = [bill["request_id"] for bill in standin.billed("elevenlabs")]
    assert len(made) == 5
    assert standin.calls("elevenlabs", "text-to-speech")[-1]["previous_request_ids"] == made[1:4]


async def test_a_failure_in_the_middle_of_a_long_text_says_that_money_was_spent(
    standin: Standin, answered: Answered
) -> None:
    access = standin.provider(Vendor.ELEVENLABS)
    adapter = ElevenLabs(access.base_url, KEYS[Vendor.ELEVENLABS], {"maxCharacters": "40"}, timeout_seconds=20)
    standin.fault("elevenlabs", "text-to-speech", "401_quota_exceeded", skip=1)
    with pytest.raises(OutOfCredit) as failed:
        await adapter.speak(speech("The first sentence stands here. The second one follows it."), answered)
    await adapter.aclose()
    assert failed.value.charged is YES


@pytest.mark.parametrize(("fault", "expected"), TALKS.items(), ids=TALKS.keys())
async def test_talks(
    did: DID, standin: Standin, talk: tuple[VideoOrder, VideoSources], fault: str, expected: Expected
) -> None:
    standin.fault("did", "talks.create", fault, seconds=30)
    with pytest.raises(VendorError) as failed:
        await did.start(*talk)
    assert_same(failed.value, expected)
    assert standin.hits() == 1
    assert len(standin.calls("did", "talks.create")) == 1
    assert standin.billed("did") == []


@pytest.mark.parametrize("fault", FOUND_AFTER_ALL)
async def test_a_talk_that_was_taken_without_an_answer_is_found(
    did: DID, standin: Standin, talk: tuple[VideoOrder, VideoSources], fault: str
) -> None:
    standin.fault("did", "talks.create", fault, seconds=30, interval_ms=3000)
    job = await did.start(*talk)
    assert job.correlation == "uid-1/0-1"
    assert len(standin.billed("did")) == 1


async def test_a_lost_talk_stays_unknown_when_the_list_cannot_be_read(
    did: DID, standin: Standin, talk: tuple[VideoOrder, VideoSources]
) -> None:
    standin.fault("did", "talks.create", "reset_after_bill")
    standin.fault("did", "talks.list", "500_internal_server", times=None)
    with pytest.raises(OutcomeUnknown) as failed:
        await did.start(*talk)
    assert failed.value.charged is UNKNOWN


@pytest.mark.parametrize(("fault", "expected"), JOBS.items(), ids=JOBS.keys())
async def test_jobs_that_end_badly(
    did: DID,
    standin: Standin,
    talk: tuple[VideoOrder, VideoSources],
    fault: str,
    expected: tuple[type[VendorError], int | None],
) -> None:
    standin.fault("did", "talks.create", fault)
    job = await did.start(*talk)
    while job.state is JobState.WORKING:
        job = await did.look(job.job_id)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert (type(job.error), job.error.retry_limit) == expected
    assert job.error.charged is NO
    assert standin.billed("did") == [], "the credits of failed jobs are returned"


@pytest.mark.parametrize("fault", ["job_stuck", "job_unknown_status"])
async def test_an_unknown_state_is_work_in_progress(
    did: DID, standin: Standin, talk: tuple[VideoOrder, VideoSources], fault: str
) -> None:
    standin.fault("did", "talks.create", fault)
    job = await did.start(*talk)
    for _ in range(3):
        assert (await did.look(job.job_id)).state is JobState.WORKING


@pytest.mark.parametrize("fault", ["500_internal_server", "504_gateway_timeout", "html_502", "hang", "bad_json"])
async def test_a_failing_look_is_no_failed_job(
    did: DID, standin: Standin, talk: tuple[VideoOrder, VideoSources], fault: str
) -> None:
    job = await did.start(*talk)
    standin.fault("did", "talks.get", fault, seconds=30)
    with pytest.raises(VendorDown) as failed:
        await did.look(job.job_id)
    assert failed.value.charged is NO
    assert (await did.look(job.job_id)).job_id == job.job_id


async def test_discarding_waits_for_the_end(did: DID, talk: tuple[VideoOrder, VideoSources]) -> None:
    job = await did.start(*talk)
    assert await did.discard(job.job_id) is False
    while job.state is JobState.WORKING:
        job = await did.look(job.job_id)
    assert await did.discard(job.job_id) is True
    with pytest.raises(InputRefused) as gone:
        await did.look(job.job_id)
    assert gone.value.code == "NotFoundError"


@pytest.mark.parametrize("scheme", ["basic-raw", "basic-base64"])
async def test_did_takes_both_ways_to_write_the_key(standin: Standin, scheme: str) -> None:
    access = standin.provider(Vendor.DID)
    adapter = DID(access.base_url, KEYS[Vendor.DID], {"authScheme": scheme}, timeout_seconds=5)
    health = await adapter.probe()
    await adapter.aclose()
    assert health.credits_remaining is not None


@pytest.mark.parametrize("nowhere", ["http://127.0.0.1:9", "https://vendor.invalid"], ids=["refused", "no such name"])
@pytest.mark.parametrize("vendor", list(Vendor))
async def test_nobody_listens(vendor: Vendor, nowhere: str, answered: Answered) -> None:
    """No connection: nothing was sent, so nothing can have been charged."""
    with pytest.raises(VendorDown) as failed:
        match vendor:
            case Vendor.OPENAI:
                await OpenAI(nowhere, "sk-none", {}, 2).make_pictures(order(), answered)
            case Vendor.ELEVENLABS:
                await ElevenLabs(nowhere, "none", {}, 2).speak(speech(), answered)
            case Vendor.DID:
                sources = VideoSources("https://x.test/a.png", "https://x.test/a.mp3")
                video = VideoOrder("c", Path("none"), "image/png", Path("none"), "audio/mpeg")
                await DID(nowhere, "none", {}, 2).start(video, sources)
    assert failed.value.charged is NO
    assert answered.count == 0


@pytest.mark.parametrize("vendor", list(Vendor))
async def test_probes_tell_a_wrong_key(standin: Standin, vendor: Vendor) -> None:
    access = standin.provider(vendor)
    good = connect(vendor.value, access.base_url, KEYS[vendor])
    await good.probe()
    await good.aclose()
    bad = connect(vendor.value, access.base_url, "wrong-key:wrong")
    with pytest.raises(KeyRefused):
        await bad.probe()
    await bad.aclose()
    assert standin.billed() == []


def test_no_row_is_left_out(standin: Standin) -> None:
    known = httpx2.get(f"{standin.base_url}/_standin/faults").json()["known"]
    elsewhere = NO_FAULT_IN_ITSELF | SEEN_BY_THE_RUNNER | SEEN_AT_FINALIZE | CALLBACKS | NEVER_ASKED_FOR
    covered = {
        "openai": {*PICTURES, *SCRIPTS, "200_incomplete_max_output_tokens"},
        # Half a JSON body is half an MP3 here: the runner hears it.
        "elevenlabs": {*SPEECH, *LOST_SPEECH, *NEVER_SPOKEN, "bad_json"},
        "did": {*TALKS, *FOUND_AFTER_ALL, *JOBS, "job_stuck", "job_unknown_status"},
    }
    assert {vendor: set(rows) - covered[vendor] - elsewhere for vendor, rows in known.items()} == {
        vendor: set() for vendor in known
    }


async def test_voices_are_listed(elevenlabs: ElevenLabs) -> None:
    voices = await elevenlabs.voices()
    assert VOICE_ID in [voice["voice_id"] for voice in voices]


async def test_models_about_to_be_shut_down_are_warned_of(tmp_path: Path) -> None:
    found = {}
    with standin_process(tmp_path, today="2026-11-20") as standin:
        for model in ("gpt-image-2.6-flare", "gpt-image-1.5", "gpt-image-0-none"):
            for script_model in ("gpt-6-luna", "gpt-5-nano"):
                options = {"model": model, "scriptModel": script_model}
                adapter = OpenAI(standin.provider(Vendor.OPENAI).base_url, KEYS[Vendor.OPENAI], options, 30)
                found[model, script_model] = (await adapter.probe()).warning
                await adapter.aclose()
    goes = "is shut down on 2026-12-{}; choose another in spec.options"
    picture, script = f"model gpt-image-1.5 {goes.format('01')}", f"model gpt-5-nano {goes.format('11')}"
    none = "model gpt-image-0-none is not offered to this account; set options.model or options.scriptModel"
    assert found == {
        ("gpt-image-2.6-flare", "gpt-6-luna"): None,
        ("gpt-image-2.6-flare", "gpt-5-nano"): script,
        ("gpt-image-1.5", "gpt-6-luna"): picture,
        ("gpt-image-1.5", "gpt-5-nano"): f"{picture}; {script}",
        ("gpt-image-0-none", "gpt-6-luna"): none,
        ("gpt-image-0-none", "gpt-5-nano"): f"{none}; {script}",
    }


async def test_pictures_are_unpacked_beside_the_event_loop(
    openai: OpenAI, answered: Answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dozen megabytes of base64 would hold up the record that is written meanwhile, and SIGTERM."""
    decode, here, threads = base64.b64decode, threading.get_ident(), set()

    def watched(*given: Any, **more: Any) -> bytes:
        threads.add(threading.get_ident())
        return decode(*given, **more)

    monkeypatch.setattr(base64, "b64decode", watched)
    assert len((await openai.make_pictures(order(), answered)).files) == 2
    assert threads
    assert here not in threads
