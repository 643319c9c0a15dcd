"""What becomes of a start whose Job the API server refuses, and of one that was made though nobody heard."""

from types import SimpleNamespace
from typing import Any

import pytest

from renderfleet_client.errors import (
    AlreadyExists,
    ApiError,
    Forbidden,
    Invalid,
    NotFound,
    QuotaExceeded,
    QuotaNotReady,
    Unavailable,
)
from renderfleet_client.resources import JOBS, Resource
from renderfleet_crds.conditions import Reason
from renderfleet_crds.contract import Stage
from renderfleet_operator.cache import Key
from renderfleet_operator.children.job import Shape
from renderfleet_operator.decide.actions import (
    AskAdmission,
    CreateJob,
    DiscardVendorJob,
    StartAttempt,
)
from renderfleet_operator.decide.lifecycle import decide
from renderfleet_operator.decide.observed import VendorLook, Wait
from renderfleet_operator.decide.view import Render
from renderfleet_operator.errors import NotYet
from renderfleet_operator.execute import Executor
from renderfleet_operator.fleet import REFUSED_SECONDS, TICKET_SECONDS
from renderfleet_operator.metrics import Metrics
from renderfleet_operator.vendors import VendorWatch

from .builders import NOW, UID, body, running, seen
from .test_fleet import make as make_fleet
from .test_fleet import provider
from .test_lifecycle import status_of

Body = dict[str, Any]
KEY = Key("AvatarRender", "rf-acme", "one")


class Cluster:
    """Answers the creation of a Job with an error, if it has one, before or after it is stored."""

    def __init__(self, refusal: ApiError | None, *, job_is_there: bool = False) -> None:
        self.refusal = refusal
        self.job_is_there = job_is_there
        self.written: list[Body] = []
        self.asked: Body | None = None

    async def create(self, resource: Resource, job: Body, namespace: str) -> Body:
        assert resource is JOBS
        self.asked = job
        if self.refusal is not None:
            raise self.refusal
        return self._stored(job)

    async def get(self, resource: Resource, name: str, namespace: str) -> Body:
        if resource is not JOBS or not self.job_is_there or self.asked is None:
            raise NotFound(404)
        return self._stored(self.asked)

    async def patch(self, _: Resource, name: str, patch: Body, *__: Any, **___: Any) -> Body:
        self.written.append(patch["status"])
        return {**body(), "status": {**patch["status"]}, "metadata": {**body(version=9)["metadata"]}}

    def _stored(self, job: Body) -> Body:
        about = {"uid": "j", "resourceVersion": "8", "creationTimestamp": "2027-01-15T08:00:00Z", **job["metadata"]}
        return {**job, "metadata": about}


def make(cluster: Cluster) -> tuple[Executor, list[float]]:
    fleet, clock = make_fleet(body(status=running()), providers=[provider(baseUrl="https://vendor", options={})])
    later: list[float] = []
    nobody: Any = SimpleNamespace(post=lambda *_: None)
    queue: Any = SimpleNamespace(put=lambda _, after=0.0, **__: later.append(after))
    media: Any = SimpleNamespace(
        presign_put=lambda *_, **__: "https://s3/x", presign_get=lambda *_, **__: "https://s3/y"
    )
    given: Any = cluster
    executor = Executor(
        cluster=given,
        cache=fleet.cache,
        fleet=fleet,
        queue=queue,
        archive=nobody,
        keys=nobody,
        media=media,
        desk=nobody,
        watch=nobody,
        events=nobody,
        metrics=Metrics(),
        clock=clock,
        shape=Shape("runner"),
    )
    return executor, later


@pytest.mark.parametrize("refusal", [QuotaExceeded(403), QuotaNotReady(403), QuotaNotReady(409), QuotaNotReady(500)])
async def test_what_the_quota_refuses_waits_and_has_used_no_attempt(refusal: ApiError) -> None:
    cluster = Cluster(refusal)
    executor, later = make(cluster)

    await executor.run(KEY, [CreateJob(Stage.GENERATE, 1)], seen())

    [status] = cluster.written
    assert (status["phase"], status["reason"]) == ("Queued", "QuotaExhausted")
    assert (status["attempts"], status["attempt"], status["startedAt"]) == (None, 0, None)
    assert 0 < later[-1] <= 5


@pytest.mark.parametrize(
    ("refusal", "cure"),
    [
        pytest.param(Forbidden(403, "Forbidden", "RBAC says no"), "the operator's rights", id="by rights"),
        pytest.param(
            Invalid(422, "Invalid", "job is forbidden: policy says no"), "admission policies", id="by a policy"
        ),
        pytest.param(
            ApiError(409, "Conflict", 'webhook "x" denied the request: says no'),
            "admission policies",
            id="by a webhook",
        ),
        pytest.param(
            Unavailable(500, "InternalError", 'failed calling webhook "x": says no'),
            "admission policies",
            id="by no webhook",
        ),
        pytest.param(Invalid(422, "Invalid", "priority says no"), "its pool's settings", id="by the schema"),
    ],
)
async def test_a_job_that_is_refused_for_good_waits_for_somebody_to_mend_that(refusal: ApiError, cure: str) -> None:
    cluster = Cluster(refusal)
    executor, later = make(cluster)
    notes: list[Any] = []
    executor.events = SimpleNamespace(post=lambda _, note: notes.append(note))  # type: ignore[assignment]

    await executor.run(KEY, [CreateJob(Stage.GENERATE, 1)], seen())

    [status] = cluster.written
    assert (status["phase"], status["reason"]) == ("Queued", "JobRefused")
    assert cure in status["message"]
    assert "says no" in status["message"]
    assert (status["attempts"], status["attempt"], status["startedAt"]) == (None, 0, None)
    assert later == [REFUSED_SECONDS]
    assert [(note.reason, note.warning) for note in notes] == [("JobRefused", True)]
    waiting = Render(body(status={**status, "attempts": []}))
    [ask, _] = decide(waiting, seen(admitted=True))
    assert isinstance(ask, AskAdmission)
    assert ask.not_before == NOW + REFUSED_SECONDS
    told = status_of(decide(waiting, seen(wait=Wait(Reason.BACKING_OFF, "", 3, 40))))
    assert (told["reason"], told["message"]) == ("JobRefused", status["message"]), "its place is told, the reason stays"
    assert told["queue"]["etaSeconds"] == 40
    later_on = seen(now=NOW + REFUSED_SECONDS, admitted=True)
    assert [type(one) for one in decide(waiting, later_on)] == [StartAttempt]


async def test_a_namespace_that_goes_away_refuses_nobody() -> None:
    causes = [{"reason": "NamespaceTerminating", "message": "namespace rf-acme is being terminated"}]
    cluster = Cluster(Forbidden(403, "Forbidden", "unable to create new content", {"causes": causes}))
    executor, _ = make(cluster)

    with pytest.raises(NotYet):
        await executor.run(KEY, [CreateJob(Stage.GENERATE, 1)], seen())

    assert cluster.written == []


async def test_what_got_no_answer_stays_as_it_is_and_is_tried_again() -> None:
    cluster = Cluster(Unavailable(504))
    executor, _ = make(cluster)

    with pytest.raises(Unavailable):
        await executor.run(KEY, [CreateJob(Stage.GENERATE, 1)], seen())

    assert cluster.written == []


@pytest.mark.parametrize(("seconds", "writes"), [(0, 1), (TICKET_SECONDS + 1, 0)])
async def test_a_ticket_that_ran_out_over_the_keys_starts_nothing(seconds: float, writes: int) -> None:
    """Its place is given to another one by then."""
    cluster = Cluster(None)
    executor, _ = make(cluster)
    waiting = body(status=None, name="two", uid="u2", version=6)
    key = Key("AvatarRender", "rf-acme", "two")
    executor.cache.put_render(waiting)
    executor.fleet.ask(key, "u2", AskAdmission(100, NOW, 0, ("openai",)))
    executor.fleet.run_pass()

    async def ensure(*_: Any) -> None:
        executor.clock.time += seconds  # type: ignore[attr-defined]
        executor.fleet.run_pass()

    executor.keys = SimpleNamespace(ensure=ensure)  # type: ignore[assignment]
    [start] = decide(Render(waiting), seen(admitted=True))

    await executor.run(key, [start], seen())

    assert len(cluster.written) == writes


@pytest.mark.parametrize("refusal", [AlreadyExists(409), QuotaExceeded(403), Forbidden(403), Invalid(422)])
async def test_a_job_that_was_made_though_the_answer_was_lost_is_ours(refusal: ApiError) -> None:
    """A quota may count it already when it is asked for again; taking it back then would leave it to pay unseen."""
    cluster = Cluster(refusal, job_is_there=True)
    executor, _ = make(cluster)

    await executor.run(KEY, [CreateJob(Stage.GENERATE, 1)], seen())

    assert cluster.written == []
    one = Render(body(status=running()))
    assert executor.cache.job(one.uid, one.attempts[-1]["jobName"]) is not None


@pytest.mark.parametrize(
    ("answer", "kept"),
    [(True, "gone"), (False, "goes on"), (Unavailable(503), "untold"), (RuntimeError("no key"), "untold")],
    ids=["dropped", "at work", "no answer", "no way to ask"],
)
async def test_what_a_vendor_answers_to_being_told_is_kept_for_the_next_look(answer: Any, kept: str) -> None:
    executor, _ = make(Cluster(None))
    asked: list[str] = []

    async def discard(job_id: str) -> bool:
        asked.append(job_id)
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    async def video_maker(_: str) -> Any:
        return SimpleNamespace(discard=discard)

    desk: Any = SimpleNamespace(video_maker=video_maker)
    executor.desk, executor.watch = desk, VendorWatch(desk, executor.clock, moved=lambda _: None)
    executor.watch.looks[UID] = VendorLook("done", NOW, cost_micros=600)

    await executor.run(KEY, [DiscardVendorJob("tlk_1")], seen())

    assert asked == ["tlk_1"]
    assert executor.watch.discarded == {UID: {"tlk_1": kept}}
    assert executor.watch.looks[UID].cost_micros == 600, "what it was seen to cost is still to be counted"
    executor.watch.forget(UID)
    assert executor.watch.discarded == {}
