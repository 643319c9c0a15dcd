"""What is read around a render before it is decided."""

from types import SimpleNamespace
from typing import Any

import pytest

from renderfleet_client.cluster import Listing
from renderfleet_crds import meta
from renderfleet_operator.cache import Key
from renderfleet_operator.decide.lifecycle import decide
from renderfleet_operator.decide.observed import Policy, Runner
from renderfleet_operator.decide.view import Render
from renderfleet_operator.observe import EVENTS_EVERY_SECONDS, Observer
from renderfleet_operator.times import rfc3339

from .builders import NOW, UID, attempt, body, ended, running
from .test_archive import make as make_archive
from .test_fleet import make as make_fleet

KEY = Key("AvatarRender", "rf-acme", "one")


class Cluster:
    """Has no Event to show, and counts who asks."""

    def __init__(self) -> None:
        self.lists = 0

    async def list(self, *_: Any, **__: Any) -> Listing:
        self.lists += 1
        return Listing([], "1")


def make() -> tuple[Observer, Any, Any]:
    """An observer, its archive and its clock."""
    fleet, clock = make_fleet()
    archive, _, _ = make_archive()
    nobody: Any = SimpleNamespace(looks={}, prices=lambda _: [])
    cluster: Any = Cluster()
    made = Observer(
        cluster=cluster,
        cache=fleet.cache,
        fleet=fleet,
        archive=archive,
        records=nobody,
        desk=nobody,
        watch=nobody,
        clock=clock,
        policy=Policy(),
    )
    return made, archive, clock


@pytest.mark.parametrize("deleting", [False, True])
@pytest.mark.parametrize("phase", ["Succeeded", "DeadLettered"])
async def test_an_end_that_somebody_asked_to_redrive_is_let_go_of_as_any_other(phase: str, deleting: bool) -> None:
    """Redriven by label, what has succeeded is asked too; and what is redriven may be deleted before that begins."""
    observer, archive, _ = make()
    one = body(status=ended(phase), spec={"redrive": 1}, deleting=deleting)
    archive.offer(one)
    await archive.flush()

    seen = await observer.observe(KEY, one)

    assert seen.archived
    if deleting or phase == "Succeeded":
        [action] = decide(Render(one), seen)
        assert getattr(action, "to", None) == "absent"


def _job_without_pod(created: float) -> dict[str, Any]:
    opened = attempt()
    about = {
        "name": opened["jobName"],
        "namespace": "rf-acme",
        "uid": "job-1",
        "resourceVersion": "9",
        "creationTimestamp": rfc3339(created),
        "labels": {meta.UID_LABEL: UID, meta.STAGE_LABEL: "generate", meta.ATTEMPT_LABEL: "0-1"},
        "ownerReferences": [{"uid": UID}],
    }
    return {"metadata": about, "status": {"startTime": rfc3339(created)}}


async def test_why_a_job_has_no_pod_is_asked_now_and_then_and_forgotten_with_the_render() -> None:
    observer, _, clock = make()
    one = body(status=running())
    observer.cache.put_job(_job_without_pod(NOW - EVENTS_EVERY_SECONDS - 1))

    first, again = await observer.observe(KEY, one), await observer.observe(KEY, one)

    assert (first.runner.state, again.runner.state) == (Runner.WORKING, Runner.WORKING)
    assert observer.cluster.lists == 1  # type: ignore[attr-defined]
    clock.time += EVENTS_EVERY_SECONDS
    await observer.observe(KEY, one)
    assert observer.cluster.lists == 2  # type: ignore[attr-defined]
    observer.forget(UID)
    assert observer._asked_why == {}
