from datetime import UTC, datetime

import pytest

from renderfleet_cli import words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "less than a second"),
        (1, "1 second"),
        (59.6, "60 seconds"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "1 hour"),
        (7500, "2 hours 5 minutes"),
        (86_400 + 3600, "1 day 1 hour"),
        (3 * 86_400, "3 days"),
    ],
)
def test_spells_a_length_of_time(seconds: float, said: str) -> None:
    assert words.spell(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, ""),
        (-3, "0s"),
        (119, "119s"),
        (120, "2m"),
        (312, "5m12s"),
        (3600, "60m"),
        (4 * 3600 + 300, "4h5m"),
        (30 * 3600, "30h"),
        (3 * 86_400 + 7200, "3d2h"),
        (20 * 86_400, "20d"),
    ],
)
def test_ages_are_as_short_as_those_of_kubectl(seconds: float | None, shown: str) -> None:
    assert words.age(seconds) == shown


@pytest.mark.parametrize(
    ("micros", "shown"),
    [
        (None, ""),
        (0, "0.00 USD"),
        (31_500, "0.0315 USD"),
        (1, "0.000001 USD"),
        (12_340_000, "12.34 USD"),
        (1_234_567_890_000, "1,234,567.89 USD"),
        (-500_000, "-0.50 USD"),
    ],
)
def test_money_is_exact(micros: int | None, shown: str) -> None:
    assert words.money(micros) == shown


def test_a_moment_without_a_zone_is_utc() -> None:
    assert words.moment("2026-11-24T07:00:00") == words.moment("2026-11-24T07:00:00Z")
    assert words.moment(None) is None


def test_a_clock_that_runs_behind_makes_no_negative_age() -> None:
    later, earlier = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)

    assert words.seconds_between(later, earlier) == 0
    assert words.seconds_between(None, earlier) is None
