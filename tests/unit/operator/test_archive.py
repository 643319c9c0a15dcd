"""What is safely in the archive, and what is not yet."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from renderfleet_operator import archive as archiving
from renderfleet_operator.archive import LATE_SECONDS, Archive
from renderfleet_operator.cache import Key
from renderfleet_operator.decide.report import archive_report
from renderfleet_operator.decide.view import Render
from renderfleet_operator.times import whole_seconds
from renderfleet_store.engine import StoreUnavailable
from renderfleet_store.mirror import RenderSeen

from .builders import NOW, body, ended, running
from .test_fleet import Clock


class Mirror:
    """Stores whatever it is given."""

    def __init__(self) -> None:
        self.rows: dict[str, RenderSeen] = {}
        self.compared: list[tuple[set[str], datetime]] = []
        self.is_away = False

    async def record(self, seen: Sequence[RenderSeen]) -> set[str]:
        if self.is_away:
            raise StoreUnavailable("away")
        self.rows |= {one.body["metadata"]["uid"]: one for one in seen}
        return {one.body["metadata"]["uid"] for one in seen}

    async def close_absent(self, present: Collection[str], before: datetime) -> int:
        if self.is_away:
            raise StoreUnavailable("away")
        self.compared.append((set(present), before))
        return 1


def make() -> tuple[Archive, Mirror, list[Key]]:
    mirror, told = Mirror(), list[Key]()
    given: Any = mirror
    return Archive(given, Clock(), told.append), mirror, told


async def try_once(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it ask PostgreSQL once more, without a pause."""
    monkeypatch.setattr(archiving, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(archiving, "LONGEST_PAUSE_SECONDS", 0.0)
    running_ = asyncio.create_task(archive.run())
    for _ in range(5):
        await asyncio.sleep(0)
    running_.cancel()


async def test_an_end_counts_when_it_is_stored() -> None:
    archive, _, told = make()
    archive.offer(body(status=ended()))
    assert not archive.has_end(Render(body(status=ended())))

    await archive.flush()

    assert archive.has_end(Render(body(status=ended())))
    assert not archive.has_end(Render(body(status={**ended(), "run": 1}))), "another run's end is another end"
    assert told == [Key("AvatarRender", "rf-acme", "one")]


async def test_a_deleted_render_is_let_go_of_only_when_its_deletion_is_stored_too() -> None:
    """Once the finalizer is off it is gone, and a new operator would never hear of it."""
    archive, mirror, _ = make()
    archive.offer(body(status=ended()))
    await archive.flush()
    deleted = body(status=ended(), deleting=True, version=6)
    assert not archive.has_end(Render(deleted))

    archive.offer(deleted)
    await archive.flush()

    assert archive.has_end(Render(deleted))
    assert mirror.rows[deleted["metadata"]["uid"]].deleted


async def test_what_is_being_deleted_but_still_runs_is_not_gone_yet() -> None:
    archive, mirror, _ = make()
    archive.offer(body(status=running(), deleting=True))

    await archive.flush()

    assert [one.deleted for one in mirror.rows.values()] == [False]


async def test_what_the_first_listing_did_not_show_is_closed_once_also_when_postgresql_was_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(archiving, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(archiving, "LONGEST_PAUSE_SECONDS", 0.0)
    archive, mirror, _ = make()
    mirror.is_away = True
    archive.compare({"u1"})
    running_ = asyncio.create_task(archive.run())
    while not archive.failures:
        await asyncio.sleep(0)
    mirror.is_away = False
    while not mirror.compared:
        await asyncio.sleep(0)
    archive.offer(body(status=ended()))
    while not mirror.rows:
        await asyncio.sleep(0)
    running_.cancel()

    assert mirror.compared == [({"u1"}, datetime.fromtimestamp(NOW - 300, UTC))]


class TestLate:
    """What a finished render is told while the archive makes it wait."""

    async def test_an_archive_that_fails_for_long_makes_all_late_and_says_since_when(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        archive, mirror, _ = make()
        archive.clock = clock = Clock()
        mirror.is_away = True
        archive.offer(body(status=ended(), uid="u1", name="first"))
        await try_once(archive, monkeypatch)
        assert archive.late() == [], "most outages are over sooner"

        clock.time += LATE_SECONDS
        await try_once(archive, monkeypatch)
        archive.offer(body(status=ended(), uid="u2", name="second"))

        assert [key.name for key in archive.late()] == ["first", "second"]
        said = archive.why_late(Render(body(status=ended(), uid="u2")))
        assert said is not None and whole_seconds(NOW) in said, said

        mirror.is_away = False
        await try_once(archive, monkeypatch)

        assert archive.late() == []
        assert archive.why_late(Render(body(status=ended(), uid="u1"))) is None

    async def test_one_that_waits_for_long_is_late_also_when_postgresql_answers(self) -> None:
        archive, _, _ = make()
        archive.clock = clock = Clock()
        archive.offer(body(status=ended(), uid="u1", name="first"))
        clock.time += LATE_SECONDS
        archive.offer(body(status=ended(), uid="u2", name="second"))

        assert [key.name for key in archive.late()] == ["first"]
        assert archive.why_late(Render(body(status=ended(), uid="u2"))) is None

    @pytest.mark.parametrize(
        "one",
        [
            pytest.param(body(status=running()), id="at work"),
            pytest.param(body(status=ended(), finalizer=False), id="let go of"),
            pytest.param(
                body(status=archive_report(Render(body(status=ended())), NOW, archived=False, message="")), id="told"
            ),
        ],
    )
    async def test_who_has_nothing_to_be_told_is_not_looked_at(self, one: dict[str, Any]) -> None:
        archive, _, _ = make()
        archive.clock = clock = Clock()
        archive.offer(one)
        clock.time += 10 * LATE_SECONDS

        assert archive.late() == []

    async def test_what_was_told_of_it_is_stored_too_before_it_is_let_go_of(self) -> None:
        """A row in the archive that says for ever that it is not in the archive would be an odd thing to read."""
        archive, mirror, _ = make()
        archive.offer(body(status=ended()))
        await archive.flush()
        told = archive_report(Render(body(status=ended())), NOW, archived=True)
        archive.offer(body(status=told, version=6))
        assert not archive.has_end(Render(body(status=told, version=6)))

        await archive.flush()

        assert archive.has_end(Render(body(status=told, version=6)))
        assert [one.body["status"] for one in mirror.rows.values()] == [told]
