"""What is read around a render before it is decided."""

from types import SimpleNamespace
from typing import Any

import pytest

from renderfleet_client.cluster import Listing
from renderfleet_crds import meta
from renderfleet_operator.cache import Key
from renderfleet_operator.decide.lifecycle import decide
from renderfleet_operator.decide.observed import Policy, Runner, VendorLook
from renderfleet_operator.decide.retries import NO_POD
from renderfleet_operator.decide.view import Render
from renderfleet_operator.observe import EVENTS_EVERY_SECONDS, Observer
from renderfleet_operator.times import rfc3339
from renderfleet_operator.vendors import VendorDesk, VendorWatch

from .builders import NOW, UID, attempt, body, ended, running, waiting
from .test_archive import make as make_archive
from .test_fleet import make as make_fleet
from .test_fleet import provider

KEY = Key("AvatarRender", "rf-acme", "one")


class Cluster:
    """Shows its Events, and counts who asks."""

    def __init__(self) -> None:
        self.lists = 0
        self.events: list[dict[str, Any]] = []

    async def list(self, *_: Any, **__: Any) -> Listing:
        self.lists += 1
        return Listing(self.events, "1")


def make() -> tuple[Observer, Any, Any]:
    """An observer, its archive and its clock."""
    fleet, clock = make_fleet()
    archive, _, _ = make_archive()
    nobody: Any = SimpleNamespace(look_at=lambda *_: None, discarded={}, prices=lambda _: [])
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


def _job_without_pod(created: float, uid: str = UID) -> dict[str, Any]:
    opened = attempt()
    about = {
        "name": opened["jobName"],
        "namespace": "rf-acme",
        "uid": f"job-of-{uid}",
        "resourceVersion": "9",
        "creationTimestamp": rfc3339(created),
        "labels": {meta.UID_LABEL: uid, meta.STAGE_LABEL: "generate", meta.ATTEMPT_LABEL: "0-1"},
        "ownerReferences": [{"uid": uid}],
    }
    return {"metadata": about, "status": {"startTime": rfc3339(created)}}


def _running(uid: str) -> dict[str, Any]:
    one = body(status=running())
    one["metadata"]["uid"] = uid
    return one


async def test_why_jobs_have_no_pod_is_asked_now_and_then_for_all_of_a_namespace() -> None:
    observer, _, clock = make()
    cluster: Any = observer.cluster
    renders = [_running(uid) for uid in ("one", "two", "three")]
    for one in renders:
        observer.cache.put_job(_job_without_pod(NOW - EVENTS_EVERY_SECONDS - 1, one["metadata"]["uid"]))

    seen = [await observer.observe(KEY, one) for one in renders * 2]

    assert {one.runner.state for one in seen} == {Runner.WORKING}
    assert cluster.lists == 1

    clock.time += EVENTS_EVERY_SECONDS
    for at, said in (("2026-01-01T00:00:02Z", "exceeded quota: x"), ("2026-01-01T00:00:01Z", "older words")):
        involved = {"kind": "Job", "uid": "job-of-two"}
        cluster.events.append({"involvedObject": involved, "lastTimestamp": at, "message": said})
    one, two, three = [(await observer.observe(KEY, one)).runner for one in renders]

    assert cluster.lists == 2
    assert (one.state, three.state) == (Runner.WORKING, Runner.WORKING)
    assert (two.state, two.code, two.detail) == (Runner.STARTING, NO_POD, "exceeded quota: x")


async def test_a_young_job_without_a_pod_is_nothing_to_ask_about() -> None:
    observer, _, _ = make()
    observer.cache.put_job(_job_without_pod(NOW - EVENTS_EVERY_SECONDS + 1))

    seen = await observer.observe(KEY, body(status=running()))

    assert seen.runner.state is Runner.WORKING
    assert observer.cluster.lists == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(("job_id", "is_seen"), [("tlk_1", True), ("tlk_2", False)])
async def test_what_was_seen_of_an_earlier_job_is_not_taken_for_this_one(job_id: str, is_seen: bool) -> None:
    """The answer to the write that told of this one may be lost; it would be given up, and another one paid for."""
    observer, _, clock = make()
    observer.watch = VendorWatch(observer.desk, clock, moved=lambda _: None)
    failed = VendorLook("failed", NOW, "error", category="outage", job_id="tlk_1")
    observer.watch.looks[UID] = failed
    status = waiting()
    status["provider"]["jobId"] = job_id

    seen = await observer.observe(Key("VideoRender", "rf-acme", "one"), body("VideoRender", status))

    assert seen.look is (failed if is_seen else None)


async def test_what_it_may_cost_follows_its_providers_price_list() -> None:
    """A provider may be applied after its renders, and its prices edited while they wait: budgets go by the estimate."""
    observer, _, _ = make()
    nothing: Any = None
    observer.desk = VendorDesk(observer.cache, nothing)
    one = body()
    estimates = []
    for generation, micros in enumerate([0, 7, 9], start=2):
        priced = provider(version=generation, prices=[{"unit": "images", "micros": micros}] if micros else [])
        priced["metadata"]["generation"] = generation
        observer.cache.put_provider(priced)
        estimates.append((await observer.observe(KEY, one)).estimate_micros)

    assert estimates == [None, 14, 18]
