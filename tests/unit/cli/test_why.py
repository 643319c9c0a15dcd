"""What `why` says in each situation that a render can be in: the text, word by word."""

from datetime import timedelta

import pytest

from renderfleet_cli.views import Provider, Quota, Render, Surroundings, Tenant
from renderfleet_cli.why import _WAITS, why
from renderfleet_cli.words import clock
from renderfleet_crds.conditions import Reason
from renderfleet_crds.phases import Phase

from .builders import NOW, ago, render

ALONE = Surroundings()
FOUR_MINUTES = {"waiting_since": ago(240)}
IN_40_SECONDS = NOW + timedelta(seconds=40)

WAITS = [
    pytest.param(
        render(seen_by_operator=False, reason="", waiting_since=ago(10)),
        ALONE,
        "VoiceJob greeting was submitted 10 seconds ago, and the operator has not looked at it yet. If that lasts longer "
        "than a minute, the operator may not be running: `renderfleet doctor` looks. Nothing has been charged.",
        id="new",
    ),
    pytest.param(
        render(seen_by_operator=False, reason="", waiting_since=ago(900)),
        ALONE,
        "VoiceJob greeting was submitted 15 minutes ago, and the operator has not looked at it yet. That should take "
        "seconds, so the operator may not be running: `renderfleet doctor` looks. Nothing has been charged.",
        id="never looked at",
    ),
    pytest.param(
        render(reason="QuotaExhausted", message="all 4 pods…", position=3, eta_seconds=130, **FOUR_MINUTES),
        Surroundings(quota=Quota(4, 4)),
        "VoiceJob greeting has waited for 4 minutes: its tenant uses 4 of the 4 runner pods it may have at a time. It is "
        "number 3 in the line for elevenlabs and should start in about 2 minutes. It starts when one of them ends; an "
        "administrator allows more by raising spec.concurrency of the RenderTenant. Nothing has been charged.",
        id="quota, seen from the cluster",
    ),
    pytest.param(
        render(reason="QuotaExhausted", **FOUR_MINUTES),
        Surroundings(quota=Quota(0, 0)),
        "VoiceJob greeting has waited for 4 minutes: its tenant may run no pod at all. An administrator allows it by "
        "raising spec.concurrency of the RenderTenant. Nothing has been charged.",
        id="quota of nothing",
    ),
    pytest.param(
        render(reason="QuotaExhausted", position=1, eta_seconds=0, **FOUR_MINUTES),
        ALONE,
        "VoiceJob greeting has waited for 4 minutes: its tenant already has as many runner pods as it may have at a time. "
        "It is next in the line for elevenlabs and should start at any moment. It starts when one of them ends; an "
        "administrator allows more by raising spec.concurrency of the RenderTenant. Nothing has been charged.",
        id="quota, next in line, seen over REST",
    ),
    pytest.param(
        render(reason="BehindOthers", message="elevenlabs: all 5 places are taken", position=12, **FOUR_MINUTES),
        ALONE,
        "VoiceJob greeting has waited for 4 minutes: others are before it in the line for elevenlabs (elevenlabs: all 5 "
        "places are taken). It is number 12 in the line for elevenlabs. It starts when those are through; a higher "
        "spec.priority (now 100) moves it forward. Nothing has been charged.",
        id="behind others",
    ),
    pytest.param(
        render(reason="CircuitOpen", message="elevenlabs keeps failing", **FOUR_MINUTES),
        Surroundings(
            provider=Provider("elevenlabs", circuit="Open", circuit_until=IN_40_SECONDS, last_error="503 overloaded")
        ),
        f"VoiceJob greeting has waited for 4 minutes: elevenlabs kept failing, so it is left alone for a while, until "
        f"{clock(IN_40_SECONDS)} (40 seconds from now); its last error was: 503 overloaded. After that a few renders are "
        "let through to try it, and the rest follow when those succeed. Nothing has been charged.",
        id="circuit open, seen from the cluster",
    ),
    pytest.param(
        render(reason="CircuitOpen", message="elevenlabs keeps failing: it is asked again in 12 s", **FOUR_MINUTES),
        ALONE,
        "VoiceJob greeting has waited for 4 minutes: elevenlabs kept failing, so it is left alone for a while (elevenlabs "
        "keeps failing: it is asked again in 12 s). After that a few renders are let through to try it, and the rest "
        "follow when those succeed. Nothing has been charged.",
        id="circuit open, seen over REST",
    ),
    pytest.param(
        render(reason="ProviderHeld", message="openai: 401 invalid key", script_provider="openai", **FOUR_MINUTES),
        Surroundings(provider=Provider("openai", held=True, held_reason="401 invalid key")),
        "VoiceJob greeting has waited for 4 minutes: the account of openai is refused (401 invalid key). An administrator "
        "must put the account right: a new key in its Secret is noticed within half a minute, new credit within a quarter "
        "of an hour; `renderfleet release openai` tries at once. Until then nothing is sent there, and waiting uses up no "
        "attempt. Nothing has been charged.",
        id="account refused",
    ),
    pytest.param(
        render(reason="ProviderHeld", message="elevenlabs: held by spec.hold", **FOUR_MINUTES),
        Surroundings(provider=Provider("elevenlabs", hold=True, held=True, held_reason="spec.hold")),
        "VoiceJob greeting has waited for 4 minutes: elevenlabs is held by hand. An administrator releases it by setting "
        "spec.hold of RenderProvider elevenlabs to false. Nothing has been charged.",
        id="held by hand",
    ),
    pytest.param(
        render(
            kind="VideoRender",
            name="welcome",
            provider="did",
            reason="DependencyPending",
            message="VoiceJob greeting is Queued",
            **FOUR_MINUTES,
        ),
        ALONE,
        "VideoRender welcome has waited for 4 minutes: what it is made of is not there yet (VoiceJob greeting is Queued). "
        "It starts by itself as soon as that has succeeded, and fails when that fails for good. Nothing has been charged.",
        id="waits for another render",
    ),
    pytest.param(
        render(reason="BudgetExhausted", **FOUR_MINUTES),
        Surroundings(tenant=Tenant("acme", "rf-acme", spent_micros=10_050_000, budget_micros=10_000_000)),
        "VoiceJob greeting has waited for 4 minutes: this month's budget of its tenant is used up (10.05 USD of 10.00 "
        "USD). It starts with the next month (UTC), or when an administrator raises spec.monthlyBudgetMicros of the "
        "RenderTenant. Nothing has been charged.",
        id="budget",
    ),
    pytest.param(
        render(
            phase=Phase.RETRYING,
            reason="BackingOff",
            message="attempt 1 of 3 failed; timeout: no answer in 300 s",
            retry_at=IN_40_SECONDS,
            charged="unknown",
            **FOUR_MINUTES,
        ),
        ALONE,
        "VoiceJob greeting has been on its way for 4 minutes and pauses between two attempts: the last one failed "
        f"(attempt 1 of 3 failed; timeout: no answer in 300 s). It is tried again by itself at {clock(IN_40_SECONDS)}. "
        "Whether the vendor charged for it is not known.",
        id="between two attempts",
    ),
    pytest.param(
        render(phase=Phase.HELD, reason="OutcomeUnknown", message="the runner was lost", charged="unknown"),
        Surroundings(program="kubectl renders"),
        "VoiceJob greeting is held: nobody can say whether its paid call was made (the runner was lost). A person must "
        "decide: look into the account of elevenlabs, then `kubectl renders retry voicejob/greeting` tries again and may "
        "pay a second time, or `kubectl renders cancel voicejob/greeting` gives it up. Whether the vendor charged for it "
        "is not known.",
        id="outcome unknown",
    ),
    pytest.param(
        render(reason="SomethingNew", message="the moon is in the wrong house.", **FOUR_MINUTES),
        ALONE,
        "VoiceJob greeting has waited for 4 minutes: the moon is in the wrong house. Nothing has been charged.",
        id="a reason that a newer operator made up",
    ),
]

AT_WORK = [
    pytest.param(
        render(phase=Phase.RUNNING, reason="Started", stage="synthesize", attempt=2, progress=40, started_at=ago(12)),
        "VoiceJob greeting waits for nothing: it has been at work for 12 seconds (stage synthesize, attempt 2, 40 %). "
        "Nothing has been charged.",
        id="running",
    ),
    pytest.param(
        render(
            kind="VideoRender",
            name="welcome",
            provider="did",
            phase=Phase.WAITING,
            reason="VendorWorking",
            vendor_job="tlk_9",
            progress=55,
            started_at=ago(70),
            charged="true",
            actual_micros=200_000,
        ),
        "VideoRender welcome is with did as tlk_9, which has been working on it for 70 seconds (55 %). No pod runs "
        "meanwhile; the operator looks every few seconds and goes on by itself. So far it has cost 0.20 USD.",
        id="with the vendor",
    ),
    pytest.param(
        render(
            kind="VideoRender",
            name="welcome",
            provider="did",
            phase=Phase.WAITING,
            reason="QuotaExhausted",
            charged="true",
            **FOUR_MINUTES,
        ),
        "VideoRender welcome has waited for 4 minutes: its tenant already has as many runner pods as it may have at a "
        "time. It starts when one of them ends; an administrator allows more by raising spec.concurrency of the "
        "RenderTenant. It was charged by the vendor.",
        id="the vendor is done and no pod is free to fetch the video",
    ),
    pytest.param(
        render(phase=Phase.RUNNING, reason="Cancelling", message="spec.cancel was set: its pod is ending"),
        "VoiceJob greeting is being stopped, but its pod is still ending: spec.cancel was set: its pod is ending. "
        "Nothing has been charged.",
        id="being stopped",
    ),
]

ENDS = [
    pytest.param(
        render(
            phase=Phase.SUCCEEDED,
            reason="MediaReady",
            started_at=ago(100),
            finished_at=ago(60),
            outputs=("speech",),
            charged="true",
            actual_micros=1500,
        ),
        "VoiceJob greeting waits for nothing: it succeeded 60 seconds ago after 40 seconds of work. It made speech. It "
        "has cost 0.0015 USD.",
        id="succeeded",
    ),
    pytest.param(
        render(
            phase=Phase.FAILED, reason="Moderated", message="moderation_blocked: not this text", finished_at=ago(60)
        ),
        "VoiceJob greeting failed 60 seconds ago (Moderated): moderation_blocked: not this text. The same input would "
        "fail again: submit a changed one. Nothing has been charged.",
        id="moderated",
    ),
    pytest.param(
        render(phase=Phase.FAILED, reason="DependencyFailed", message="VoiceJob x ended as Failed: Moderated"),
        "VoiceJob greeting failed (DependencyFailed): VoiceJob x ended as Failed: Moderated. Put right what it depends "
        "on first; after that, `renderfleet retry voicejob/greeting` tries again from the start. Nothing has been "
        "charged.",
        id="what it needs has failed",
    ),
    pytest.param(
        render(phase=Phase.DEAD_LETTERED, reason="AttemptsExhausted", message="attempt 3 of 3 failed; 503"),
        "VoiceJob greeting was given up, its attempts are used up: attempt 3 of 3 failed; 503. `renderfleet retry "
        "voicejob/greeting` tries again from the start. Nothing has been charged.",
        id="dead-lettered",
    ),
    pytest.param(
        render(phase=Phase.ABORTED, reason="CancelledByUser", message="spec.cancel was set"),
        "VoiceJob greeting was stopped before it ever started: spec.cancel was set. `renderfleet retry "
        "voicejob/greeting` tries again from the start. Nothing has been charged.",
        id="aborted",
    ),
    pytest.param(
        render(phase=Phase.FAILED, reason="Moderated", redrive_asked=True),
        "VoiceJob greeting was Failed and has been asked to try again; the operator has not taken that up yet. If that "
        "lasts longer than a minute, the operator may not be running: `renderfleet doctor` looks.",
        id="asked to try again",
    ),
    pytest.param(
        render(phase=Phase.RUNNING, deleting_since=ago(30)),
        "VoiceJob greeting has been on its way out for 30 seconds: first its runner must end, then its history is "
        "archived, then it goes.",
        id="being deleted",
    ),
    pytest.param(
        render(
            phase=Phase.SUCCEEDED,
            reason="MediaReady",
            not_archived="PostgreSQL has not answered since 10:00; the operator's log says why",
            deleting_since=ago(30),
        ),
        "VoiceJob greeting waits for nothing: it succeeded. Its object stays until its history is archived: PostgreSQL has "
        "not answered since 10:00; the operator's log says why.",
        id="the archive is away",
    ),
    pytest.param(
        render(phase=Phase.SUCCEEDED, reason="MediaReady", deleted=True),
        "VoiceJob greeting is no longer in the cluster; the last that was seen of it: Succeeded.",
        id="gone",
    ),
]


@pytest.mark.parametrize(("seen", "around", "said"), WAITS)
def test_waiting(seen: Render, around: Surroundings, said: str) -> None:
    assert why(seen, around, NOW) == said


@pytest.mark.parametrize(("seen", "said"), [*AT_WORK, *ENDS])
def test_working_or_over(seen: Render, said: str) -> None:
    assert why(seen, ALONE, NOW) == said


NO_WAITS = {
    Reason.STARTED, Reason.VENDOR_WORKING, Reason.FINALIZING, Reason.CANCELLING, Reason.MEDIA_READY, Reason.INPUT_REFUSED,
    Reason.MODERATED, Reason.DEPENDENCY_FAILED, Reason.FOREIGN_KEY, Reason.ATTEMPTS_EXHAUSTED,
    Reason.QUEUE_DEADLINE_EXCEEDED, Reason.RUN_DEADLINE_EXCEEDED, Reason.CANCELLED_BY_USER, Reason.NOT_ARCHIVED_YET,
    Reason.ARCHIVED, Reason.READY, Reason.RECONCILE_FAILED, Reason.NOT_FINISHED, Reason.NOT_STALLED,
}  # fmt: skip


@pytest.mark.parametrize("reason", sorted(set(Reason) - NO_WAITS))
def test_every_reason_to_wait_is_explained(reason: Reason) -> None:
    """A reason that is added to the CRDs is either no wait, or gets a sentence of its own."""
    assert reason in _WAITS

    said = why(render(reason=reason, message="so it is", **FOUR_MINUTES), ALONE, NOW)

    assert said.startswith("VoiceJob greeting has waited for 4 minutes: ")
    assert said.count("{") == 0


@pytest.mark.parametrize("phase", list(Phase))
def test_some_paragraph_comes_of_every_phase_with_every_reason(phase: Phase) -> None:
    for reason in Reason:
        said = why(render(phase=phase, reason=str(reason)), ALONE, NOW)

        assert said.startswith("VoiceJob greeting ")
        assert ".." not in said and "  " not in said and "\n" not in said, (reason, said)
