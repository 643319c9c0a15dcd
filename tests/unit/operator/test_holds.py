"""A provider that is held for its key or its money: what lets it go, and what does not."""

from typing import Any

import pytest

from renderfleet_operator.accounts import account_of
from renderfleet_operator.decide.actions import News, TellProvider
from renderfleet_operator.providers import FIRST_PROBE_SECONDS
from renderfleet_providers.errors import KeyRefused, OutOfCredit, VendorDown
from renderfleet_providers.ports import Health

from .builders import NOW
from .test_fleet import provider
from .test_providers import Line, Office


def held(line: Line) -> Office:
    """An office whose vendor has just refused the key."""
    office = Office(line)
    office.fleet.tell(TellProvider("did", "t1", News.HELD, "unauthorized: D-ID does not accept the API key"), "1")
    return office


async def test_a_probe_that_is_answered_lets_it_go() -> None:
    office = held(Line())

    early = await office.after(1)
    assert early["held"]
    late = await office.after(FIRST_PROBE_SECONDS)

    assert not late["held"]
    assert office.line.asked == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(KeyRefused("unauthorized", "still refused"), "still refused", id="the key is still refused"),
        pytest.param(OutOfCredit("quota", "no credit"), "no credit", id="the account is out of credit besides"),
        pytest.param(VendorDown("http_503", "down"), "D-ID does not accept", id="an outage says nothing about the key"),
        pytest.param(Health(credits_remaining=0), "D-ID does not accept", id="nothing is left in the account"),
    ],
)
async def test_another_answer_does_not(answer: Health | Exception, reason: str) -> None:
    office = held(Line(health=answer))

    status = await office.after(FIRST_PROBE_SECONDS + 1)

    assert status["held"]
    assert reason in status["heldReason"]


async def test_probes_come_ever_more_seldom() -> None:
    office = held(Line(health=KeyRefused("unauthorized", "refused")))
    asked = []
    for _ in range(30):
        await office.after(58)  # and two seconds more for the second round
        asked.append(office.line.asked)

    assert asked[4] >= 2
    assert asked[-1] <= 6, "half an hour of refusals"


async def test_an_edit_lets_it_go_at_once() -> None:
    office = held(Line())
    edited: dict[str, Any] = office.fleet.cache.providers["did"]
    about = {**edited["metadata"], "generation": 2}

    assert office.fleet.provider_seen({**edited, "metadata": about})

    assert office.fleet.accounts["did"].held is None
    assert office.line.asked == 0


async def test_a_new_hold_is_asked_about_as_soon_as_the_first_one() -> None:
    """The administrator has put money in, or a new key; how long the last hold took says nothing of this one."""
    office = held(Line(health=KeyRefused("unauthorized", "refused")))
    for _ in range(30):
        await office.after(58)
    edited: dict[str, Any] = office.fleet.cache.providers["did"]
    office.fleet.provider_seen({**edited, "metadata": {**edited["metadata"], "generation": 2}})
    await office.after(5)
    office.fleet.tell(TellProvider("did", "t2", News.HELD, "out of credit"), "1")
    before = office.line.asked

    for _ in range(3):
        await office.after(FIRST_PROBE_SECONDS + 1)

    assert office.line.asked - before >= 2


async def test_what_is_held_by_hand_is_not_asked_and_not_let_go() -> None:
    office = held(Line())
    spec = office.fleet.accounts["did"].spec
    office.fleet.accounts["did"].spec = {**spec, "hold": True}

    status = await office.after(FIRST_PROBE_SECONDS + 1)

    assert (status["held"], status["heldReason"]) == (True, "spec.hold")
    assert office.line.asked == 0


@pytest.mark.parametrize(("asked", "paused"), [(None, 0.0), (30.0, 30.0), (1e9, 3600.0)])
def test_a_vendor_that_is_overloaded_is_left_alone_for_as_long_as_it_says(asked: float | None, paused: float) -> None:
    account = account_of(provider("openai"), NOW)

    account.tell(TellProvider("openai", "t1", News.BROKEN, "503", retry_after_seconds=asked), NOW, None)

    assert account.snapshot(NOW).paused_for == paused
    assert account.circuit.state == "Closed", "one failure opens nothing"
