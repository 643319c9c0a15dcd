"""Token buckets per key."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from renderfleet_api.limits import Limits
from renderfleet_api.problems import TooManyRequests


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def request() -> Any:
    return cast(Any, SimpleNamespace(state=SimpleNamespace()))


def test_a_burst_passes_then_the_rate_holds() -> None:
    clock = Clock()
    limits = Limits(2, 3, clock)

    for left in (2, 1, 0):
        asked = request()
        limits.spend(asked, "key")
        assert f"r={left}" in asked.state.rate_fields["RateLimit"]
    with pytest.raises(TooManyRequests) as refused:
        limits.spend(request(), "key")
    assert refused.value.headers["Retry-After"] == "1"
    assert refused.value.headers["RateLimit-Policy"] == '"key";q=3;w=2'

    limits.spend(request(), "another key")
    clock.now += 0.5
    limits.spend(request(), "key")
    with pytest.raises(TooManyRequests):
        limits.spend(request(), "key")


def test_a_long_pause_gives_no_more_than_the_burst() -> None:
    clock = Clock()
    limits = Limits(100, 2, clock)
    limits.spend(request(), "key")
    clock.now += 3600

    limits.spend(request(), "key")
    limits.spend(request(), "key")
    with pytest.raises(TooManyRequests):
        limits.spend(request(), "key")
