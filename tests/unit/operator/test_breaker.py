"""When a vendor is asked, and when it is left alone."""

from typing import Any

import pytest

from renderfleet_operator.decide import breaker
from renderfleet_operator.decide.breaker import Breaker

SETTINGS: dict[str, Any] = {
    "windowSeconds": 60,
    "minCalls": 4,
    "failurePercent": 50,
    "openSeconds": 10,
    "maxOpenSeconds": 60,
}
NOW = 1_000_000.0


def after(*failures: bool, settings: dict[str, Any] = SETTINGS, every: float = 1.0) -> Breaker:
    made = Breaker()
    for number, is_failure in enumerate(failures):
        now, token = NOW + number * every, f"t{number}"
        if is_failure:
            made = breaker.failed(made, settings, now, token, chance=0.5)
        else:
            made = breaker.answered(made, settings, now, token)
    return made


@pytest.mark.parametrize(
    ("calls", "state"),
    [
        pytest.param([True] * 3, "Closed", id="too few calls say nothing"),
        pytest.param([True] * 4, "Open", id="enough failures open it"),
        pytest.param([False, False, False, True], "Closed", id="a few among many do not"),
        pytest.param([False, False, True, True], "Open", id="half of them do"),
    ],
)
def test_it_opens_by_count_and_ratio(calls: list[bool], state: str) -> None:
    assert after(*calls).state == state


def test_old_failures_are_forgotten() -> None:
    assert after(True, True, True, True, every=30.0).state == "Closed"


def test_time_alone_makes_it_half_open() -> None:
    opened = after(*[True] * 4)

    assert breaker.at(opened, opened.until - 0.1).state == "Open"
    assert breaker.at(opened, opened.until).state == "HalfOpen"


def test_half_open_lets_as_many_probes_out_as_it_was_told() -> None:
    settings = {**SETTINGS, "halfOpenProbes": 2}
    opened = after(*[True] * 4)
    half = breaker.at(opened, opened.until)

    assert breaker.room(half, settings) == 2
    half = breaker.started(half, "a")
    assert breaker.room(half, settings) == 1
    assert breaker.room(breaker.started(half, "b"), settings) == 0
    assert breaker.room(breaker.gone(half, "a"), settings) == 2


def test_a_probe_that_is_answered_closes_it() -> None:
    half = breaker.started(Breaker("HalfOpen", opened=3), "a")

    assert breaker.answered(half, SETTINGS, NOW, "a") == Breaker()


def test_a_probe_that_fails_opens_it_for_twice_as_long_up_to_a_limit() -> None:
    pauses = []
    made = Breaker("HalfOpen", opened=1)
    for number in range(5):
        token = f"p{number}"
        made = breaker.failed(breaker.started(made, token), SETTINGS, NOW, token, chance=0.5)
        pauses.append(made.until - NOW)
        made = breaker.at(made, made.until)

    assert pauses == pytest.approx([20, 40, 60, 60, 60])


def test_late_news_of_calls_from_before_it_opened_changes_nothing() -> None:
    opened = after(*[True] * 4)
    half = breaker.at(opened, opened.until)

    assert breaker.failed(opened, SETTINGS, NOW, "old", chance=0.5) == opened
    assert breaker.failed(half, SETTINGS, NOW, "old", chance=0.5) == half


def test_the_end_of_the_pause_is_spread() -> None:
    def until(chance: float) -> float:
        made = Breaker()
        for number in range(4):
            made = breaker.failed(made, SETTINGS, NOW, f"t{number}", chance=chance)
        return made.until - NOW

    assert until(0.0) == pytest.approx(9.0)
    assert until(0.999) == pytest.approx(11.0, abs=0.01)
