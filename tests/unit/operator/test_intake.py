"""What a change of one render means for others."""

from types import SimpleNamespace
from typing import Any

import pytest

from renderfleet_crds import meta
from renderfleet_operator.cache import Key
from renderfleet_operator.intake import Intake
from renderfleet_operator.metrics import Metrics
from renderfleet_operator.times import rfc3339

from .builders import NOW, body, ended, running
from .test_archive import make as make_archive
from .test_fleet import TENANT, provider
from .test_observe import make as make_observer

FACE = Key("AvatarRender", "rf-acme", "face")
TALK = Key("VideoRender", "rf-acme", "talk")


def make() -> tuple[Intake, Any, list[Key]]:
    """An intake, the observer that shares its books, and the keys that were put on the queue."""
    observer, _, clock = make_observer()
    archive, _, _ = make_archive()
    put: list[Key] = []
    queue: Any = SimpleNamespace(put=lambda key, **_: put.append(key), forget=lambda _: None)
    cache = observer.cache
    made = Intake(cache, observer.fleet, queue, archive, Metrics(), clock, observer.dependents)
    cache.on_render = made.render_changed
    return made, observer, put


def talk(status: dict[str, Any] | None, version: int) -> dict[str, Any]:
    made = body("VideoRender", status, name="talk", uid="t", version=version, spec={"avatarRef": {"name": "face"}})
    del made["spec"]["avatarKey"]
    return made


async def test_who_waits_for_a_render_is_looked_at_when_it_moves() -> None:
    intake, observer, put = make()
    waiting = talk(None, 5)
    intake.seen("VideoRender", waiting)
    await observer.observe(TALK, waiting)
    put.clear()

    intake.seen("AvatarRender", body(name="face", uid="f", status=running(), version=6))

    assert put == [FACE, TALK]


@pytest.mark.parametrize("end", ["Succeeded", "Failed", None])
async def test_who_is_at_its_end_waits_for_nobody(end: str | None) -> None:
    """Else each video that ever was would be remembered, and looked at when its picture is deleted."""
    intake, observer, put = make()
    waiting = talk(None, 5)
    intake.seen("VideoRender", waiting)
    await observer.observe(TALK, waiting)
    if end is None:
        intake.deleted("VideoRender", waiting)
    else:
        intake.seen("VideoRender", talk(ended(end), 7))
    put.clear()

    intake.seen("AvatarRender", body(name="face", uid="f", status=running(), version=8))

    assert put == [FACE]
    assert intake.dependents == {}


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        pytest.param("RenderProvider", provider(), id="the provider that it asks for"),
        pytest.param("RenderTenant", TENANT, id="the tenant whose namespace it is in"),
    ],
)
def test_who_was_there_first_is_looked_at_when_what_it_lacked_comes(kind: str, made: dict[str, Any]) -> None:
    """It stands in no queue that an admission pass would look at: one that is applied first would wait for a resync."""
    intake, _, put = make()
    intake.deleted("RenderProvider", provider())
    intake.deleted("RenderTenant", TENANT)
    intake.seen("AvatarRender", body(name="face", uid="f", version=6))
    intake.seen("VoiceJob", body("VoiceJob", name="other", uid="o", namespace="rf-else", version=7))
    put.clear()

    intake.seen(kind, {**made, "metadata": {**made["metadata"], "resourceVersion": "98"}})
    assert put == [FACE, Key(kind, "", made["metadata"]["name"])]

    put.clear()
    intake.seen(kind, {**made, "metadata": {**made["metadata"], "resourceVersion": "99"}})
    assert FACE not in put


def test_what_was_let_go_of_and_is_held_again_is_offered_to_the_archive_again() -> None:
    """A redrive holds it, and waits to hear that its end is stored."""
    intake, _, _ = make()
    intake.fleet.is_ready = True
    stamp = {meta.ARCHIVED_ANNOTATION: rfc3339(NOW)}
    let_go = body(name="face", uid="f", status=ended("Failed"), finalizer=False, version=6, annotations=stamp)
    intake.seen("AvatarRender", let_go)
    intake.archive._waiting.clear()

    intake.seen("AvatarRender", body(name="face", uid="f", status=ended("Failed"), version=7, annotations=stamp))

    assert len(intake.archive) == 1


@pytest.mark.parametrize(
    ("annotations", "is_offered"),
    [
        pytest.param({meta.ARCHIVED_ANNOTATION: rfc3339(NOW)}, False, id="archived"),
        pytest.param({}, True, id="let go of unarchived"),
    ],
)
def test_a_new_operator_offers_again_what_was_let_go_of_unarchived(
    annotations: dict[str, str], is_offered: bool
) -> None:
    """While the object is there, its history can still be kept; that of thousands that are archived is not sent again."""
    intake, observer, _ = make()
    observer.fleet.is_ready = False

    intake.seen("AvatarRender", body(status=ended(), finalizer=False, annotations=annotations))

    assert (len(intake.archive) == 1) is is_offered
