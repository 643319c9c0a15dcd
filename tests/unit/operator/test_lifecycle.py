"""What happens to a render, as sentences."""

from dataclasses import replace
from typing import Any

import pytest

from renderfleet_crds.conditions import ConditionType, Reason, find_condition
from renderfleet_crds.contract import Charged, Stage
from renderfleet_crds.kinds import RENDERS
from renderfleet_crds.render import RenderStatus
from renderfleet_crds.video_render import AvatarRef, VoiceRef
from renderfleet_operator.decide import actions as act
from renderfleet_operator.decide.lifecycle import decide, taken_back
from renderfleet_operator.decide.observed import Dependency, Observed, Policy, Runner, RunnerSeen, VendorLook, Wait
from renderfleet_operator.decide.video import needs
from renderfleet_operator.decide.view import Render
from renderfleet_operator.times import rfc3339, seconds_of

from .builders import CREATED, NOW, attempt, body, broke, done, ended, render, running, seen, waiting

OUTPUTS = [{"name": "image-1", "key": "media/rf-acme/x.png"}]


TOLD = {"tlk_1": "goes on"}
"""What the vendor answered when it was told that nobody waits for its job."""


def kinds(todo: list[act.Action]) -> list[str]:
    return [type(one).__name__ for one in todo if not isinstance(one, act.LookAgain)]


def status_of(todo: list[act.Action]) -> dict[str, Any]:
    written = [one.status for one in todo if isinstance(one, act.WriteStatus | act.StartAttempt)]
    assert len(written) == 1, todo
    return written[0]


def condition(status: dict[str, Any], kind: str) -> str:
    return next(str(one["status"]) for one in status["conditions"] if one["type"] == kind)


def look_again(todo: list[act.Action]) -> float:
    return next(one.after_seconds for one in todo if isinstance(one, act.LookAgain))


class TestScriptWriter:
    """A VoiceJob that asks two vendors: what one of them does says nothing about the other."""

    def told(self, runner: RunnerSeen) -> dict[str, act.News]:
        spec = {"text": None, "prompt": "about boats", "scriptProvider": "openai"}
        todo = decide(render("VoiceJob", running("VoiceJob"), spec=spec), seen(runner))
        return {one.provider: one.news for one in todo if isinstance(one, act.TellProvider)}

    @pytest.mark.parametrize(
        ("category", "news"),
        [
            ("credential", act.News.HELD),
            ("money", act.News.HELD),
            ("throttled", act.News.THROTTLED),
            ("outage", act.News.BROKEN),
            ("moderation", act.News.ANSWERED),
        ],
    )
    def test_its_trouble_is_its_own(self, category: str, news: act.News) -> None:
        assert self.told(broke(category, failedProvider="openai")) == {"openai": news}
        assert self.told(broke(category)) == {"elevenlabs": news}
        assert self.told(broke(category, failedProvider="a-stranger")) == {"elevenlabs": news}

    def test_a_script_that_was_written_is_an_answer(self) -> None:
        both = {"elevenlabs": act.News.ANSWERED, "openai": act.News.ANSWERED}

        assert self.told(done(script="Ahoy.")) == both
        assert self.told(done()) == {"elevenlabs": act.News.ANSWERED}, "it was written by an earlier attempt"


@pytest.mark.parametrize(
    ("runner", "phase"),
    [
        pytest.param(replace(broke("outage", charged="true"), script="Boats."), "Retrying", id="speaking it failed"),
        pytest.param(replace(broke("money", charged="true"), script="Boats."), "Queued", id="nobody may speak it now"),
        pytest.param(RunnerSeen(Runner.UNKNOWN, script="Boats."), "Held", id="nobody knows whether it was spoken"),
    ],
)
def test_a_script_that_was_paid_for_is_kept(runner: RunnerSeen, phase: str) -> None:
    one = render("VoiceJob", running("VoiceJob"), spec={"text": None, "prompt": "about boats"})

    status = status_of(decide(one, seen(runner)))

    assert (status["phase"], status["script"]) == (phase, "Boats.")
    again = render("VoiceJob", status, spec={"text": None, "prompt": "about boats", "redrive": 1})
    if phase == "Held":
        assert status_of(decide(again, seen()))["script"] == "Boats."


@pytest.mark.parametrize(
    ("one", "world", "expected"),
    [
        pytest.param(render(finalizer=False), seen(), ["ChangeFinalizer"], id="a new render gets the finalizer first"),
        pytest.param(render(), seen(), ["AskAdmission"], id="a new render asks for admission and writes nothing"),
        pytest.param(render(), seen(admitted=True), ["StartAttempt"], id="an admitted render starts"),
        pytest.param(
            render(status=running()), seen(Runner.ABSENT), ["CreateJob"], id="a fence without a Job gets its Job"
        ),
        pytest.param(
            render(status=running("AvatarRender", attempt(startedAt=rfc3339(NOW - 3)))),
            seen(Runner.WORKING),
            [],
            id="a runner that has just begun is left alone",
        ),
        pytest.param(render(status=running()), seen(Runner.STOPPING), [], id="a Job that goes away is waited for"),
        pytest.param(
            render(status=running()),
            seen(RunnerSeen(Runner.STARTING, since=NOW - 60)),
            ["WriteStatus"],
            id="of a Job that gets no pod it is said first that it is taken back",
        ),
        pytest.param(
            render(status=running(reason="QuotaExhausted")),
            seen(RunnerSeen(Runner.STARTING, since=NOW - 60)),
            ["StopJob"],
            id="then it is taken back",
        ),
        pytest.param(
            render(status=running()),
            seen(RunnerSeen(Runner.STARTING, since=NOW - 1)),
            [],
            id="a Job is given a moment to get its pod",
        ),
        pytest.param(
            render(status=running()),
            seen(done(outputs=OUTPUTS)),
            ["TellProvider", "WriteStatus"],
            id="a done runner ends in one write",
        ),
        pytest.param(
            render(status=ended()), seen(archived=True), ["ChangeFinalizer"], id="an archived end is let go of"
        ),
        pytest.param(render(status=ended()), seen(archived=False), [], id="an end that is not archived is held"),
        pytest.param(render(status=ended(), finalizer=False), seen(), [], id="a finished render rests"),
        pytest.param(
            render(status=ended(), finalizer=False, spec={"ttlSecondsAfterFinished": 5}),
            seen(),
            ["DeleteRender"],
            id="its time to live over, it goes",
        ),
        pytest.param(render(status=ended(), finalizer=False, deleting=True), seen(), [], id="a released object may go"),
        pytest.param(
            render(status=ended("Failed"), spec={"redrive": 1}, finalizer=False),
            seen(),
            ["ChangeFinalizer"],
            id="a redrive takes the finalizer again first",
        ),
        pytest.param(
            render(status=ended("Failed"), spec={"redrive": 1}),
            seen(archived=False),
            [],
            id="a redrive waits until the end is archived: nothing else will tell what it cost and how it went",
        ),
        pytest.param(
            render(status=ended("Failed", finishedAt=rfc3339(NOW - 8 * 86_400)), spec={"redrive": 1}),
            seen(archived=False),
            ["WriteStatus"],
            id="a redrive does not wait for ever for an archive that never answers",
        ),
        pytest.param(
            render(status=ended("Succeeded"), spec={"redrive": 1}, finalizer=False),
            seen(),
            [],
            id="what succeeded is not driven again: it would be paid again",
        ),
        pytest.param(render("VideoRender", waiting()), seen(), ["WatchVendorJob"], id="a vendor at work is looked at"),
        pytest.param(
            render(status={"phase": "Held", "reason": "OutcomeUnknown", "observedGeneration": 1}),
            seen(),
            [],
            id="Held rests",
        ),
    ],
)
def test_what_is_done(one: Render, world: Observed, expected: list[str]) -> None:
    assert kinds(decide(one, world)) == expected


DAY = 86_400.0


@pytest.mark.parametrize(
    ("phase", "days"),
    [("Succeeded", 7), ("Failed", 30), ("DeadLettered", 30), ("Cancelled", 1), ("Aborted", 1)],
)
def test_how_long_an_end_stays_depends_on_it_and_starts_when_it_is_archived(phase: str, days: int) -> None:
    status = ended(phase, finishedAt=rfc3339(NOW - days * DAY))
    younger = ended(phase, finishedAt=rfc3339(NOW - days * DAY + 60))

    assert kinds(decide(render(status=status, finalizer=False), seen())) == ["DeleteRender"]
    assert kinds(decide(render(status=younger, finalizer=False), seen())) == []
    not_archived = seen(archived=False, policy=Policy(archive_deadline_seconds=90 * DAY))
    assert kinds(decide(render(status=status), not_archived)) == []


def test_references_can_form_no_cycle_and_lead_to_no_other_namespace() -> None:
    """Only videos name other renders, and only pictures and voices, which name none; a reference is a name, no more."""
    naming = {
        (kind.kind, name): field.annotation
        for kind in RENDERS
        for name, field in kind.spec.model_fields.items()
        if name.endswith("_ref")
    }

    assert set(naming) == {("VideoRender", "avatar_ref"), ("VideoRender", "voice_ref")}
    made = body("VideoRender", spec={"avatarRef": {"name": "face"}, "voiceRef": {"name": "voice"}})
    assert {kind for kind, _ in needs(Render(made)).values()} == {"AvatarRender", "VoiceJob"}
    for part in (AvatarRef, VoiceRef):
        assert "namespace" not in part.model_fields


def test_a_long_stage_shows_progress_but_never_the_end_of_it() -> None:
    one = render(status=running("AvatarRender", attempt(startedAt=rfc3339(NOW - 17)), progress=5))
    status = status_of(decide(one, seen(Runner.WORKING)))
    assert 5 < status["progress"] < 75

    much_later = decide(Render({**one.body, "status": status}), seen(Runner.WORKING, now=NOW + 900))

    assert 75 < status_of(much_later)["progress"] < 95


def test_the_fence_says_what_is_started() -> None:
    todo = decide(
        render(annotations={"renderfleet.dev/traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}), seen(admitted=True)
    )

    status = status_of(todo)
    assert (status["phase"], status["stage"], status["attempt"]) == ("Running", "generate", 1)
    assert status["attempts"][-1]["number"] == 1
    assert "endedAt" not in status["attempts"][-1]
    assert status["startedAt"] == rfc3339(NOW)
    assert status["traceId"] == "a" * 32
    assert condition(status, "Admitted") == "True"


def test_success_says_so_to_every_kind_of_reader() -> None:
    status = status_of(decide(render(status=running()), seen(done(outputs=OUTPUTS))))

    assert (status["phase"], status["progress"], status["outputs"]) == ("Succeeded", 100, OUTPUTS)
    assert status["attempts"][-1]["charged"] == "true"
    assert [condition(status, kind) for kind in ("Succeeded", "Finished", "MediaStored", "Stalled")] == [
        "True",
        "True",
        "True",
        "False",
    ]


@pytest.mark.parametrize(
    ("category", "phase", "reason"),
    [
        ("user", "Failed", "InputRefused"),
        ("moderation", "Failed", "Moderated"),
        ("transient", "Retrying", "BackingOff"),
        ("outage", "Retrying", "BackingOff"),
        ("internal", "Retrying", "BackingOff"),
        ("throttled", "Queued", "ProviderThrottled"),
        ("credential", "Queued", "ProviderHeld"),
        ("money", "Queued", "ProviderHeld"),
        ("disrupted", "Retrying", "BackingOff"),
        ("unknown_outcome", "Held", "OutcomeUnknown"),
    ],
)
def test_a_failure_goes_where_its_category_says(category: str, phase: str, reason: str) -> None:
    status = status_of(decide(render(status=running()), seen(broke(category))))

    assert (status["phase"], status["reason"]) == (phase, reason)
    assert status["attempts"][-1]["category"] == category


@pytest.mark.parametrize("category", ["transient", "outage", "internal"])
def test_the_last_attempt_is_the_last(category: str) -> None:
    earlier = [attempt(number, category="transient") for number in (1, 2)]

    status = status_of(decide(render(status=running("AvatarRender", *earlier, attempt(3))), seen(broke(category))))

    assert (status["phase"], status["reason"]) == ("DeadLettered", "AttemptsExhausted")
    assert condition(status, "Stalled") == "True"


@pytest.mark.parametrize(
    ("codes", "limit", "phase"),
    [
        pytest.param(["slow"], None, "Retrying", id="the render's own policy counts"),
        pytest.param(["bad_json"], 0, "DeadLettered", id="what another attempt would not mend is given up at once"),
        pytest.param(["bad_json"], 1, "Retrying", id="it is worth one more"),
        pytest.param(["bad_json", "bad_json"], 1, "DeadLettered", id="and no second one"),
        pytest.param(["slow", "bad_json"], 1, "Retrying", id="other failures are none of it"),
        pytest.param(["bad_json", "slow", "bad_json"], 1, "Retrying", id="nor is one that did not come again at once"),
    ],
)
def test_a_failure_is_worth_as_many_attempts_as_its_vendors_table_says(
    codes: list[str], limit: int | None, phase: str
) -> None:
    *before, last = codes
    earlier = [attempt(number, category="transient", code=code) for number, code in enumerate(before, start=1)]
    one = render(
        status=running("AvatarRender", *earlier, attempt(len(codes))), spec={"retryPolicy": {"maxAttempts": 9}}
    )

    status = status_of(decide(one, seen(broke("transient", code=last, retryLimit=limit))))

    assert status["phase"] == phase


@pytest.mark.parametrize(
    ("codes", "phase"),
    [
        pytest.param(["timed_out"], "Retrying", id="sent once more, as the provider allows"),
        pytest.param(["http_504", "timed_out"], "DeadLettered", id="and no third time, however it got lost"),
    ],
)
def test_what_may_have_been_charged_twice_is_not_sent_a_third_time(codes: list[str], phase: str) -> None:
    *before, last = codes
    earlier = [attempt(at, category="unknown_outcome", code=code) for at, code in enumerate(before, start=1)]
    one = render(
        status=running("AvatarRender", *earlier, attempt(len(codes))), spec={"retryPolicy": {"maxAttempts": 9}}
    )
    world = seen(broke("unknown_outcome", code=last), provider={"onUnknownOutcome": "retry"})

    assert status_of(decide(one, world))["phase"] == phase


def test_a_talk_that_failed_twice_as_its_vendor_never_mends_is_given_up() -> None:
    earlier = attempt(1, kind="VideoRender", category="outage", code="RenderError")
    latest = attempt(2, kind="VideoRender", endedAt=rfc3339(NOW - 25), charged="true")
    one = render("VideoRender", waiting(attempts=[earlier, latest]), spec={"retryPolicy": {"maxAttempts": 9}})
    look = VendorLook(state="failed", at=NOW, category="outage", code="RenderError", retry_limit=1)

    status = status_of(decide(one, seen(look=look)))

    assert (status["phase"], status["reason"]) == ("DeadLettered", "AttemptsExhausted")


@pytest.mark.parametrize(("count", "words"), [(1, "1 file is stored"), (2, "2 files are stored")])
def test_one_is_not_many(count: int, words: str) -> None:
    status = status_of(decide(render(status=running()), seen(done(outputs=OUTPUTS[:1] * count))))

    assert status["message"] == words


@pytest.mark.parametrize("category", ["throttled", "credential", "money", "disrupted"])
def test_some_failures_use_no_attempt_up(category: str) -> None:
    earlier = [attempt(number, category=category) for number in range(1, 15)]

    status = status_of(decide(render(status=running("AvatarRender", *earlier, attempt(15))), seen(broke(category))))

    assert status["phase"] in ("Queued", "Retrying")


def test_a_job_that_the_quota_refuses_was_never_an_attempt() -> None:
    earlier = attempt(1, category="transient")

    first = taken_back(render(status=running()), NOW, Reason.QUOTA_EXHAUSTED, "exceeded quota")
    second = taken_back(
        render(status=running("AvatarRender", earlier, attempt(2))), NOW, Reason.QUOTA_EXHAUSTED, "exceeded quota"
    )

    assert (first["phase"], first["reason"], first["attempt"]) == ("Queued", "QuotaExhausted", 0)
    assert not {"attempts", "startedAt"} & set(first), "nothing of it ever ran, so cancelling it now aborts it"
    assert (second["attempt"], second["attempts"]) == (1, [earlier])
    assert "startedAt" in second


def test_a_job_that_was_taken_back_for_the_quota_waits_in_the_queue() -> None:
    one = render(status=running(reason="QuotaExhausted"))

    status = status_of(decide(one, seen(RunnerSeen(Runner.LOST, code="NoPod", detail="exceeded quota"))))

    assert (status["phase"], status["reason"]) == ("Queued", "QuotaExhausted")


def test_an_attempt_number_is_never_used_twice_although_it_did_not_count() -> None:
    one = render(status={**running("AvatarRender", attempt(1, category="disrupted")), "phase": "Retrying"})

    start = decide(one, seen(admitted=True))[0]

    assert isinstance(start, act.StartAttempt)
    assert start.number == 2


def test_a_long_history_forgets_what_does_not_count_first() -> None:
    counted = attempt(1, category="transient")
    free = [attempt(number, category="disrupted") for number in range(2, 21)]
    one = render(status={**running("AvatarRender", counted, *free), "phase": "Retrying"})

    attempts = status_of(decide(one, seen(admitted=True)))["attempts"]

    assert len(attempts) == 20
    assert attempts[0] == counted
    assert attempts[-1]["number"] == 21


def test_the_pause_obeys_the_vendor_even_when_it_is_long() -> None:
    todo = decide(render(status=running()), seen(broke("transient", retryAfterSeconds=4000), chance=0.0))

    assert seconds_of(status_of(todo)["retryAt"]) == pytest.approx(NOW + 4000)


@pytest.mark.parametrize(("failures", "bound"), [(0, 5.0), (1, 10.0), (8, 600.0)])
def test_the_pause_is_drawn_from_nothing_to_a_bound_that_doubles(failures: int, bound: float) -> None:
    earlier = [attempt(number, category="transient") for number in range(1, failures + 1)]
    one = render(
        status=running("AvatarRender", *earlier, attempt(failures + 1)), spec={"retryPolicy": {"maxAttempts": 10}}
    )

    def pause(chance: float) -> float:
        return seconds_of(status_of(decide(one, seen(broke("transient"), chance=chance)))["retryAt"]) - NOW

    assert pause(0.0) == pytest.approx(0.0, abs=0.01)
    assert pause(0.5) == pytest.approx(bound / 2, abs=0.01)


def test_a_retry_waits_out_its_pause() -> None:
    one = render(
        status={
            **running("AvatarRender", attempt(1, category="transient")),
            "phase": "Retrying",
            "retryAt": rfc3339(NOW + 7),
        }
    )

    assert look_again(decide(one, seen(admitted=True))) == pytest.approx(7, abs=0.01)


class TestBackingOff:
    """Where it will stand is told while it pauses, too, if the pause is worth a write."""

    PLACE = Wait(Reason.BACKING_OFF, "", 3, 60)

    def pausing(self, left: float = 40, **more: Any) -> Render:
        status = {
            **running("AvatarRender", attempt(1, category="transient")),
            "phase": "Retrying",
            "reason": "BackingOff",
            "message": "attempt 1 of 3 failed",
            "retryAt": rfc3339(NOW + left),
        }
        return render(status={**status, **more.pop("status", {})}, **more)

    def test_it_asks_for_a_place_from_then_on_and_what_it_may_cost_is_set_aside(self) -> None:
        [ask] = [one for one in decide(self.pausing(), seen()) if isinstance(one, act.AskAdmission)]

        assert ask == act.AskAdmission(100, CREATED, None, ("openai",), not_before=NOW + 40)

    def test_its_place_is_told_and_nothing_else_of_it_changes(self) -> None:
        one = self.pausing()

        status = status_of(decide(one, seen(wait=self.PLACE)))

        assert status["queue"] == {
            "since": rfc3339(CREATED), "reason": "BackingOff", "position": 3, "etaSeconds": 60,
        }  # fmt: skip
        kept = ("phase", "reason", "message", "retryAt", "attempts", "attempt", "stage", "startedAt")
        assert {name: status[name] for name in kept} == {name: one.status[name] for name in kept}
        assert kinds(decide(render(status=status), seen(wait=self.PLACE))) == ["AskAdmission"], "it is told once"

    @pytest.mark.parametrize(
        ("one", "world", "expected"),
        [
            pytest.param({"left": 3}, {}, ["AskAdmission"], id="a short pause"),
            pytest.param({}, {"may_report": False}, ["AskAdmission"], id="no write to spare"),
            pytest.param({}, {"wait": None}, ["AskAdmission"], id="nobody has reckoned yet"),
            pytest.param({"spec": {"suspend": True}}, {}, ["LeaveAdmission"], id="suspended"),
            pytest.param({}, {"is_tenant": False}, ["LeaveAdmission"], id="nobody's namespace"),
        ],
    )
    def test_nothing_is_told(self, one: dict[str, Any], world: dict[str, Any], expected: list[str]) -> None:
        assert kinds(decide(self.pausing(**one), seen(**{"wait": self.PLACE, **world}))) == expected


@pytest.mark.parametrize(
    ("code", "phase", "counted"),
    [
        ("OOMKilled", "Retrying", True),
        ("DeadlineExceeded", "Retrying", True),
        ("RunnerCrashed", "Retrying", True),
        ("Evicted", "Retrying", False),
        ("Disrupted", "Retrying", False),
        ("JobGone", "Retrying", False),
    ],
)
def test_a_runner_lost_before_it_paid_is_started_again(code: str, phase: str, counted: bool) -> None:
    one = render(status=running())

    status = status_of(decide(one, seen(RunnerSeen(Runner.LOST, code=code, detail="gone"))))

    assert status["phase"] == phase
    assert Render({**one.body, "status": status}).counted_failures(Stage.GENERATE) == int(counted)


@pytest.mark.parametrize(("policy", "phase"), [("hold", "Held"), ("fail", "Failed"), ("retry", "Retrying")])
def test_nobody_knows_whether_it_was_paid_so_the_provider_decides(policy: str, phase: str) -> None:
    world = seen(RunnerSeen(Runner.UNKNOWN, charged=Charged.UNKNOWN), provider={"onUnknownOutcome": policy})

    status = status_of(decide(render(status=running()), world))

    assert status["phase"] == phase
    assert status["attempts"][-1]["charged"] == "unknown"


def test_a_foreign_job_is_neither_adopted_nor_deleted() -> None:
    todo = decide(render(status=running()), seen(RunnerSeen(Runner.FOREIGN, detail="Job x")))

    assert kinds(todo) == ["LeaveAdmission", "WriteStatus"]
    assert (status_of(todo)["phase"], status_of(todo)["reason"]) == ("Held", "NameConflict")


def test_a_freed_name_lets_it_go_on_by_itself() -> None:
    held = {**running(), "phase": "Held", "reason": "NameConflict"}

    status = status_of(decide(render(status=held), seen(Runner.ABSENT)))

    assert (status["phase"], status["attempt"]) == ("Queued", 0)


class TestEnding:
    """Cancel, deadlines and deletion."""

    def test_what_never_started_is_aborted_and_costs_nothing(self) -> None:
        status = status_of(decide(render(spec={"cancel": True}), seen()))

        assert (status["phase"], status["reason"]) == ("Aborted", "CancelledByUser")
        assert status.get("attempts") is None

    @pytest.mark.parametrize("state", [Runner.WORKING, Runner.STARTING])
    def test_a_live_pod_is_ended_first(self, state: Runner) -> None:
        assert kinds(decide(render(status=running(), spec={"cancel": True}), seen(state))) == ["StopJob"]

    def test_while_the_pod_ends_it_says_so_once(self) -> None:
        one = render(status=running(), spec={"cancel": True})
        status = status_of(decide(one, seen(Runner.STOPPING)))
        assert (status["phase"], status["reason"]) == ("Running", "Cancelling")

        again = decide(Render({**one.body, "status": status}), seen(Runner.STOPPING))

        assert kinds(again) == []

    def test_what_was_paid_and_done_is_kept_though_cancelled(self) -> None:
        status = status_of(decide(render(status=running(), spec={"cancel": True}), seen(done(outputs=OUTPUTS))))

        assert (status["phase"], status["outputs"]) == ("Succeeded", OUTPUTS)

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            pytest.param("gone", "the vendor has dropped its job", id="it did"),
            pytest.param("goes on", "the vendor will not stop its job, and may charge it", id="as D-ID, at work"),
            pytest.param("untold", "the vendor could not be told, and may finish and charge its job", id="no answer"),
        ],
    )
    def test_the_vendor_is_told_first_and_what_it_answers_is_said(self, answer: Any, said: str) -> None:
        one = render("VideoRender", waiting(), spec={"cancel": True})

        first = decide(one, seen(discarded={"tlk_of_an_earlier_run": "gone"}))
        then = decide(one, seen(discarded={"tlk_1": answer}))

        assert kinds(first) == ["LeaveAdmission", "DiscardVendorJob"]
        assert look_again(first) < 1
        assert kinds(then) == ["LeaveAdmission", "WriteStatus"]
        assert (status_of(then)["phase"], status_of(then)["message"]) == ("Cancelled", f"spec.cancel was set; {said}")

    @pytest.mark.parametrize(
        ("look", "micros"),
        [
            pytest.param(None, 900, id="nobody has looked yet: as estimated"),
            pytest.param(VendorLook("working", NOW), 900, id="it is at work and will be charged: as estimated"),
            pytest.param(VendorLook("done", NOW, cost_micros=600), 600, id="it is done: as billed"),
            pytest.param(VendorLook("failed", NOW), 0, id="it failed: nothing"),
        ],
    )
    def test_what_a_vendor_may_charge_for_an_unwanted_job_is_spent(self, look: VendorLook | None, micros: int) -> None:
        """D-ID ends no talk that it works on."""
        status = waiting(cost={"estimatedMicros": 900, "currency": "USD"})

        written = status_of(
            decide(render("VideoRender", status, spec={"cancel": True}), seen(look=look, discarded=TOLD))
        )

        assert written["cost"]["actualMicros"] == micros

    def test_what_an_earlier_try_cost_does_not_pay_for_the_unwanted_job(self) -> None:
        status = waiting(cost={"estimatedMicros": 900, "actualMicros": 900, "currency": "USD"})

        written = status_of(decide(render("VideoRender", status, spec={"cancel": True}), seen(discarded=TOLD)))

        assert written["cost"]["actualMicros"] == 1800

    def test_a_start_that_was_accepted_meanwhile_is_discarded_and_charged(self) -> None:
        one = render("VideoRender", running("VideoRender"), spec={"cancel": True})

        assert act.DiscardVendorJob("tlk_9") in decide(one, seen(done(vendorJobId="tlk_9")))
        todo = decide(one, seen(done(vendorJobId="tlk_9"), discarded={"tlk_9": "goes on"}))

        assert status_of(todo)["attempts"][-1]["charged"] == "true"

    def test_an_unknown_outcome_stays_unknown_when_cancelled(self) -> None:
        todo = decide(render(status=running(), spec={"cancel": True}), seen(RunnerSeen(Runner.UNKNOWN)))

        assert (status_of(todo)["phase"], status_of(todo)["attempts"][-1]["charged"]) == ("Cancelled", "unknown")

    def test_it_does_not_wait_for_its_turn_for_ever(self) -> None:
        status = status_of(decide(render(spec={"queueDeadlineSeconds": 60}), seen()))

        assert (status["phase"], status["reason"]) == ("Failed", "QueueDeadlineExceeded")

    def test_the_queue_deadline_is_looked_at_in_time(self) -> None:
        wait = Wait(Reason.SUSPENDED, "")
        one = render(spec={"queueDeadlineSeconds": 130, "suspend": True})

        assert look_again(decide(one, seen(wait=wait))) <= 30

    def test_a_deadline_is_looked_at_in_time_by_one_of_thousands_that_are_told_nothing_yet(self) -> None:
        one = render(spec={"queueDeadlineSeconds": 130})

        assert look_again(decide(one, seen(wait=None))) <= 30

    def test_it_does_not_run_for_ever(self) -> None:
        one = render(status=running(), spec={"runDeadlineSeconds": 10})
        assert kinds(decide(one, seen(Runner.WORKING))) == ["StopJob"]

        status = status_of(decide(one, seen(RunnerSeen(Runner.LOST, code="JobGone"))))

        assert (status["phase"], status["reason"]) == ("Failed", "RunDeadlineExceeded")

    def test_a_deleted_render_is_ended_archived_and_released(self) -> None:
        one = render(status=running(), deleting=True)
        assert kinds(decide(one, seen(Runner.WORKING))) == ["StopJob"]
        status = status_of(decide(one, seen(RunnerSeen(Runner.LOST, code="JobGone"))))
        assert status["phase"] == "Cancelled"
        over = Render({**one.body, "status": status})

        assert kinds(decide(over, seen())) == []
        assert kinds(decide(over, seen(archived=True))) == ["ChangeFinalizer"]

    def test_an_archive_that_never_answers_is_not_waited_for_for_ever(self) -> None:
        old = ended(finishedAt=rfc3339(NOW - 8 * 86_400))

        assert decide(render(status=old), seen()) == [act.ChangeFinalizer("absent", overdue=True)]

    def test_a_redrive_begins_anew(self) -> None:
        old = ended(
            "DeadLettered", attempts=[attempt(3, category="outage")], attempt=3, outputs=[], startedAt=rfc3339(NOW - 50)
        )

        status = status_of(decide(render(status=old, spec={"redrive": 1}), seen(archived=True)))

        assert (status["phase"], status["run"], status["attempt"]) == ("Queued", 1, 0)
        assert not {"attempts", "finishedAt", "startedAt", "outputs"} & set(status)
        assert condition(status, "Finished") == "False"


class TestArchived:
    """Who is done but kept because PostgreSQL is away is told so, once, and told again when that is over."""

    LATE = "PostgreSQL has not answered since noon"

    def archived(self, status: dict[str, Any]) -> tuple[str, str, str] | None:
        found = find_condition(status.get("conditions") or [], ConditionType.ARCHIVED)
        return (found["status"], found["reason"], found["message"]) if found else None

    def told(self, status: dict[str, Any] | None = None) -> dict[str, Any]:
        return status_of(decide(render(status=status or ended()), seen(archive_late=self.LATE)))

    def test_it_is_told_why_it_stays_and_nothing_else_of_it_changes(self) -> None:
        status = self.told()

        assert self.archived(status) == ("False", "NotArchivedYet", self.LATE)
        assert {**status, "conditions": None} == {**ended(), "conditions": None}
        RenderStatus.model_validate(status)

    @pytest.mark.parametrize(
        ("one", "world"),
        [
            pytest.param(render(status=ended()), seen(), id="the archive is as quick as ever"),
            pytest.param(render(status=ended()), seen(archive_late=LATE, may_report=False), id="no write to spare"),
            pytest.param(render(status=ended(), finalizer=False), seen(archive_late=LATE), id="it was let go of"),
        ],
    )
    def test_nothing_is_told(self, one: Render, world: Observed) -> None:
        assert kinds(decide(one, world)) == []

    def test_it_is_told_once(self) -> None:
        assert kinds(decide(render(status=self.told()), seen(archive_late=self.LATE + ", and longer"))) == []

    def test_who_was_told_is_told_that_it_is_over_before_it_is_let_go_of(self) -> None:
        todo = decide(render(status=self.told()), seen(archived=True, may_report=False))
        assert kinds(todo) == ["WriteStatus"]
        over = status_of(todo)

        assert self.archived(over) == ("True", "Archived", "")
        assert kinds(decide(render(status=over), seen(archive_late=self.LATE))) == []
        assert kinds(decide(render(status=over), seen(archived=True))) == ["ChangeFinalizer"]

    def test_who_was_not_told_is_let_go_of_without_a_word(self) -> None:
        assert kinds(decide(render(status=ended()), seen(archived=True))) == ["ChangeFinalizer"]

    def test_a_redrive_leaves_nothing_of_it(self) -> None:
        """The next run's end is another one, of which nothing was told."""
        told = self.told(ended("DeadLettered"))

        status = status_of(decide(render(status=told, spec={"redrive": 1}), seen(archived=True)))

        assert self.archived(status) is None

    def test_a_redrive_that_waits_for_the_archive_says_so(self) -> None:
        one = render(status=ended("DeadLettered"), spec={"redrive": 1})

        written = status_of(decide(one, seen(archive_late="PostgreSQL is away", may_report=True)))

        assert written["phase"] == "DeadLettered"
        assert self.archived(written) == ("False", "NotArchivedYet", "PostgreSQL is away")


class TestWaiting:
    """Every wait has its own reason, and telling it is not done at once nor too often."""

    @pytest.mark.parametrize(
        ("one", "world", "reason"),
        [
            (render(spec={"suspend": True}), seen(), "Suspended"),
            (render(), seen(is_tenant=False), "NamespaceNotATenant"),
            (render(), seen(missing_provider="openai"), "ProviderUnknown"),
            (render(), seen(wait=Wait(Reason.QUOTA_EXHAUSTED, "full", 3, 60)), "QuotaExhausted"),
        ],
    )
    def test_the_reason_is_told(self, one: Render, world: Observed, reason: str) -> None:
        status = status_of(decide(one, world))

        assert (status["phase"], status["reason"], status["queue"]["reason"]) == ("Queued", reason, reason)
        assert condition(status, "Queued") == "True"

    def test_position_and_expected_start_are_told(self) -> None:
        status = status_of(decide(render(), seen(wait=Wait(Reason.BEHIND_OTHERS, "", 3, 60))))

        assert (status["queue"]["position"], status["queue"]["etaSeconds"]) == (3, 60)

    def test_a_short_wait_is_not_worth_a_write(self) -> None:
        todo = decide(render(), seen(wait=Wait(Reason.BEHIND_OTHERS, ""), now=CREATED + 0.4))

        assert kinds(todo) == ["AskAdmission"]
        assert look_again(todo) == pytest.approx(0.6)

    def test_telling_waits_until_there_is_a_write_to_spare(self) -> None:
        todo = decide(render(), seen(wait=Wait(Reason.BEHIND_OTHERS, ""), may_report=False))

        assert kinds(todo) == ["AskAdmission"]

    def test_the_same_thing_is_not_told_twice(self) -> None:
        wait = Wait(Reason.BEHIND_OTHERS, "", 3, 60)
        one = render()
        told = Render({**one.body, "status": status_of(decide(one, seen(wait=wait)))})

        assert kinds(decide(told, seen(wait=wait))) == ["AskAdmission"]
        assert kinds(decide(told, seen(wait=Wait(Reason.BEHIND_OTHERS, "", 3, 64)))) == ["AskAdmission"]
        assert kinds(decide(told, seen(wait=Wait(Reason.BEHIND_OTHERS, "", 2, 60)))) == ["AskAdmission", "WriteStatus"]


class TestVideo:
    """Dependencies, the vendor's work, finalizing."""

    def face(self, status: dict[str, Any] | None, **spec: Any) -> Dependency:
        return Dependency("AvatarRender", "face", body("AvatarRender", status, name="face", uid="u2", spec=spec))

    def needs_face(self) -> Render:
        made = body("VideoRender", spec={"avatarRef": {"name": "face", "index": 2}})
        del made["spec"]["avatarKey"]
        return Render(made)

    @pytest.mark.parametrize(
        ("status", "phase", "reason"),
        [
            (None, "Queued", "DependencyPending"),
            ({"phase": "Running"}, "Queued", "DependencyPending"),
            ({"phase": "Held"}, "Queued", "DependencyPending"),
            (ended("Failed"), "Failed", "DependencyFailed"),
            (ended("DeadLettered"), "Failed", "DependencyFailed"),
            (ended("Succeeded", outputs=OUTPUTS), "Failed", "DependencyFailed"),
        ],
    )
    def test_it_waits_for_its_picture_or_fails_with_it(
        self, status: dict[str, Any] | None, phase: str, reason: str
    ) -> None:
        made = status_of(decide(self.needs_face(), seen(dependencies={"picture": self.face(status)})))

        assert (made["phase"], made["reason"]) == (phase, reason)

    def test_it_takes_the_picture_it_was_told_to(self) -> None:
        outputs = [{"name": f"image-{n}", "key": f"media/rf-acme/{n}.png"} for n in (1, 2)]
        world = seen(dependencies={"picture": self.face(ended("Succeeded", outputs=outputs))}, admitted=True)

        assert status_of(decide(self.needs_face(), world))["avatarKey"] == "media/rf-acme/2.png"

    def test_a_failed_picture_that_is_tried_again_is_waited_for(self) -> None:
        world = seen(dependencies={"picture": self.face(ended("Failed"), redrive=1)})

        assert status_of(decide(self.needs_face(), world))["reason"] == "DependencyPending"

    @pytest.mark.parametrize("field", ["avatarKey", "audioKey"])
    def test_anothers_file_is_refused(self, field: str) -> None:
        status = status_of(decide(render("VideoRender", spec={field: "media/rf-other/x.png"}), seen(admitted=True)))

        assert (status["phase"], status["reason"]) == ("Failed", "ForeignKey")

    def spoken(self, **more: Any) -> Render:
        made = body("VideoRender", spec={"script": "Hello", "voiceId": "anna"}, **more)
        del made["spec"]["audioKey"]
        return Render(made)

    def test_a_script_becomes_a_voice_job_of_its_own(self) -> None:
        todo = decide(self.spoken(), seen())

        made = next(one.body for one in todo if isinstance(one, act.CreateVoiceJob))
        assert (made["spec"]["text"], made["spec"]["voiceId"]) == ("Hello", "anna")
        assert made["metadata"]["ownerReferences"][0]["uid"] == self.spoken().uid

    def test_a_strangers_voice_job_of_that_name_is_not_used(self) -> None:
        stranger = Dependency("VoiceJob", "x", body("VoiceJob", ended()))

        assert status_of(decide(self.spoken(), seen(dependencies={"speech": stranger})))["reason"] == "NameConflict"

    def child(self, status: dict[str, Any], **spec: Any) -> Dependency:
        owner = [{"uid": self.spoken().uid}]
        return Dependency("VoiceJob", "x", body("VoiceJob", status, uid="u3", spec=spec, ownerReferences=owner))

    def test_redriving_a_video_redrives_its_failed_voice(self) -> None:
        status = {"phase": "Queued", "reason": "Redriven", "run": 1, "queuedAt": rfc3339(NOW)}
        one = self.spoken(status=status)

        todo = decide(one, seen(dependencies={"speech": self.child(ended("Failed"))}))

        assert act.PatchVoiceJob("x", {"redrive": 1, "cancel": False}) in todo

    def test_a_suspended_video_has_nothing_spoken(self) -> None:
        """Its VoiceJob would be paid for while somebody believes that all stands still."""
        one = self.spoken()
        one.spec["suspend"] = True

        todo = decide(one, seen())

        assert kinds(todo) == ["LeaveAdmission", "WriteStatus"]
        assert status_of(todo)["reason"] == "Suspended"

    @pytest.mark.parametrize(
        ("changed", "as_yet"),
        [
            pytest.param({"suspend": True}, {"suspend": False}, id="suspended"),
            pytest.param({"suspend": False}, {"suspend": True}, id="resumed"),
            pytest.param({"priority": 900}, {"priority": 100}, id="more urgent"),
        ],
    )
    def test_a_voice_goes_by_what_its_video_is_told_meanwhile(
        self, changed: dict[str, Any], as_yet: dict[str, Any]
    ) -> None:
        one = self.spoken()
        one.spec.update(changed)

        todo = decide(one, seen(dependencies={"speech": self.child({"phase": "Queued"}, **as_yet)}))
        again = decide(one, seen(dependencies={"speech": self.child({"phase": "Queued"}, **changed)}))

        assert act.PatchVoiceJob("x", changed) in todo
        assert "PatchVoiceJob" not in kinds(again)

    def test_a_voice_that_is_redriven_for_a_suspended_video_stays_suspended(self) -> None:
        one = self.spoken(status={"phase": "Queued", "reason": "Redriven", "run": 1, "queuedAt": rfc3339(NOW)})
        one.spec["suspend"] = True

        todo = decide(one, seen(dependencies={"speech": self.child(ended("Failed"))}))

        assert act.PatchVoiceJob("x", {"redrive": 1, "cancel": False, "suspend": True}) in todo

    def test_a_video_that_fails_for_its_picture_has_nothing_more_spoken(self) -> None:
        one = self.spoken()
        one.spec["avatarRef"] = {"name": "face"}
        world = {"picture": self.face(ended("Failed")), "speech": self.child({"phase": "Queued"})}

        todo = decide(one, seen(dependencies=world))

        assert act.PatchVoiceJob("x", {"cancel": True}) in todo
        assert status_of(todo)["reason"] == "DependencyFailed"

    @pytest.mark.parametrize("spec", [{}, {"cancel": True}], ids=["failing", "cancelled"])
    def test_a_strangers_voice_job_is_left_alone(self, spec: dict[str, Any]) -> None:
        one = self.spoken()
        one.spec.update(spec)
        stranger = Dependency("VoiceJob", "x", body("VoiceJob", {"phase": "Running"}))

        assert "PatchVoiceJob" not in kinds(decide(one, seen(dependencies={"speech": stranger})))

    def test_cancelling_a_video_cancels_its_voice(self) -> None:
        one = self.spoken()
        one.spec["cancel"] = True

        todo = decide(one, seen(dependencies={"speech": self.child({"phase": "Running"})}))

        assert act.PatchVoiceJob("x", {"cancel": True}) in todo
        assert status_of(todo)["phase"] == "Aborted"

    def test_an_accepted_start_waits_without_a_pod(self) -> None:
        todo = decide(render("VideoRender", running("VideoRender")), seen(done(vendorJobId="tlk_1")))

        status = status_of(todo)
        assert (status["phase"], status["stage"], status["provider"]["jobId"]) == ("Waiting", "poll", "tlk_1")
        assert condition(status, "ProviderAccepted") == "True"
        assert act.WatchVendorJob("tlk_1") in todo

    def test_what_an_accepted_start_took_is_noted_but_not_yet_counted(self) -> None:
        runner = replace(done(vendorJobId="tlk_1", usage={"credits": 3}), cost_micros=900)
        todo = decide(render("VideoRender", running("VideoRender")), seen(runner))

        status = status_of(todo)
        assert status["provider"]["credits"] == 3
        assert "actualMicros" not in (status.get("cost") or {}), "a talk that fails costs nothing"

    def test_a_start_whose_answer_was_lost_is_adopted(self) -> None:
        world = seen(RunnerSeen(Runner.ADOPTED, vendor_job_id="tlk_7"))

        assert status_of(decide(render("VideoRender", running("VideoRender")), world))["provider"]["jobId"] == "tlk_7"

    def test_the_vendors_progress_is_ours_in_part(self) -> None:
        look = VendorLook("working", NOW, "started", progress=50)

        status = status_of(decide(render("VideoRender", waiting()), seen(look=look)))

        assert (status["progress"], status["provider"]["status"]) == (47, "started")

    def test_a_done_vendor_needs_a_pod_and_nothing_else(self) -> None:
        todo = decide(
            render("VideoRender", waiting()), seen(look=VendorLook("done", NOW, "done", result_url="https://x/y"))
        )

        ask = todo[0]
        assert isinstance(ask, act.AskAdmission)
        assert (ask.providers, ask.priority) == ((), 1001)

    def test_finalizing_is_fenced_and_billed(self) -> None:
        look = VendorLook("done", NOW, "done", result_url="https://x/y", cost_micros=300)

        todo = decide(render("VideoRender", waiting()), seen(look=look, admitted=True))

        status = status_of(todo)
        assert (status["phase"], status["stage"], status["attempt"]) == ("Finalizing", "finalize", 1)
        assert status["cost"]["actualMicros"] == 300

    def test_a_job_that_the_vendor_gave_up_fails_its_start(self) -> None:
        look = VendorLook(
            "failed", NOW, "error", category="user", code="FaceError", message="no face", charged=Charged.NO
        )

        status = status_of(decide(render("VideoRender", waiting()), seen(look=look)))

        assert (status["phase"], status["reason"]) == ("Failed", "InputRefused")
        assert (status["attempts"][-1]["code"], status["attempts"][-1]["charged"]) == ("FaceError", "false")

    def test_a_new_talk_is_started_after_a_passing_fault(self) -> None:
        look = VendorLook("failed", NOW, "error", category="outage", code="UnknownError", message="?")

        status = status_of(decide(render("VideoRender", waiting()), seen(look=look)))

        assert (status["phase"], status["stage"]) == ("Retrying", "start")
        assert "provider" not in status

    @pytest.mark.parametrize("category", ["transient", "disrupted", "throttled", "unknown_outcome"])
    def test_what_fails_in_finalizing_is_finalized_again(self, category: str) -> None:
        one = render("VideoRender", running("VideoRender", stage=Stage.FINALIZE))

        status = status_of(decide(one, seen(broke(category))))

        assert (status["phase"], status["stage"]) == ("Retrying", "finalize")
