"""Whatever is observed in whatever order: an end is absorbing, no attempt is repeated, no two live at a time."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from renderfleet_crds import meta
from renderfleet_crds.contract import Stage
from renderfleet_crds.kinds import BY_KIND
from renderfleet_crds.phases import FINAL, MAY_FOLLOW, Phase
from renderfleet_crds.render import RenderStatus
from renderfleet_operator.decide import actions as act
from renderfleet_operator.decide.lifecycle import decide
from renderfleet_operator.decide.observed import Observed, Runner, RunnerSeen, VendorLook
from renderfleet_operator.decide.view import Render

from .builders import NOW, body

CATEGORIES = ["user", "moderation", "transient", "outage", "internal", "throttled", "credential", "money"]
CATEGORIES += ["disrupted", "unknown_outcome"]


def _result(outcome: str, category: str | None) -> dict[str, Any]:
    if outcome == "done":
        return {"outcome": "done", "vendorJobId": "tlk_1", "charged": "true"}
    return {"outcome": "broke", "category": category, "code": "c", "message": "m"}


results = st.builds(_result, st.sampled_from(["done", "broke"]), st.sampled_from(CATEGORIES))
runners = st.one_of(
    st.sampled_from([Runner.ABSENT, Runner.STARTING, Runner.WORKING, Runner.STOPPING, Runner.FOREIGN]).map(RunnerSeen),
    results.map(lambda result: RunnerSeen(Runner.ENDED, result=result, vendor_job_id=result.get("vendorJobId"))),
    st.just(RunnerSeen(Runner.ADOPTED, vendor_job_id="tlk_2")),
    st.sampled_from(["OOMKilled", "Evicted", "JobGone", "?"]).map(lambda code: RunnerSeen(Runner.LOST, code=code)),
    st.just(RunnerSeen(Runner.UNKNOWN)),
)
looks = st.one_of(
    st.none(),
    st.builds(
        VendorLook,
        state=st.sampled_from(["working", "done", "failed"]),
        at=st.just(NOW),
        category=st.sampled_from(CATEGORIES),
        progress=st.integers(0, 100),
    ),
)
steps = st.lists(
    st.fixed_dictionaries(
        {
            "runner": runners,
            "look": looks,
            "admitted": st.booleans(),
            "archived": st.booleans(),
            "late": st.sampled_from([None, "PostgreSQL is away"]),
            "seconds": st.integers(0, 900),
            "edit": st.sampled_from([None, None, None, None, "cancel", "uncancel", "redrive", "suspend", "resume"]),
            "policy": st.sampled_from(["hold", "retry", "fail"]),
        }
    ),
    max_size=40,
)


class World:
    """A render that is decided over and over; it remembers what was started."""

    def __init__(self, kind: str) -> None:
        self.body = body(kind, finalizer=False)
        self.started: list[tuple[int, str, int]] = []
        self.now = NOW
        self.ends: dict[int, str] = {}
        self.discarded: dict[str, act.Answer] = {}

    def edit(self, what: str | None) -> None:
        spec = dict(self.body["spec"])
        match what:
            case "cancel" | "uncancel":
                spec["cancel"] = what == "cancel"
            case "suspend" | "resume":
                spec["suspend"] = what == "suspend"
            case "redrive":
                spec["redrive"] = spec.get("redrive", 0) + 1
        about = self.body["metadata"]
        about = {**about, "generation": about["generation"] + (spec != self.body["spec"])}
        self.body = {**self.body, "metadata": about, "spec": spec}

    def step(self, given: dict[str, Any]) -> None:
        self.now += given["seconds"]
        self.edit(given["edit"])
        before = Render(self.body)
        live = before.phase in (Phase.RUNNING, Phase.FINALIZING, Phase.HELD) and before.open_attempt is not None
        world = Observed(
            now=self.now,
            runner=given["runner"] if live else RunnerSeen(Runner.NONE),
            provider={"onUnknownOutcome": given["policy"]},
            look=given["look"] if before.phase is Phase.WAITING else None,
            admitted=given["admitted"],
            archived=given["archived"] and before.is_finished,
            archive_late=None if given["archived"] else given["late"],
            is_tenant=True,
            discarded=self.discarded,
        )
        todo = decide(before, world)
        writes = [one for one in todo if isinstance(one, act.WriteStatus | act.StartAttempt)]
        assert len(writes) <= 1, todo
        for action in todo:
            self.perform(before, action)

    def perform(self, before: Render, action: act.Action) -> None:
        match action:
            case act.StartAttempt():
                mark = (before.run, action.stage.value, action.number)
                assert mark not in self.started, "an attempt was started twice"
                assert before.open_attempt is None, "two attempts at a time"
                assert not before.is_finished
                self.started.append(mark)
                self.write(before, action.status)
            case act.CreateJob():
                assert (before.run, action.stage.value, action.number) in self.started, "a Job without a fence"
                assert not before.is_finished
            case act.WriteStatus():
                self.write(before, action.status)
            case act.DiscardVendorJob():
                self.discarded = {**self.discarded, action.job_id: "goes on"}
            case act.ChangeFinalizer():
                finalizers = [meta.FINALIZER] if action.to == "present" else []
                self.body = {**self.body, "metadata": {**self.body["metadata"], "finalizers": finalizers}}

    def write(self, before: Render, status: dict[str, Any]) -> None:
        RenderStatus.model_validate(status)
        after = Render({**self.body, "status": status})
        old, new = before.phase or Phase.QUEUED, after.phase
        assert new is not None
        assert new is old or new in MAY_FOLLOW[old], f"{old} -> {new}"
        opened = before.open_attempt
        if opened and after.run == before.run and opened["number"] not in _numbers(after, opened["stage"]):
            assert before.status["reason"] == "NameConflict", "an attempt was forgotten whose Job may have existed"
            self.started.remove((before.run, opened["stage"], opened["number"]))
        if old in FINAL and not _only_takes_up_an_edit(before, after):
            assert after.run > before.run, "an end was left without a redrive"
        if new in FINAL:
            assert after.open_attempt is None
            assert self.ends.setdefault(after.run, new) == new, "a run ended twice"
        assert 0 <= status.get("progress", 0) <= 100
        assert len(status.get("attempts") or ()) <= 20
        if status.get("progress") == 100:
            assert new is Phase.SUCCEEDED
        self.body = {**self.body, "status": status}


def _numbers(render: Render, stage: str) -> list[int]:
    return [one["number"] for one in render.attempts if one["stage"] == stage]


def _only_takes_up_an_edit(before: Render, after: Render) -> bool:
    told = {"observedGeneration", "conditions", "message"}
    return {name: value for name, value in before.status.items() if name not in told} == {
        name: value for name, value in after.status.items() if name not in told
    }


@pytest.mark.parametrize("kind", ["AvatarRender", "VoiceJob", "VideoRender"])
@settings(max_examples=150, deadline=None)
@given(steps)
def test_no_order_of_observations_breaks_the_rules(kind: str, given_steps: list[dict[str, Any]]) -> None:
    world = World(kind)
    for one in given_steps:
        world.step(one)


@pytest.mark.parametrize("phase", sorted(FINAL))
@settings(max_examples=60, deadline=None)
@given(steps)
def test_an_end_creates_nothing(phase: Phase, given_steps: list[dict[str, Any]]) -> None:
    world = World("VideoRender")
    world.body["status"] = {
        "phase": phase.value,
        "run": 0,
        "finishedAt": "2027-01-15T08:00:00Z",
        "reason": "CancelledByUser",
    }
    for one in given_steps:
        world.step({**one, "edit": None if one["edit"] == "redrive" else one["edit"]})

    assert world.started == []
    assert world.body["status"]["phase"] == phase


PODS_END: dict[str, Any] = {
    "runner": RunnerSeen(Runner.LOST, code="JobGone"),
    "look": None,
    "admitted": True,
    "archived": True,
    "late": None,
    "seconds": 1,
    "edit": None,
    "policy": "hold",
}
"""A world in which a Job that is stopped goes, and the archive answers."""


def _ends_as(world: World) -> Render:
    """The render when it is let go of; within a few looks, or the test fails."""
    began = list(world.started)
    for _ in range(6):
        world.step(PODS_END)
    assert world.started == began, "something was started for a render that nobody wants"
    return Render(world.body)


@pytest.mark.parametrize("kind", ["AvatarRender", "VoiceJob", "VideoRender"])
@settings(max_examples=100, deadline=None)
@given(steps)
def test_deleted_at_any_moment_it_is_let_go_of_and_starts_nothing(kind: str, given_steps: list[dict[str, Any]]) -> None:
    world = World(kind)
    for one in given_steps:
        world.step(one)
    world.body["metadata"] = {**world.body["metadata"], "deletionTimestamp": "2027-01-15T08:00:00Z"}

    one = _ends_as(world)

    assert not one.has_finalizer
    assert one.phase is None or one.is_finished


@pytest.mark.parametrize("kind", ["AvatarRender", "VoiceJob", "VideoRender"])
@settings(max_examples=100, deadline=None)
@given(steps)
def test_cancelled_at_any_moment_it_comes_to_an_end(kind: str, given_steps: list[dict[str, Any]]) -> None:
    world = World(kind)
    for one in given_steps:
        world.step(one)
    world.edit("cancel")
    before = Render(world.body)
    if before.wants_new_run and before.phase is not None and before.phase.is_final:
        return  # it begins anew first, which is another story

    one = _ends_as(world)

    assert one.is_finished
    if not before.is_finished and before.started_at is None:
        assert one.phase is Phase.ABORTED
        assert (one.status.get("cost") or {}).get("actualMicros", 0) == 0


def test_every_stage_has_a_share_of_progress_in_order() -> None:
    from renderfleet_operator.decide.lifecycle import RULES

    for kind, rules in RULES.items():
        stages = BY_KIND[kind].stages
        assert set(rules.share) == set(stages)
        edges = [edge for stage in stages for edge in rules.share[Stage(stage)]]
        assert edges == sorted(edges)
        assert edges[-1] < 100
