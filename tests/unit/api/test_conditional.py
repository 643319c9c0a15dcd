"""ETags of answers that carry links."""

from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import Response

from renderfleet_api import conditional
from renderfleet_api.conditional import Conditions, Unchanged


class Clock:
    now = 7200.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(conditional, "time", made)
    return made


def ask(has: str | None, facts: Any, *, has_links: bool = True) -> str:
    """The tag of an answer; empty when it is a 304."""
    response = Response()
    try:
        Conditions(response, 3600, has).check(facts, has_links=has_links)
    except Unchanged:
        return ""
    return response.headers["ETag"]


def test_only_what_is_the_same_is_unchanged(clock: Clock) -> None:
    facts = {"id": "a", "at": datetime(2026, 1, 1, tzinfo=UTC)}
    tag = ask(None, facts)

    for has in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
        assert ask(has, facts) == ""
    for has in (None, "", '"other"'):
        assert ask(has, facts) == tag
    assert ask(tag, {**facts, "id": "b"}) not in {"", tag}


def test_a_link_that_may_expire_soon_is_a_change(clock: Clock) -> None:
    """A caller that hears 304 for ever would be left with a link that has expired."""
    tag, without = ask(None, "job"), ask(None, "job", has_links=False)
    clock.now += 1799
    assert ask(tag, "job") == ""
    clock.now += 2
    assert ask(tag, "job") not in {"", tag}
    assert ask(without, "job", has_links=False) == ""
