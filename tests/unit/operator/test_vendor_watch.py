"""What a vendor's refusal to be looked at tells."""

from typing import Any

import pytest

from renderfleet_operator.cache import Cache, Key
from renderfleet_operator.decide.actions import News, TellProvider
from renderfleet_operator.vendors import VendorWatch, _Watched
from renderfleet_providers.errors import KeyRefused, Throttled, VendorDown, VendorError

from .test_fleet import Clock

VIDEO = Key("VideoRender", "rf-acme", "talk")


class Desk:
    """Every line is answered by a refusal."""

    def __init__(self, refusal: VendorError) -> None:
        self.cache = Cache()
        self.refusal = refusal

    async def video_maker(self, _: str) -> "Desk":
        return self

    async def look(self, _: str) -> None:
        raise self.refusal


async def look(refusal: VendorError, times: int = 1) -> tuple[list[TellProvider], float]:
    """What is told of the provider, and in how many seconds the job is looked at again."""
    clock, told = Clock(), list[TellProvider]()
    desk: Any = Desk(refusal)
    watch = VendorWatch(desk, clock, lambda key: None, told.append)
    watched = watch._watched["u1"] = _Watched(VIDEO, "did", "tlk_1", clock.monotonic())
    for _ in range(times):
        watch._asking["did"] = 1
        await watch._ask("u1", watched)
    return told, max(due for due, *_ in watch._due) - clock.monotonic()


async def test_a_throttled_look_slows_the_account_down_and_comes_when_the_vendor_said() -> None:
    told, pause = await look(Throttled("too_many", "slow down", retry_after_seconds=90))

    assert [(one.news, one.retry_after_seconds) for one in told] == [(News.THROTTLED, 90)]
    assert pause == 90


@pytest.mark.parametrize(
    ("refusal", "news"),
    [
        (Throttled("too_many", "slow down"), News.THROTTLED),
        (KeyRefused("unauthorized", "the key is refused"), News.HELD),
    ],
)
async def test_the_same_news_of_many_looks_is_one_piece_of_news(refusal: VendorError, news: News) -> None:
    told, _ = await look(refusal, times=5)

    assert len({one.token for one in told}) == 1
    assert {one.news for one in told} == {news}


async def test_a_look_that_fails_for_no_reason_of_the_account_tells_nothing() -> None:
    told, pause = await look(VendorDown("http_503", "down"))

    assert told == []
    assert 5 <= pause <= 15
