"""What adapters do to texts: splitting for speech, shortening scripts, and keeping vendors' words out of ours."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from renderfleet_providers import did, elevenlabs, openai
from renderfleet_providers.elevenlabs import split_text
from renderfleet_providers.errors import ContentRefused, Throttled, as_code, retry_after_seconds
from renderfleet_providers.openai import shorten, try_again_in_seconds


def test_texts_are_split_at_sentence_ends() -> None:
    text = 'The harbour is old. "Is it?" she asked. It is, and it is deep! Come along.'
    assert split_text(text, 45) == ['The harbour is old. "Is it?" she asked.', "It is, and it is deep! Come along."]


def test_a_paragraph_end_is_preferred() -> None:
    text = "One two three.\n\nFour. Five six seven eight."
    assert split_text(text, 24) == ["One two three.", "Four. Five six seven", "eight."]


def test_a_text_without_sentences_is_split_at_spaces_then_anywhere() -> None:
    assert split_text("aaaa bbbb cccc", 9) == ["aaaa bbbb", "cccc"]
    assert split_text("a" * 25, 10) == ["a" * 10, "a" * 10, "a" * 5]


@given(text=st.text(alphabet="ab .!?\n。é", max_size=300), limit=st.integers(1, 50))
def test_nothing_is_lost_and_no_piece_is_too_long(text: str, limit: int) -> None:
    pieces = split_text(text, limit)
    assert all(0 < len(piece) <= limit for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("Short.", 20, "Short."),
        ("One. Two. Three is long.", 10, "One. Two."),
        ("no sentence end here", 12, "no sentence"),
        ("wordwithoutspaces", 4, "word"),
    ],
)
def test_scripts_are_shortened_at_a_sentence_end(text: str, limit: int, expected: str) -> None:
    assert shorten(text, limit) == expected


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Please try again in 12s.", 12.0),
        ("Please try again in 450ms.", 0.45),
        ("try again in 1m2.5s", 62.5),
        ("Try again later", None),
        (None, None),
    ],
)
def test_try_again_in(message: str | None, seconds: float | None) -> None:
    assert try_again_in_seconds(message) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers) == seconds


@pytest.mark.parametrize("text", ["a friendly guide", "sk-abc def", "", "x" * 200, "9lives", None, 5, ["x"]])
def test_prose_is_no_code(text: object) -> None:
    assert as_code(text, "fallback") == "fallback"


ODD_BODIES: list[object] = [
    None,
    [],
    "text",
    5,
    {"error": "text"},
    {"error": {"code": 5, "message": {}}},
    {"detail": 5},
]


@pytest.mark.parametrize(
    "body", [*ODD_BODIES, {"detail": [1, {"loc": "x"}]}, {"detail": {"code": ["x"]}}, {"kind": {}}]
)
@pytest.mark.parametrize("status", [400, 401, 429, 451, 500, 504, 999])
@pytest.mark.parametrize("vendor", [openai, elevenlabs, did])
def test_no_body_confuses_the_classification(vendor: object, status: int, body: object) -> None:
    error = vendor.classify(status, body, {})  # type: ignore[attr-defined]
    assert error.code
    assert error.message


def test_a_verdict_is_seen_whatever_the_status() -> None:
    body = {"error": {"message": "x", "type": "y", "param": None, "code": "moderation_blocked"}}
    assert isinstance(openai.classify(403, body, {}), ContentRefused)


def test_throttling_tells_what_the_vendor_allows() -> None:
    body = {"detail": {"code": "concurrent_limit_exceeded", "message": "x"}}
    error = elevenlabs.classify(429, body, {"maximum-concurrent-requests": "3"})
    assert isinstance(error, Throttled)
    assert error.learned == {"maxConcurrent": 3}


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("https://s3.example.test/media/a.mp3?X-Amz-Signature=0aF&X-Amz-Date=20261124T080000Z", True),
        ("https://s3.example.test/a.mp3?X-Amz-Credential=AKIA%2F20261124%2Fus-east-1", True),
        ("https://cdn.example.test/a.mp3?Expires=1&Signature=ab~c_&Key-Pair-Id=K1", False),
        ("http://s3.example.test/a.mp3", False),
        ("https://s3.example.test/a.ogg", False),
    ],
)
def test_audio_links_that_the_vendor_would_take(url: str, fits: bool) -> None:
    assert bool(did.AUDIO_URL.fullmatch(url)) is fits


@pytest.mark.parametrize(
    ("scheme", "header"),
    [
        ("basic-raw", "Basic me:pw"),
        ("basic-base64", "Basic bWU6cHc="),
        ("bearer", "Bearer me:pw"),
        ("odd", "Basic me:pw"),
    ],
)
def test_authorization(scheme: str, header: str) -> None:
    assert did.authorization("me:pw", scheme) == header


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("stays", None),
        ("goes-soon", "is shut down on 2026-12-01"),
        ("goes-later", None),
        ("gone", "is shut down on 2026-05-12"),
        ("unknown", "is not offered"),
    ],
)
def test_models_that_go_away_are_warned_of(model: str, expected: str | None) -> None:
    known = {
        "stays": {"id": "stays"},
        "goes-soon": {"shutdown_date": "2026-12-01"},
        "goes-later": {"shutdown_date": "2027-06-01"},
        "gone": {"shutdown_date": "2026-05-12"},
    }
    warning = openai.shutdown_warning(model, known, date(2026, 11, 24))
    assert (warning is None) if expected is None else (expected in (warning or ""))
