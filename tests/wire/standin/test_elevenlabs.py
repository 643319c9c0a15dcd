"""The ElevenLabs side, seen through the vendor's own package and, for odd requests, by plain HTTP."""

import array
import concurrent.futures
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from elevenlabs import VoiceSettings
from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError

from renderfleet_standin.media.speech import OUTPUT_FORMATS

from .conftest import Probe, Server

RACHEL = "21m00Tcm4TlvDq8ikWAM"
BRUNO = "StAndInBrunoVoice002"
LIBRARY = "StAndInLibraryVoice6"
TEXT = "Welcome to the harbour tour."
SPEECH = f"/elevenlabs/v1/text-to-speech/{RACHEL}"
KEY = {"xi-api-key": "el-standin"}


def client_of(server: Server) -> ElevenLabs:
    return ElevenLabs(base_url=f"{server.url}/elevenlabs", api_key="el-standin")


@pytest.fixture
def client(standin: Server) -> ElevenLabs:
    return client_of(standin)


def say(client: ElevenLabs, voice: str = RACHEL, text: str = TEXT, **more: Any) -> bytes:
    return b"".join(client.text_to_speech.convert(voice, text=text, **more))


def post(
    server: Server, path: str = SPEECH, json: object = None, headers: dict[str, str] = KEY, **more: Any
) -> httpx2.Response:
    with server.http() as http:
        return http.post(path, json={"text": TEXT} if json is None else json, headers=headers, **more)


def test_speech_is_an_mp3_as_long_as_the_text_takes(client: ElevenLabs, probed: Probe) -> None:
    short = probed(say(client))
    long = probed(say(client, text=" ".join([TEXT] * 4)))

    assert short["streams"][0]["codec_name"] == "mp3"
    assert short["streams"][0]["sample_rate"] == "44100"
    assert 1.0 < float(short["format"]["duration"]) < 4.0
    assert float(long["format"]["duration"]) > 3 * float(short["format"]["duration"])


@pytest.mark.parametrize(
    ("output_format", "codec", "rate"),
    [
        ("mp3_22050_32", "mp3", "22050"),
        ("mp3_24000_48", "mp3", "24000"),
        ("mp3_44100_192", "mp3", "44100"),
        ("opus_48000_64", "opus", "48000"),
        ("wav_16000", "pcm_s16le", "16000"),
    ],
)
def test_output_formats_are_what_they_say(
    client: ElevenLabs, probed: Probe, output_format: Any, codec: str, rate: str
) -> None:
    stream = probed(say(client, output_format=output_format))["streams"][0]

    assert (stream["codec_name"], stream["sample_rate"], stream["channels"]) == (codec, rate, 1)


@pytest.mark.parametrize(
    "output_format", [name for name in OUTPUT_FORMATS if name.partition("_")[0] in ("pcm", "ulaw", "alaw")]
)
def test_raw_formats_have_the_length_of_their_rate(pro: Server, output_format: str) -> None:
    answer = post(pro, params={"output_format": output_format})

    bytes_per_second = int(output_format.partition("_")[2]) * (2 if output_format.startswith("pcm") else 1)
    assert 1.0 < len(answer.content) / bytes_per_second < 4.0


def loudness(pcm: bytes) -> int:
    return max(abs(sample) for sample in array.array("h", pcm))


def test_voices_differ_and_one_voice_repeats_itself(client: ElevenLabs) -> None:
    rachel = say(client, output_format="pcm_16000")

    assert say(client, output_format="pcm_16000") == rachel
    assert say(client, BRUNO, output_format="pcm_16000") != rachel
    assert loudness(rachel) > 5000


def test_speed_makes_it_shorter(client: ElevenLabs) -> None:
    slow = say(client, output_format="pcm_16000", voice_settings=VoiceSettings(speed=0.7))
    fast = say(client, output_format="pcm_16000", voice_settings=VoiceSettings(speed=1.2))

    assert len(fast) < 0.8 * len(slow)


def test_a_stream_gives_the_same_bytes(client: ElevenLabs) -> None:
    assert b"".join(client.text_to_speech.stream(RACHEL, text=TEXT)) == say(client)


def test_timestamps_cover_the_text_and_the_audio(client: ElevenLabs) -> None:
    whole = client.text_to_speech.convert_with_timestamps(RACHEL, text=TEXT)
    pieces = list(client.text_to_speech.stream_with_timestamps(RACHEL, text=TEXT))

    assert whole.alignment is not None
    assert "".join(whole.alignment.characters) == TEXT
    assert "".join("".join(piece.alignment.characters) for piece in pieces if piece.alignment) == TEXT
    assert whole.alignment.character_start_times_seconds[0] == 0.0
    assert whole.alignment.character_end_times_seconds[-1] > 1.0


def test_good_answers_carry_their_headers(standin: Server) -> None:
    answer = post(standin, json={"text": TEXT, "model_id": "eleven_flash_v2_5"})

    assert answer.headers["content-type"] == "audio/mpeg"
    assert answer.headers["character-cost"] == str(len(TEXT) // 2)
    assert answer.headers["request-id"] == answer.headers["x-trace-id"] == standin.bills()[0]["request_id"]
    assert answer.headers["current-concurrent-requests"] == "1"
    assert answer.headers["maximum-concurrent-requests"] == "10"


def test_errors_carry_no_request_id_but_name_the_trace(standin: Server) -> None:
    answer = post(standin, json={"text": TEXT, "model_id": "no-such"})

    assert "request-id" not in answer.headers
    assert answer.json()["detail"]["request_id"] == answer.headers["x-trace-id"]


@pytest.mark.parametrize(
    ("body", "kind", "place"),
    [
        ({}, "missing", ["body", "text"]),
        ({"text": 5}, "string_type", ["body", "text"]),
        ({"text": "x", "seed": -1}, "greater_than_equal", ["body", "seed"]),
        ({"text": "x", "voice_settings": {"stability": 2}}, "less_than_equal", ["body", "voice_settings", "stability"]),
        ({"text": "x", "previous_request_ids": ["a", "b", "c", "d"]}, "too_long", ["body", "previous_request_ids"]),
        ({"text": "x", "apply_text_normalization": "maybe"}, "literal_error", ["body", "apply_text_normalization"]),
    ],
)
def test_the_shape_is_checked_before_the_key(standin: Server, body: object, kind: str, place: list[str]) -> None:
    answer = post(standin, json=body, headers={"xi-api-key": "wrong"})

    assert answer.status_code == 422
    assert [(problem["type"], problem["loc"]) for problem in answer.json()["detail"]] == [(kind, place)]


def test_the_package_knows_the_422(client: ElevenLabs) -> None:
    with pytest.raises(ApiError) as caught:
        list(client.text_to_speech.convert(RACHEL, text=5))  # type: ignore[arg-type]

    assert caught.value.status_code == 422


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        pytest.param("POST", {}, (401, "missing_api_key", "needs_authorization"), id="no key"),
        pytest.param("POST", {"xi-api-key": "wrong"}, (401, "unauthorized", "invalid_api_key"), id="wrong key"),
        pytest.param(
            "POST", {"authorization": "Bearer el-standin"}, (401, "unauthorized", "invalid_api_key"), id="bearer"
        ),
        pytest.param("GET", {}, (404, "workspace_not_found", "workspace_not_found"), id="GET without key"),
    ],
)
def test_who_may_not_call(
    standin: Server, method: str, headers: dict[str, str], expected: tuple[int, str, str]
) -> None:
    with standin.http(headers=headers) as http:
        path = SPEECH if method == "POST" else "/elevenlabs/v1/models"
        answer = http.request(method, path, json={"text": TEXT} if method == "POST" else None)

    detail = answer.json()["detail"]
    assert (answer.status_code, detail["code"], detail["status"]) == expected


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        pytest.param(SPEECH, {"text": "  "}, (400, "empty_text"), id="nothing to say"),
        pytest.param(SPEECH, {"text": "x" * 10_001}, (400, "text_too_long"), id="too long for the default model"),
        pytest.param(SPEECH, {"text": "x" * 5_001, "model_id": "eleven_v3"}, (400, "text_too_long"), id="too long for v3"),
        pytest.param(SPEECH, {"text": "x", "model_id": "gone"}, (404, "model_not_found"), id="unknown model"),
        pytest.param(SPEECH[:-1], {"text": "x"}, (404, "voice_not_found"), id="unknown voice"),
        pytest.param(SPEECH + "?output_format=mp3_1_1", {"text": "x"}, (400, "invalid_output_format"), id="unknown format"),
        pytest.param(SPEECH, {"text": "x", "language_code": "en"}, (400, "unsupported_language"), id="language with multilingual v2"),
        pytest.param(SPEECH, {"text": "x", "model_id": "eleven_v4", "language_code": "xx"}, (400, "unsupported_language"), id="unknown language"),
        pytest.param(SPEECH, {"text": "x", "model_id": "eleven_v3", "voice_settings": {"stability": 0.3}}, (400, "invalid_voice_settings"), id="fine stability with v3"),
        pytest.param(SPEECH, {"text": "x", "voice_settings": {"speed": 3}}, (400, "invalid_voice_settings"), id="too fast"),
        pytest.param(SPEECH + "?output_format=wav_44100", {"text": "x"}, (403, "subscription_required"), id="format of a higher plan"),
        pytest.param(SPEECH + "?enable_logging=false", {"text": "x"}, (403, "feature_not_available"), id="enterprise only"),
    ],
)  # fmt: skip
def test_what_speech_refuses(standin: Server, path: str, body: object, expected: tuple[int, str]) -> None:
    answer = post(standin, path, json=body)

    assert (answer.status_code, answer.json()["detail"]["code"]) == expected
    assert standin.bills() == []


def test_a_free_plan_may_not_use_library_voices(standin_with: Callable[..., Server]) -> None:
    answer = post(standin_with(elevenlabs_tier="free"), f"/elevenlabs/v1/text-to-speech/{LIBRARY}")

    assert (answer.status_code, answer.json()["detail"]["code"]) == (402, "paid_plan_required")


def test_another_language_sounds_different(client: ElevenLabs) -> None:
    spoken = {
        language: say(client, model_id="eleven_v4", language_code=language, output_format="pcm_16000")
        for language in ("en", "de")
    }

    assert spoken["en"] != spoken["de"]


def test_only_so_many_calls_run_at_once(standin: Server) -> None:
    """Five calls stand at a gate; the sixth is refused, and taken again once a place is free."""
    standin.control("hold", {"vendor": "elevenlabs", "operation": "text-to-speech", "times": 5})
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        running = [pool.submit(post, standin) for _ in range(5)]
        while sum(len(gate["waiting"]) for gate in standin.control("hold")) < 5:
            time.sleep(0.02)
        refused = post(standin)
        other_group = post(standin, json={"text": TEXT, "model_id": "eleven_flash_v2_5"})
        standin.control("release", {})
        answers = [call.result() for call in running]

    detail = refused.json()["detail"]
    assert refused.status_code == 429
    assert (detail["code"], detail["status"]) == ("concurrent_limit_exceeded", "too_many_concurrent_requests")
    places = [refused.headers[f"{which}-concurrent-requests"] for which in ("current", "maximum")]
    assert places == ["5", "5"]
    assert other_group.status_code == 200, "another model group has places of its own"
    assert {answer.status_code for answer in answers} == {200}
    assert max(int(answer.headers["current-concurrent-requests"]) for answer in answers) == 5
    assert post(standin).status_code == 200


def test_an_excess_call_waits_for_a_place_before_it_is_refused(standin_with: Callable[..., Server]) -> None:
    server = standin_with(elevenlabs_tier="free", elevenlabs_queue_seconds=20)
    server.control("hold", {"vendor": "elevenlabs", "times": 2})
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(post, server) for _ in range(3)]
        while len(server.control("calls")["calls"]) < 3 or len(server.control("hold")[0]["waiting"]) < 2:
            time.sleep(0.02)
        assert not any(call.done() for call in calls)
        server.control("release", {})

        assert [call.result().status_code for call in calls] == [200, 200, 200]


def test_credits_run_out_in_each_of_the_known_shapes(standin_with: Callable[..., Server]) -> None:
    shapes: dict[str, Any] = {}
    for kind in ("401", "401-legacy", "402"):
        server = standin_with(elevenlabs_character_limit=len(TEXT) + 5, elevenlabs_quota_answer=kind)
        assert post(server).status_code == 200
        refused = post(server)
        shapes[kind] = refused.status_code, refused.json()["detail"]

    assert shapes["401"][0] == 401 and shapes["401"][1]["code"] == "quota_exceeded"
    assert shapes["401"][1]["type"] == "invalid_request"
    assert shapes["401-legacy"][0] == 401 and set(shapes["401-legacy"][1]) == {"status", "message"}
    assert shapes["402"][0] == 402 and shapes["402"][1]["code"] == "insufficient_credits"
    assert f"You have 5 credits remaining, while {len(TEXT)} credits are required" in shapes["401"][1]["message"]


def test_requests_per_minute_are_kept(standin: Server) -> None:
    standin.control("limits", {"name": "elevenlabs.requests_per_minute", "limit": 1})
    try:
        answers = [post(standin) for _ in range(2)]
    finally:
        standin.control("limits", {"name": "elevenlabs.requests_per_minute", "limit": 0})

    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].json()["detail"]["code"] == "rate_limit_exceeded"


def test_lists_read_by_the_package(client: ElevenLabs) -> None:
    first = client.voices.search(page_size=5, include_total_count=True)
    second = client.voices.search(page_size=5, next_page_token=first.next_page_token)

    names = [voice.name for voice in [*first.voices, *second.voices]]
    assert len(names) == len(set(names)) == first.total_count == 8
    assert first.has_more and not second.has_more
    assert len(client.voices.get_all().voices) == 8
    assert client.voices.get(RACHEL).name == "Rachel"
    longest = {model.model_id: model.maximum_text_length_per_request for model in client.models.list()}
    assert longest["eleven_multilingual_v2"] == 10_000
    assert longest["eleven_flash_v2_5"] == 40_000


def test_preview_links_lead_to_audio(standin: Server, client: ElevenLabs, probed: Probe) -> None:
    url = client.voices.get(RACHEL).preview_url
    assert url is not None

    assert probed(standin.fetch(url).content)["streams"][0]["codec_name"] == "mp3"


def test_what_the_package_retries_by_itself_is_seen(standin: Server, client: ElevenLabs) -> None:
    """Lists are asked for again without our doing; speech, which costs money, is not."""
    standin.fault("elevenlabs", "503_service_unavailable", operation="models")
    assert client.models.list()
    standin.fault("elevenlabs", "503_service_unavailable", operation="text-to-speech")
    with pytest.raises(ApiError) as refused:
        say(client)

    assert refused.value.status_code == 503
    assert [call["status"] for call in standin.control("calls")["calls"]] == [503, 200, 503]
    assert standin.bills() == []


def test_the_subscription_counts_what_was_spoken(client: ElevenLabs) -> None:
    before = client.user.subscription.get().character_count
    say(client)

    assert client.user.subscription.get().character_count - before == len(TEXT)


def test_the_history_keeps_what_was_spoken(client: ElevenLabs) -> None:
    audio = say(client)
    say(client, BRUNO, text="Another one.")

    listed = client.history.list(page_size=1)
    older = client.history.list(page_size=1, start_after_history_item_id=listed.last_history_item_id)
    assert [item.text for item in listed.history] == ["Another one."]
    assert listed.has_more
    assert [item.text for item in older.history] == [TEXT]
    assert b"".join(client.history.get_audio(older.history[0].history_item_id)) == audio


@pytest.mark.parametrize("fault", ["200_empty_audio", "200_short_audio", "200_silent_audio", "200_not_audio"])
def test_audio_that_goes_wrong_with_a_200(standin: Server, probed: Probe, fault: str) -> None:
    good = post(standin).content
    standin.fault("elevenlabs", fault)
    bad = post(standin)

    assert bad.status_code == 200
    assert len(standin.bills()) == 2
    match fault:
        case "200_empty_audio":
            assert bad.content == b""
        case "200_short_audio":
            assert bad.content == good[: len(good) // 2]
        case "200_silent_audio":
            assert float(probed(bad.content)["format"]["duration"]) > 1.0
            standin.fault("elevenlabs", fault)
            assert loudness(post(standin, params={"output_format": "pcm_16000"}).content) < 10
        case "200_not_audio":
            assert bad.content.startswith(b"<html>")
