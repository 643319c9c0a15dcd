"""What the page says in words and numbers."""

from datetime import UTC, datetime
from typing import Any

import pytest

from renderfleet_api.pages import words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (119.4, "119 s"), (120, "2 min"), (3000, "50 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_a_length_of_time(seconds: float, said: str) -> None:
    assert words.spell(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (True, "yes"),
        (False, "no"),
        (0.4, "0.4"),
        ({"name": "guide", "index": 2}, "name guide, index 2"),
        (["a", True], "a, yes"),
    ],
)
def test_a_value_of_a_spec(value: Any, said: str) -> None:
    assert words.in_words(value) == said


@pytest.mark.parametrize("moment", ["2026-11-25T20:11:00+02:00", datetime(2026, 11, 25, 18, 11, tzinfo=UTC)])
def test_a_moment_is_told_in_utc(moment: str | datetime) -> None:
    assert words.clock(moment) == "25 Nov, 18:11:00"
