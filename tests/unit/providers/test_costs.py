"""Money: counts times prices, exact; and guesses that are rather too high."""

import pytest

from renderfleet_crds.avatar_render import AvatarRenderSpec
from renderfleet_crds.render_provider import Price
from renderfleet_crds.video_render import AvatarRef, VideoRenderSpec
from renderfleet_crds.voice_job import VoiceJobSpec
from renderfleet_providers.costs import as_script_usage, cost_micros, estimate_usage, split_usage

PRICES = [Price(unit="outputTokens", micros=30), Price(unit="inputTokens", micros=5)]


def test_cost_is_exact_and_counts_only_what_has_a_price() -> None:
    assert cost_micros({"outputTokens": 1056, "inputTokens": 46, "images": 1}, PRICES) == 1056 * 30 + 46 * 5
    assert cost_micros({}, PRICES) == 0
    assert cost_micros({"outputTokens": 5}, []) == 0


def test_the_scripts_counts_are_kept_apart() -> None:
    usage = {"characters": 120, **as_script_usage({"inputTokens": 9, "outputTokens": 40})}
    assert usage == {"characters": 120, "scriptInputTokens": 9, "scriptOutputTokens": 40}
    assert split_usage(usage) == ({"characters": 120}, {"inputTokens": 9, "outputTokens": 40})
    assert split_usage({"scripted": 1}) == ({"scripted": 1}, {})


@pytest.mark.parametrize(
    ("quality", "size", "tokens"),
    [
        ("low", "1024x1024", 272),
        ("medium", "1536x1024", 1584),
        ("high", "1024x1536", 6240),
        ("auto", "1024x1024", 4160),
    ],
)
def test_pictures_are_estimated_by_quality_and_size(quality: str, size: str, tokens: int) -> None:
    spec = AvatarRenderSpec.model_validate({"prompt": "x" * 10, "count": 3, "quality": quality, "size": size})
    assert estimate_usage(spec) == {"images": 3, "inputTokens": 3, "outputTokens": 3 * tokens}


def test_speech_is_estimated_by_its_letters() -> None:
    assert estimate_usage(VoiceJobSpec(text="Hello", voice_id="v")) == {"characters": 5}
    guessed = estimate_usage(VoiceJobSpec(prompt="a tour", voice_id="v"))
    assert guessed["characters"] == 2000
    assert guessed["scriptOutputTokens"] > 0


def test_videos_are_estimated_by_their_length() -> None:
    known = VideoRenderSpec(avatar_ref=AvatarRef(name="a"), audio_key="media/a/b.mp3")
    assert estimate_usage(known, audio_seconds=31.2) == {"seconds": 32, "credits": 3}
    spoken = VideoRenderSpec(avatar_ref=AvatarRef(name="a"), script="x" * 150, voice_id="v")
    assert estimate_usage(spoken) == {"seconds": 10, "credits": 1}
    assert estimate_usage(known)["seconds"] == 60
