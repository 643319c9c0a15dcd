"""What kstatus, and by it Flux and Argo CD, make of every phase; and how kubectl wait sees it."""

from typing import Any

import pytest

from renderfleet_crds.conditions import Reason
from renderfleet_crds.phases import FINAL, Phase
from renderfleet_crds.render import RenderStatus
from renderfleet_operator.decide.actions import StartAttempt, WriteStatus
from renderfleet_operator.decide.lifecycle import decide
from renderfleet_operator.decide.observed import Runner, RunnerSeen, VendorLook, Wait
from renderfleet_operator.decide.report import archive_report, readiness, report
from renderfleet_operator.decide.view import Render
from renderfleet_operator.times import whole_seconds

from .builders import NOW, body, broke, done, render, seen


def kstatus(one: Render) -> str:
    """The rules of kstatus for custom resources, in its order."""
    status = one.status
    if one.is_deleting:
        return "Terminating"
    if status.get("observedGeneration") != one.generation:
        return "InProgress"
    conditions = {entry["type"]: entry["status"] for entry in status.get("conditions") or ()}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current"


EXPECTED = {
    Phase.QUEUED: "InProgress",
    Phase.RUNNING: "InProgress",
    Phase.WAITING: "InProgress",
    Phase.FINALIZING: "InProgress",
    Phase.RETRYING: "InProgress",
    Phase.HELD: "Failed",
    Phase.SUCCEEDED: "Current",
    Phase.FAILED: "Failed",
    Phase.DEAD_LETTERED: "Failed",
    Phase.CANCELLED: "Current",
    Phase.ABORTED: "Current",
}


def conditions_of(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["type"]: one for one in status["conditions"]}


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_has_a_verdict(phase: Phase) -> None:
    one = render()
    status = report(one, NOW, phase, Reason.STARTED, "words")

    assert kstatus(Render({**one.body, "status": status})) == EXPECTED[phase]
    RenderStatus.model_validate(status)


class Walk:
    """A render that is decided look by look."""

    def __init__(self, kind: str = "AvatarRender", **spec: Any) -> None:
        self.body = body(kind, spec={"retryPolicy": {"maxAttempts": 2}, **spec})
        self.phases: list[Phase] = []
        self.now = NOW

    def look(self, runner: RunnerSeen | Runner | None = None, **world: Any) -> "Walk":
        """Decide once, an hour's tenth later, and judge what the status says then as kstatus does."""
        self.now += 360
        todo = decide(Render(self.body), seen(runner, **{"now": self.now, **world}))
        [status] = [one.status for one in todo if isinstance(one, WriteStatus | StartAttempt)]
        RenderStatus.model_validate(status)
        self.body = {**self.body, "status": status}
        one = Render(self.body)
        assert one.phase is not None
        assert kstatus(one) == EXPECTED[one.phase]
        assert status["observedGeneration"] == one.generation
        assert all(condition["reason"] in list(Reason) for condition in status["conditions"])
        assert (conditions_of(status)["Finished"]["status"] == "True") is one.is_finished
        self.phases.append(one.phase)
        return self

    def edit(self, **spec: Any) -> "Walk":
        """As kubectl does: until it is taken up, kstatus waits."""
        about = {**self.body["metadata"], "generation": self.body["metadata"]["generation"] + 1}
        self.body = {**self.body, "metadata": about, "spec": {**self.body["spec"], **spec}}
        assert kstatus(Render(self.body)) == "InProgress"
        return self


def test_every_phase_is_walked_through_and_judged_right() -> None:
    waits, starts = {"wait": Wait(Reason.QUOTA_EXHAUSTED, "all pods are in use")}, {"admitted": True}
    done_there = VendorLook("done", NOW, "done", result_url="https://vendor/video")
    video = Walk("VideoRender").look(**waits).look(**starts).look(done(vendorJobId="tlk_1"))
    video.look(look=done_there, admitted=True).look(done())
    dead = Walk().look(**starts).look(broke("transient")).look(**starts).look(broke("outage"))
    dead.edit(redrive=1).look(archived=True).look(**starts)
    held = Walk().look(**starts).look(Runner.UNKNOWN)
    refused = Walk().look(**starts).look(broke("moderation"))
    cancelled = Walk().look(**starts).edit(cancel=True).look(Runner.LOST)
    aborted = Walk().look(**waits).edit(cancel=True).look()

    assert video.phases == ["Queued", "Running", "Waiting", "Finalizing", "Succeeded"]
    assert dead.phases == ["Running", "Retrying", "Running", "DeadLettered", "Queued", "Running"]
    assert held.phases == ["Running", "Held"]
    assert refused.phases == ["Running", "Failed"]
    assert cancelled.phases == ["Running", "Cancelled"]
    assert aborted.phases == ["Queued", "Aborted"]
    assert {phase for walk in (video, dead, held, refused, cancelled, aborted) for phase in walk.phases} == set(Phase)


@pytest.mark.parametrize(
    ("runner", "phase"),
    [
        pytest.param(done(), "Succeeded", id="asked to redrive what has succeeded"),
        pytest.param(broke("moderation"), "Failed", id="with a longer life after a failure"),
        pytest.param(RunnerSeen(Runner.UNKNOWN), "Held", id="more urgent while held"),
    ],
)
def test_an_edit_that_moves_nothing_is_taken_up_too(runner: RunnerSeen, phase: str) -> None:
    """kstatus, and with it Flux and Argo CD, would wait for ever else."""
    edit = {"Succeeded": {"redrive": 1}, "Failed": {"ttlSecondsAfterFinished": 90_000}, "Held": {"priority": 900}}[
        phase
    ]
    walk = Walk().look(admitted=True).look(runner)
    before = walk.body["status"]

    walk.edit(**edit).look()

    changed = {name for name, value in walk.body["status"].items() if before.get(name) != value}
    assert walk.phases == ["Running", phase, phase]
    assert changed == {"observedGeneration", "conditions"}
    assert not [one for one in decide(Render(walk.body), seen(now=walk.now)) if isinstance(one, WriteStatus)]


def test_the_deletion_of_what_has_ended_is_no_edit_to_take_up() -> None:
    """The API server counts it as a generation."""
    walk = Walk().look(admitted=True).look(done()).edit()
    walk.body["metadata"]["deletionTimestamp"] = whole_seconds(walk.now)

    assert not [one for one in decide(Render(walk.body), seen(now=walk.now)) if isinstance(one, WriteStatus)]


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("phase", sorted(FINAL))
def test_an_end_is_judged_the_same_when_the_archive_makes_it_wait(phase: Phase, archived: bool) -> None:
    one = render(status=report(render(), NOW, phase, Reason.STARTED, "words"))

    status = archive_report(one, NOW + 60, archived=archived, message="PostgreSQL is away")

    assert kstatus(Render({**one.body, "status": status})) == EXPECTED[phase]
    others = [entry for entry in status["conditions"] if entry["type"] != "Archived"]
    assert {**status, "conditions": others} == one.status


@pytest.mark.parametrize("phase", Phase)
def test_one_wait_serves_all_ends(phase: Phase) -> None:
    found = conditions_of(report(render(), NOW, phase, Reason.STARTED, "words"))

    assert (found["Finished"]["status"] == "True") is (phase in FINAL)
    assert (found["Succeeded"]["status"] == "True") is (phase is Phase.SUCCEEDED)
    assert (found["Succeeded"]["status"] == "Unknown") is (phase not in FINAL)


@pytest.mark.parametrize("phase", Phase)
def test_every_condition_says_why_and_of_which_spec(phase: Phase) -> None:
    for one in report(render(), NOW, phase, Reason.STARTED, "words")["conditions"]:
        assert one["reason"] in ("Started", "NotFinished", "NotStalled")
        assert one["observedGeneration"] == 1


def story(*steps: tuple[Phase, Reason, str]) -> dict[str, str]:
    """Each condition after these reports, as `kubectl describe` shows it."""
    status: dict[str, Any] = {}
    for at, (phase, reason, message) in enumerate(steps):
        status = report(render(status=status), NOW + at, phase, reason, message)
    return {
        kind: " ".join(filter(None, (one["status"], one["reason"], one["message"])))
        for kind, one in conditions_of(status).items()
    }


WAITS = (Phase.QUEUED, Reason.QUOTA_EXHAUSTED, "all 2 pods are in use")
STARTS = (Phase.RUNNING, Reason.STARTED, "generate: attempt 1")
AT_WORK = (Phase.RUNNING, Reason.STARTED, "generate: attempt 1, half of it")
DONE = (Phase.SUCCEEDED, Reason.MEDIA_READY, "2 files are stored")


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param(
            [WAITS, (Phase.QUEUED, Reason.CIRCUIT_OPEN, "openai keeps failing")],
            {
                "Succeeded": "Unknown CircuitOpen openai keeps failing",
                "Finished": "False NotFinished",
                "Queued": "True CircuitOpen",
                "Admitted": "False CircuitOpen",
                "Reconciling": "True CircuitOpen openai keeps failing",
                "Stalled": "False NotStalled",
            },
            id="what waits says what for, now",
        ),
        pytest.param(
            [WAITS, STARTS, AT_WORK, (Phase.RUNNING, Reason.CANCELLING, "spec.cancel was set: its pod is ending")],
            {
                "Succeeded": "Unknown Cancelling spec.cancel was set: its pod is ending",
                "Finished": "False NotFinished",
                "Queued": "False Started",
                "Admitted": "True Started",
                "Reconciling": "True Cancelling spec.cancel was set: its pod is ending",
                "Stalled": "False NotStalled",
            },
            id="what did not move keeps the reason it moved with",
        ),
        pytest.param(
            [WAITS, STARTS, DONE],
            {
                "Succeeded": "True MediaReady 2 files are stored",
                "Finished": "True MediaReady",
                "Queued": "False Started",
                "Admitted": "True Started",
                "Reconciling": "False MediaReady",
                "Stalled": "False NotStalled",
            },
            id="an end shows how it came to it",
        ),
        pytest.param(
            [STARTS, (Phase.FAILED, Reason.MODERATED, "the words are refused")],
            {
                "Succeeded": "False Moderated the words are refused",
                "Finished": "True Moderated",
                "Queued": "False Started",
                "Admitted": "True Started",
                "Reconciling": "False Moderated",
                "Stalled": "True Moderated the words are refused",
            },
            id="a failure tells kstatus in words",
        ),
        pytest.param(
            [STARTS, (Phase.FAILED, Reason.MODERATED, "refused"), (Phase.QUEUED, Reason.REDRIVEN, "run 1")],
            {
                "Succeeded": "Unknown Redriven run 1",
                "Finished": "False NotFinished",
                "Queued": "True Redriven",
                "Admitted": "False Redriven",
                "Reconciling": "True Redriven run 1",
                "Stalled": "False NotStalled",
            },
            id="a redrive leaves nothing of the old run",
        ),
    ],
)
def test_conditions_tell_a_story(steps: list[tuple[Phase, Reason, str]], expected: dict[str, str]) -> None:
    assert story(*steps) == expected


@pytest.mark.parametrize(
    ("ready", "stalled", "expected"),
    [
        (True, False, ["Ready True Ready well", "Reconciling False Accepted", "Stalled False NotStalled"]),
        (False, True, ["Ready False Ready well", "Reconciling False Accepted", "Stalled True Ready well"]),
    ],
)
def test_a_provider_or_tenant_says_why_where_it_matters(ready: bool, stalled: bool, expected: list[str]) -> None:
    made = readiness({}, 1, NOW, ready=ready, stalled=stalled, reason=Reason.READY, message="well")

    told = [f"{one['type']} {one['status']} {one['reason']} {one['message']}".strip() for one in made]
    assert told == expected
    assert (
        readiness({"conditions": made}, 1, NOW + 9, ready=ready, stalled=stalled, reason=Reason.READY, message="well")
        == made
    )


def test_a_story_ends_the_same_however_it_began() -> None:
    assert story(WAITS, STARTS, DONE) == story(STARTS, DONE)


def test_an_edit_that_is_not_taken_up_yet_is_in_progress() -> None:
    made = body(status=report(render(), NOW, Phase.SUCCEEDED, Reason.MEDIA_READY, ""))
    made["metadata"]["generation"] = 2

    assert kstatus(Render(made)) == "InProgress"


def test_a_transition_time_moves_only_with_its_word() -> None:
    first = report(render(), NOW, Phase.QUEUED, Reason.ACCEPTED, "")
    later = report(render(status=first), NOW + 60, Phase.RUNNING, Reason.STARTED, "")

    found = conditions_of(later)
    assert found["Succeeded"]["lastTransitionTime"] == whole_seconds(NOW)
    assert found["Queued"]["lastTransitionTime"] == whole_seconds(NOW + 60)
