"""What is asked of accounts and vendors' jobs besides renders: what is left, what is about to end, what a job took."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from renderfleet_operator.accounts import account_of
from renderfleet_operator.cache import Cache, Key
from renderfleet_operator.decide.observed import VendorLook
from renderfleet_operator.providers import HEALTH_SECONDS, Providers
from renderfleet_operator.vendors import VendorDesk, VendorWatch
from renderfleet_providers.errors import KeyRefused, OutOfCredit, VendorDown
from renderfleet_providers.ports import Balance, Health, JobState, VendorJobSeen, VideoOrder, VideoSources

from .builders import NOW, body, waiting
from .test_fleet import make, provider


@dataclass
class Line:
    """A vendor's adapter that answers as it is told.

    The desk takes only what has all the verbs of a TalkingVideoMaker; those that looking after a provider must never use
    raise, so that a test that meets one fails.
    """

    health: Health | Exception = field(default_factory=Health)
    usage: Mapping[str, int] = field(default_factory=dict)
    asked: int = 0

    async def probe(self, provider: str) -> Health:
        self.asked += 1
        if isinstance(self.health, Exception):
            raise self.health
        return self.health

    async def look(self, job_id: str) -> VendorJobSeen:
        return VendorJobSeen(job_id, JobState.DONE, "done", result_url="https://x/y.mp4", usage=dict(self.usage))

    async def place_sources(self, order: VideoOrder) -> VideoSources:
        raise NotImplementedError

    async def start(self, order: VideoOrder, sources: VideoSources) -> VendorJobSeen:
        raise NotImplementedError

    async def look_up(self, correlation: str) -> VendorJobSeen | None:
        raise NotImplementedError

    async def discard(self, job_id: str) -> bool:
        raise NotImplementedError

    async def credits_taken(self, job_id: str, before: Balance) -> int | None:
        raise NotImplementedError


class Keys:
    """A key that is there."""

    class Key:
        version = "1"

    async def read(self, name: str, *, fresh: bool = False) -> "Keys.Key":
        return self.Key()


class ApiServer:
    """Keeps the last status that was written."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._version = 1

    async def patch(self, _resource: object, name: str, patch: dict[str, Any], *, subresource: str) -> dict[str, Any]:
        old = self._cache.providers[name]
        self._version += 1
        status = {key: value for key, value in {**old["status"], **patch["status"]}.items() if value is not None}
        return {
            **old,
            "metadata": {**old["metadata"], "uid": "p", "resourceVersion": str(self._version)},
            "status": status,
        }


class Office:
    """One provider that is looked after."""

    def __init__(self, line: Line) -> None:
        made = provider("did")
        made["metadata"]["uid"] = "p"
        self.fleet, self.clock = make(providers=[made])
        self.line = line
        cluster: Any = ApiServer(self.fleet.cache)
        desk: Any = line
        keys: Any = Keys()
        self.providers = Providers(cluster, self.fleet.cache, self.fleet, keys, desk, self.clock)

    async def after(self, seconds: float) -> dict[str, Any]:
        """The status after two rounds, so much later: what the first learns, the second reports."""
        self.clock.time += seconds
        await self.providers.reconcile("did")
        self.clock.time += 2
        await self.providers.reconcile("did")
        status: dict[str, Any] = self.fleet.cache.providers["did"]["status"]
        return status


class OneLine(VendorDesk):
    """A desk with one line, to a job that is done."""

    async def adapter(self, provider: str) -> Any:
        return Line(usage={"credits": 2, "seconds": 20})


async def test_credits_and_warnings_are_asked_for_now_and_then() -> None:
    office = Office(Line(Health(credits_remaining=77, warning="model x is shut down on 2026-12-01")))

    first = await office.after(0)
    await office.after(60)
    asked = office.line.asked
    office.line.health = Health(credits_remaining=70)
    later = await office.after(HEALTH_SECONDS)

    assert (first["creditsRemaining"], first["warning"]) == (77, "model x is shut down on 2026-12-01")
    assert asked == 1
    assert later["creditsRemaining"] == 70
    assert "warning" not in later


async def test_a_new_operator_does_not_ask_again_at_once() -> None:
    office = Office(Line(Health(credits_remaining=77)))
    await office.after(0)
    again = account_of(office.fleet.cache.providers["did"], office.clock.time)

    office.fleet.accounts["did"] = again
    await office.after(60)

    assert office.line.asked == 1
    assert again.credits_remaining == 77


@pytest.mark.parametrize("failure", [VendorDown("http_500", "down"), KeyRefused("forbidden", "may not list models")])
async def test_an_account_that_does_not_answer_is_not_held_for_that(failure: Exception) -> None:
    office = Office(Line(failure))

    status = await office.after(0)

    assert status["held"] is False
    assert "creditsRemaining" not in status


async def test_an_empty_account_is_told_as_empty() -> None:
    office = Office(Line(Health(credits_remaining=3)))
    await office.after(0)

    office.line.health = OutOfCredit("InsufficientCreditsError", "no credits left")
    status = await office.after(HEALTH_SECONDS)

    assert status["creditsRemaining"] == 0


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        pytest.param(None, 2 * 100, id="by its length, when nobody could tell"),
        pytest.param(5, 5 * 100, id="what the vendor took"),
    ],
)
async def test_a_done_job_costs_what_the_vendor_took(taken: int | None, expected: int) -> None:
    status = waiting()
    status["provider"] = {**status["provider"], **({"credits": taken} if taken is not None else {})}
    prices = [{"unit": "credits", "micros": 100}]
    fleet, clock = make(body("VideoRender", status), providers=[provider("did", prices=prices)])
    keys: Any = Keys()
    desk = OneLine(fleet.cache, keys)
    watch = VendorWatch(desk, clock, lambda key: None)

    look = await watch.look(Key("VideoRender", "rf-acme", "one"), "did", "tlk_1", NOW)

    assert isinstance(look, VendorLook)
    assert look.cost_micros == expected
