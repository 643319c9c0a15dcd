"""Events about renders: few, counted, the newest first."""

from typing import Any

import pytest

from renderfleet_client.errors import AlreadyExists, ApiError, NotFound
from renderfleet_client.resources import Resource
from renderfleet_operator import events
from renderfleet_operator.decide.actions import Note
from renderfleet_operator.events import Events

from .builders import NOW, body

Body = dict[str, Any]


class Clock:
    time = NOW

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Shelf:
    """The part of an API server that keeps Events."""

    def __init__(self) -> None:
        self.kept: dict[str, Body] = {}
        self.refuses = False

    async def create(self, resource: Resource, body: Body, namespace: str) -> Body:
        if self.refuses:
            raise ApiError(500, "InternalError")
        name = body["metadata"]["name"]
        if name in self.kept:
            raise AlreadyExists(409, "AlreadyExists")
        self.kept[name] = dict(body)
        return body

    async def get(self, resource: Resource, name: str, namespace: str) -> Body:
        return self.kept[name]

    async def patch(self, resource: Resource, name: str, patch: Body, namespace: str) -> Body:
        if name not in self.kept:
            raise NotFound(404, "NotFound")
        self.kept[name].update(patch)
        return self.kept[name]

    def told(self) -> list[tuple[str, str, str, int]]:
        """(render, reason, message, count), in the order in which they were created."""
        return [
            (one["involvedObject"]["name"], one["reason"], one["message"], one["count"]) for one in self.kept.values()
        ]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def make(shelf: Shelf) -> Events:
    return Events(shelf, Clock())  # type: ignore[arg-type]


def tell(poster: Events, name: str, reason: str = "BackingOff", message: str = "m") -> None:
    poster.post(body(name=name, uid=f"uid-{name}"), Note(reason, message, warning=True))


async def post_all(poster: Events) -> None:
    while len(poster):
        await poster.post_next()


async def test_what_is_told_again_is_counted_with_the_latest_words(shelf: Shelf) -> None:
    poster = make(shelf)
    tell(poster, "a", message="attempt 1 failed")
    await post_all(poster)
    tell(poster, "a", message="attempt 2 failed")
    tell(poster, "a", message="attempt 3 failed")
    await post_all(poster)

    assert shelf.told() == [("a", "BackingOff", "attempt 3 failed", 3)]


async def test_the_next_operator_counts_on(shelf: Shelf) -> None:
    first, second = make(shelf), make(shelf)
    tell(first, "a")
    await post_all(first)
    tell(second, "a")
    await post_all(second)

    assert [count for *_, count in shelf.told()] == [2]


async def test_an_event_that_was_forgotten_is_made_anew(shelf: Shelf) -> None:
    poster = make(shelf)
    tell(poster, "a")
    await post_all(poster)
    shelf.kept.clear()
    tell(poster, "a")
    await post_all(poster)

    assert [count for *_, count in shelf.told()] == [1]


async def test_news_goes_before_repetitions_and_the_newest_before_all(shelf: Shelf) -> None:
    poster = make(shelf)
    tell(poster, "old", message="first")
    await post_all(poster)
    tell(poster, "old", message="again")
    for name in ("n1", "n2", "n3"):
        tell(poster, name)
    order = []
    while len(poster):
        await poster.post_next()
        order.append([(render, message) for render, _, message, _ in shelf.told()][-1])

    assert order == [("n3", "m"), ("n2", "m"), ("n1", "m"), ("n1", "m")]
    assert shelf.told()[0][2:] == ("again", 2)


async def test_too_many_cost_the_oldest_and_are_counted(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "WAITING_MOST", 2)
    poster = make(shelf)
    for name in ("a", "b", "c"):
        tell(poster, name)
    await post_all(poster)

    assert [render for render, *_ in shelf.told()] == ["c", "b"]
    assert poster.dropped == 1


async def test_a_refusal_is_nobodys_trouble(shelf: Shelf) -> None:
    poster = make(shelf)
    shelf.refuses = True
    tell(poster, "a")
    await post_all(poster)
    shelf.refuses = False
    tell(poster, "b")
    await post_all(poster)

    assert [render for render, *_ in shelf.told()] == ["b"]
    assert poster.dropped == 1
