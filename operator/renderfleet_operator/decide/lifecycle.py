"""Decide what to do next for one render, of any kind. Pure: no I/O, no clock, no chance.

asked first, in this order
  being deleted, not at an end      wind down to Cancelled or Aborted
  at an end, or Held, and redriven  Queued, with a new run
  at an end                         archive (late: say so) -> finalizer off -> delete after its time to live
  cancel, or a deadline has passed  wind down to Cancelled, Aborted or Failed

then by phase
  none, Queued, Retrying            a pause, or what else stops it? -> wait; nothing -> ask admission; admitted -> fence,
                                    then Job
  Running, Finalizing               by the runner: absent -> create its Job; working -> progress; ended -> settle
  Waiting                           by the last look at the vendor's job: done -> Finalizing; failed -> as a failed attempt
  Held                              rest until somebody acts

An end is absorbing: nothing below `_at_rest` creates anything. Only a redrive leads out of it, with a new run.
Of one decision at most one action writes the status; starting an attempt writes it first, all else last.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, assert_never

from renderfleet_crds import meta
from renderfleet_crds.conditions import ConditionType, Reason
from renderfleet_crds.contract import Charged, ErrorCategory, Stage
from renderfleet_crds.kinds import BY_KIND
from renderfleet_crds.phases import Phase
from renderfleet_operator.children import names
from renderfleet_operator.times import rfc3339, seconds_of

from . import avatar, video, voice
from .actions import (
    Action,
    Answer,
    AskAdmission,
    ChangeFinalizer,
    CreateJob,
    DeleteRender,
    DiscardVendorJob,
    LeaveAdmission,
    LookAgain,
    News,
    Note,
    PatchVoiceJob,
    StartAttempt,
    StopJob,
    TellProvider,
    WatchVendorJob,
    WriteStatus,
)
from .observed import Observed, Runner, Wait
from .report import Word, archive_report, report
from .retries import LOST_RUNNERS, Failure, close_attempt, failure_of, news_of, verdict
from .rules import Blocked, Hopeless, Ready, Rules
from .view import Body, Render, kept

RULES: Mapping[str, Rules] = {"AvatarRender": avatar.RULES, "VoiceJob": voice.RULES, "VideoRender": video.RULES}

TAKEN_BACK = frozenset({Reason.QUOTA_EXHAUSTED, Reason.RECONCILE_FAILED})
"""Reasons, in a phase at work, that say that the open attempt's Job is being taken back."""
POD_REFUSED = "PodRefused"
"""Code of a Job whose pod is refused for another reason than the quota."""

SHORT_PAUSE_SECONDS = 5.0
"""A place in the queue is not worth a write while a pause before another try has less than this left."""

_REDRIVABLE = frozenset({Phase.FAILED, Phase.DEAD_LETTERED, Phase.CANCELLED, Phase.ABORTED, Phase.HELD})
_SUSPENDED = Wait(Reason.SUSPENDED, "spec.suspend is true")
_ACCEPTED: Mapping[ConditionType, Word] = {ConditionType.PROVIDER_ACCEPTED: "True"}
_ANSWERED: Mapping[Answer, str] = {
    "gone": "has dropped its job",
    "goes on": "will not stop its job, and may charge it",
    "untold": "could not be told, and may finish and charge its job",
}
_STORED: Mapping[ConditionType, Word] = {ConditionType.MEDIA_STORED: "True"}


@dataclass(frozen=True, slots=True)
class _Ending:
    """Why a live render is to end, and as what."""

    phase: Phase
    reason: Reason
    message: str


def decide(render: Render, seen: Observed) -> list[Action]:
    """What to do now; an empty list means the render is at rest."""
    phase = render.phase
    if phase is not None and phase.is_final and render.is_deleting:
        return _at_rest(render, seen)
    if render.wants_new_run and phase in _REDRIVABLE and not render.is_deleting:
        return _redrive(render, seen)
    if phase is not None and phase.is_final:
        return _at_rest(render, seen)
    if ending := _ending(render, seen):
        return _wind_down(render, seen, ending)
    if not render.has_finalizer:
        return [ChangeFinalizer("present")]
    match phase:
        case None | Phase.QUEUED | Phase.RETRYING:
            return _waiting_to_start(render, seen)
        case Phase.RUNNING | Phase.FINALIZING:
            return _running(render, seen)
        case Phase.WAITING:
            return _vendor_working(render, seen)
        case Phase.HELD:
            return _held(render, seen)
        case Phase.SUCCEEDED | Phase.FAILED | Phase.DEAD_LETTERED | Phase.CANCELLED | Phase.ABORTED:
            return _at_rest(render, seen)
        case unknown:
            assert_never(unknown)


# Ends


def _at_rest(render: Render, seen: Observed) -> list[Action]:
    """Nothing is started any more: keep the history, then the object's time runs out."""
    if edited := _taken_up(render, seen):
        return edited
    if render.has_finalizer:
        if seen.archived:
            told = render.condition(ConditionType.ARCHIVED)
            if told is not None and told["status"] == "False":
                return [WriteStatus(archive_report(render, seen.now, archived=True))]
            return [ChangeFinalizer("absent")]
        return _kept_for_archive(render, seen) or [ChangeFinalizer("absent", overdue=True)]
    if render.is_deleting:
        return []
    left = (render.finished_at or seen.now) + _time_to_live(render, seen) - seen.now
    return [LookAgain(left)] if left > 0 else [DeleteRender()]


def _kept_for_archive(render: Render, seen: Observed) -> list[Action]:
    """Wait until the end is archived, and say so when that takes long; nothing when it has taken too long."""
    left = (render.finished_at or seen.now) + seen.policy.archive_deadline_seconds - seen.now
    if left <= 0:
        return []
    if render.condition(ConditionType.ARCHIVED) is None and seen.archive_late is not None and seen.may_report:
        status = archive_report(render, seen.now, archived=False, message=seen.archive_late)
        return [WriteStatus(status), LookAgain(left)]
    return [LookAgain(left)]


def _taken_up(render: Render, seen: Observed) -> list[Action]:
    """An edit that moves nothing is seen all the same: by kstatus' rules it is in progress until the status says so."""
    status = render.status
    if status.get("observedGeneration") == render.generation or render.is_deleting or render.phase is None:
        return []
    reason = Reason(status.get("reason") or Reason.ACCEPTED)
    return [WriteStatus(report(render, seen.now, render.phase, reason, _message(render)))]


def _time_to_live(render: Render, seen: Observed) -> float:
    own = render.spec.get("ttlSecondsAfterFinished")
    if own is not None:
        return float(own)
    match render.phase:
        case Phase.SUCCEEDED:
            return seen.policy.ttl_succeeded_seconds
        case Phase.FAILED | Phase.DEAD_LETTERED:
            return seen.policy.ttl_failed_seconds
        case _:
            return seen.policy.ttl_cancelled_seconds


def _redrive(render: Render, seen: Observed) -> list[Action]:
    """Begin a new run; once the end of the last one is archived, since the status forgets what it cost and how it went."""
    if not render.has_finalizer:
        return [ChangeFinalizer("present")]
    if render.is_finished and not seen.archived and (kept_back := _kept_for_archive(render, seen)):
        return kept_back
    run = int(render.spec.get("redrive") or 0)
    return [
        WriteStatus(
            report(
                render,
                seen.now,
                Phase.QUEUED,
                Reason.REDRIVEN,
                f"run {run}: tried again from the start",
                conditions={
                    **{
                        kind: "False"
                        for kind in (ConditionType.PROVIDER_ACCEPTED, ConditionType.MEDIA_STORED)
                        if render.condition(kind) is not None
                    },
                    ConditionType.ARCHIVED: None,
                },
                run=run,
                stage=BY_KIND[render.kind].stages[0].value,
                attempt=0,
                attempts=None,
                progress=0,
                queuedAt=rfc3339(seen.now),
                startedAt=None,
                finishedAt=None,
                retryAt=None,
                outputs=None,
                provider=None,
                queue=None,
                # What a run cost is counted at its end. A hold is none: what was paid by then counts with what comes.
                cost=None if render.is_finished else render.status.get("cost"),
            ),
            Note("Redriven", f"run {run} begins"),
        )
    ]


def _ending(render: Render, seen: Observed) -> _Ending | None:
    """Why it must end now, if it must."""
    never_started = render.started_at is None
    unwanted = Phase.ABORTED if never_started else Phase.CANCELLED
    if render.is_deleting:
        return _Ending(unwanted, Reason.CANCELLED_BY_USER, "the object was deleted")
    if render.spec.get("cancel"):
        return _Ending(unwanted, Reason.CANCELLED_BY_USER, "spec.cancel was set")
    if render.phase is Phase.HELD:
        return None
    patience = render.spec.get("queueDeadlineSeconds")
    if never_started and patience is not None and seen.now >= render.queued_at + patience:
        return _Ending(Phase.FAILED, Reason.QUEUE_DEADLINE_EXCEEDED, f"it had not started after {patience} s")
    if render.started_at is not None:
        limit = int(render.spec.get("runDeadlineSeconds", 3600))
        if seen.now >= render.started_at + limit:
            return _Ending(Phase.FAILED, Reason.RUN_DEADLINE_EXCEEDED, f"it had not ended {limit} s after its start")
    return None


def _wind_down(render: Render, seen: Observed, ending: _Ending) -> list[Action]:
    """End it, but only after nothing of it can pay any more, and not without what was paid already."""
    if not render.has_finalizer and render.is_deleting:
        return []  # nobody holds it: it is as good as gone
    runner = seen.runner
    stops_child: list[Action] = _child_stops(render, seen)
    match runner.state:
        case Runner.STARTING | Runner.WORKING:
            return [*stops_child, StopJob(ending.message)]
        case Runner.STOPPING:
            if render.status.get("reason") == Reason.CANCELLING:
                return [LookAgain(30)]
            phase = render.phase or Phase.RUNNING
            return [
                WriteStatus(report(render, seen.now, phase, Reason.CANCELLING, f"{ending.message}: its pod is ending"))
            ]
        case Runner.ENDED if runner.result and runner.result.get("outcome") == "done":
            if render.stage is not Stage.START:
                return _settle(render, seen, runner.result)
            return _end_unfinished(render, seen, ending, str(runner.result.get("vendorJobId") or ""))
        case Runner.ADOPTED:
            return _end_unfinished(render, seen, ending, runner.vendor_job_id or "")
        case _:
            job_id = render.vendor_job_id if render.phase is Phase.WAITING else None
            return [*stops_child, *_end_unfinished(render, seen, ending, job_id or "")]


def _child_stops(render: Render, seen: Observed) -> list[Action]:
    """An owned VoiceJob that still works has nobody to work for."""
    if render.kind != "VideoRender" or render.spec.get("script") is None:
        return []
    child = seen.dependencies.get(video.SPEECH)
    if child is None or child.body is None:
        return []
    other = Render(dict(child.body))
    if not video.is_child(render, other) or other.is_finished or other.spec.get("cancel"):
        return []
    return [PatchVoiceJob(child.name, {"cancel": True})]


def _end_unfinished(render: Render, seen: Observed, ending: _Ending, vendor_job_id: str) -> list[Action]:
    runner = seen.runner
    failure: Failure | None = None
    charged, cost = Charged.NO, None
    match runner.state:
        case Runner.ENDED if runner.result:
            charged, cost = Charged(runner.result.get("charged") or Charged.NO), runner.cost_micros
            if runner.result.get("outcome") != "done":
                failure = failure_of(runner.result, cost)
        case Runner.ADOPTED:
            charged, cost = Charged.YES, runner.cost_micros
        case Runner.UNKNOWN:
            failure = Failure(ErrorCategory.UNKNOWN_OUTCOME, "ended", ending.message, runner.charged)
            charged = runner.charged
        case _:
            failure = Failure(ErrorCategory.DISRUPTED, "ended", ending.message) if render.open_attempt else None
    first: list[Action] = [LeaveAdmission()]
    message = ending.message
    if vendor_job_id:
        answer = seen.discarded.get(vendor_job_id)
        if answer is None:
            return [*first, DiscardVendorJob(vendor_job_id), LookAgain(0.05)]
        message += f"; the vendor {_ANSWERED[answer]}"
        cost = _bill(render, seen) if cost is None else cost
    return [
        *first,
        WriteStatus(
            report(
                render,
                seen.now,
                ending.phase,
                ending.reason,
                message,
                attempts=_ended(render, seen, failure, charged),
                cost=_cost(render, cost, settled=True),
                finishedAt=rfc3339(seen.now),
                retryAt=None,
                queue=None,
            ),
            Note(ending.reason.value, message, warning=ending.phase is Phase.FAILED),
        ),
    ]


def _bill(render: Render, seen: Observed) -> int:
    """What a vendor will charge for a job that nobody waits for any more, in micro-units: as estimated, until it says so."""
    look = seen.look
    if look is not None and look.state == "failed":
        return 0
    if look is not None and look.cost_micros is not None:
        return look.cost_micros
    return render.estimated_micros


def _fail(render: Render, seen: Observed, hopeless: Hopeless) -> list[Action]:
    return [
        *_child_stops(render, seen),
        LeaveAdmission(),
        WriteStatus(
            report(
                render,
                seen.now,
                Phase.FAILED,
                hopeless.reason,
                hopeless.message,
                attempts=_ended(render, seen, None, Charged.NO),
                cost=_cost(render, None, settled=True),
                finishedAt=rfc3339(seen.now),
                retryAt=None,
                queue=None,
            ),
            Note(hopeless.reason.value, hopeless.message, warning=True),
        ),
    ]


# Waiting to start


def _waiting_to_start(render: Render, seen: Observed) -> list[Action]:
    stage = render.stage
    if retry_at := render.status.get("retryAt"):
        left = seconds_of(retry_at) - seen.now
        if left > 0:
            return _backing_off(render, seen, stage, left)
    ready: Ready | Blocked | Hopeless = Ready()
    if stage is not Stage.FINALIZE:
        ready = RULES[render.kind].ready(render, seen)
    match ready:
        case Hopeless():
            return _fail(render, seen, ready)
        case Blocked():
            wait = _SUSPENDED if render.spec.get("suspend") else ready.wait
            return [*ready.first, LeaveAdmission(), *_wait(render, seen, wait)]
        case Ready():
            pass
    if stopped := _own_stop(render, seen):
        return [LeaveAdmission(), *_wait(render, seen, stopped)]
    return _start_or_ask(render, seen, stage, ready.fields)


def _backing_off(render: Render, seen: Observed, stage: Stage, left: float) -> list[Action]:
    """Wait out the pause before another try, and tell where it will stand then, unless something of its own stops it."""
    again = LookAgain(min(left, _until_deadline(render, seen)))
    if _own_stop(render, seen):
        return [LeaveAdmission(), again]
    ask = replace(_ask(render, seen, stage), not_before=seen.now + left)
    if seen.wait is None or left < SHORT_PAUSE_SECONDS:
        return [ask, again]
    wait = replace(seen.wait, reason=pause_reason(render), message=_message(render))
    return [ask, *_wait(render, seen, wait), again]


def pause_reason(render: Render) -> Reason:
    """Why a render pauses before another try: an attempt failed, or its Job was refused."""
    return Reason(render.status.get("reason") or Reason.BACKING_OFF)


def _own_stop(render: Render, seen: Observed) -> Wait | None:
    """What keeps it out of the provider's queue altogether."""
    if render.spec.get("suspend"):
        return _SUSPENDED
    if not seen.is_tenant:
        return Wait(Reason.NAMESPACE_NOT_A_TENANT, f"no RenderTenant has the namespace {render.namespace}")
    if seen.missing_provider is not None:
        return Wait(Reason.PROVIDER_UNKNOWN, f"there is no RenderProvider {seen.missing_provider}")
    return None


def _start_or_ask(render: Render, seen: Observed, stage: Stage, fields: Mapping[str, Any]) -> list[Action]:
    if seen.admitted:
        return [_start(render, seen, stage, fields)]
    ask = _ask(render, seen, stage)
    if seen.wait is None:
        has_deadline = render.started_at is not None or render.spec.get("queueDeadlineSeconds") is not None
        return [ask, LookAgain(_until_deadline(render, seen))] if has_deadline else [ask]
    return [ask, *_wait(render, seen, seen.wait)]


def _ask(render: Render, seen: Observed, stage: Stage) -> AskAdmission:
    needs_provider = stage is not Stage.FINALIZE
    return AskAdmission(
        priority=render.priority if needs_provider else 1001,  # what is paid already goes first
        since=render.queued_at,
        cost_micros=_to_reserve(render, seen) if needs_provider else None,
        providers=render.providers if needs_provider else (),
    )


def _to_reserve(render: Render, seen: Observed) -> int | None:
    """What its start takes of the tenant's budget; None when all of it is set aside already."""
    if render.started_at is None:
        return seen.estimate_micros or 0
    return render.unreserved_micros or None


def _start(render: Render, seen: Observed, stage: Stage, fields: Mapping[str, Any]) -> StartAttempt:
    number = render.next_number(stage)
    now = rfc3339(seen.now)
    opened: Body = {
        "run": render.run,
        "number": number,
        "stage": stage.value,
        "jobName": names.job_name(
            render.kind, render.name, render.uid, stage=stage.value, run=render.run, attempt=number
        ),
        "startedAt": now,
    }
    cost = dict(fields.get("cost") or render.status.get("cost") or {})
    if seen.estimate_micros is not None and "estimatedMicros" not in cost:
        cost["estimatedMicros"] = seen.estimate_micros
        cost["currency"] = (seen.provider or {}).get("currency", "USD")
    status = report(
        render,
        seen.now,
        Phase.FINALIZING if stage is Stage.FINALIZE else Phase.RUNNING,
        Reason.FINALIZING if stage is Stage.FINALIZE else Reason.STARTED,
        f"{stage}: attempt {number}",
        **{
            **fields,
            "stage": stage.value,
            "attempt": number,
            "attempts": kept([*render.attempts, opened]),
            "progress": RULES[render.kind].share[stage][0],
            "queuedAt": render.status.get("queuedAt") or rfc3339(render.queued_at),
            "startedAt": render.status.get("startedAt") or now,
            "retryAt": None,
            "queue": None,
            "cost": cost or None,
            "traceId": render.status.get("traceId") or _trace_id(render),
        },
    )
    return StartAttempt(status, stage, number)


def _trace_id(render: Render) -> str | None:
    """Second field of a W3C traceparent."""
    parts = str((render.metadata.get("annotations") or {}).get(meta.TRACE_ANNOTATION, "")).split("-")
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else None


def _wait(render: Render, seen: Observed, wait: Wait) -> list[Action]:
    """Tell why it waits: not at once, since most waits are over sooner, and not often, since each telling is a write."""
    again = LookAgain(_until_deadline(render, seen))
    status = render.status
    queue = {
        "since": rfc3339(render.queued_at),
        "reason": wait.reason.value,
        **({"position": wait.position} if wait.position is not None else {}),
        **({"etaSeconds": wait.eta_seconds} if wait.eta_seconds is not None else {}),
    }
    if is_told(render, wait):
        return [again]
    waited = seen.now - render.queued_at
    if waited < seen.policy.report_wait_after_seconds and not status.get("phase"):
        return [LookAgain(seen.policy.report_wait_after_seconds - waited)]
    if not seen.may_report:
        return [LookAgain(min(seen.policy.report_wait_every_seconds, again.after_seconds))]
    phase = render.phase if render.phase in (Phase.RETRYING, Phase.WAITING) else Phase.QUEUED
    assert phase is not None
    return [
        WriteStatus(
            report(
                render,
                seen.now,
                phase,
                wait.reason,
                wait.message,
                queue=queue,
                queuedAt=status.get("queuedAt") or rfc3339(render.queued_at),
                stage=render.stage.value,
                attempt=render.attempt,
                progress=status.get("progress") or 0,
            )
        ),
        again,
    ]


def is_told(render: Render, wait: Wait) -> bool:
    """Its status says this already, or nearly."""
    status = render.status
    told = status.get("queue") or {}
    same_reason = status.get("reason") == wait.reason and status.get("observedGeneration") == render.generation
    return bool(
        same_reason and told.get("position") == wait.position and _close(told.get("etaSeconds"), wait.eta_seconds)
    )


def _close(told: int | None, now: int | None) -> bool:
    """An expected time that moved by less than a fifth is not news."""
    if told is None or now is None:
        return told is now
    return abs(told - now) <= max(5, 0.2 * max(told, now))


def _until_deadline(render: Render, seen: Observed) -> float:
    """Seconds until a deadline asks for a look, and at most ten minutes."""
    left = 600.0
    if render.started_at is not None:
        left = min(left, render.started_at + int(render.spec.get("runDeadlineSeconds", 3600)) - seen.now)
    elif render.spec.get("queueDeadlineSeconds") is not None:
        left = min(left, render.queued_at + int(render.spec["queueDeadlineSeconds"]) - seen.now)
    return max(left, 0.05)


# At work


def _running(render: Render, seen: Observed) -> list[Action]:
    runner = seen.runner
    stage = render.stage
    match runner.state:
        case Runner.NONE:
            # The fence was taken back, or somebody edited the status: stand in the queue again.
            return [_requeue(render, seen, Reason.ACCEPTED, "no attempt is open")]
        case Runner.ABSENT:
            return [CreateJob(stage, render.attempt), LookAgain(30)]
        case Runner.STARTING:
            return _without_pod(render, seen)
        case Runner.WORKING:
            return _progress(render, seen)
        case Runner.STOPPING:
            return [LookAgain(30)]
        case Runner.ENDED:
            assert runner.result is not None
            if runner.result.get("outcome") == "done":
                return _settle(render, seen, runner.result)
            failure = failure_of(runner.result, runner.cost_micros)
            if failure.category is ErrorCategory.UNKNOWN_OUTCOME and runner.vendor_job_id and stage is Stage.START:
                return _accepted(render, seen, runner.vendor_job_id)
            return _failed(render, seen, stage, failure)
        case Runner.ADOPTED if stage is Stage.START:
            return _accepted(render, seen, runner.vendor_job_id or "")
        case Runner.LOST:
            category = LOST_RUNNERS.get(runner.code, ErrorCategory.INTERNAL)
            return _failed(render, seen, stage, Failure(category, runner.code or "RunnerLost", runner.detail))
        case Runner.UNKNOWN | Runner.ADOPTED:
            failure = Failure(
                ErrorCategory.UNKNOWN_OUTCOME,
                runner.code or "OutcomeUnknown",
                runner.detail or "the paid call may have happened",
                runner.charged,
            )
            return _failed(render, seen, stage, failure)
        case Runner.FOREIGN:
            message = f"{runner.detail} is not ours; delete it, and this goes on by itself"
            return [
                LeaveAdmission(),
                WriteStatus(
                    report(render, seen.now, Phase.HELD, Reason.NAME_CONFLICT, message),
                    Note(Reason.NAME_CONFLICT.value, message, warning=True),
                ),
                LookAgain(30),
            ]
        case unknown:
            assert_never(unknown)


def _without_pod(render: Render, seen: Observed) -> list[Action]:
    """Its Job gets no pod: say so, then take the Job back, so that the render waits in our queue and not in the Job's.

    The reason is written first: it tells whoever finds the Job gone that the attempt is over, not yet to come.
    """
    runner = seen.runner
    left = runner.since + seen.policy.pod_patience_seconds - seen.now
    if left > 0:
        return [LookAgain(left + 0.1)]
    if render.status.get("reason") in TAKEN_BACK:
        return [StopJob("no pod could be made for it"), LookAgain(5)]
    reason = Reason.RECONCILE_FAILED if runner.code == POD_REFUSED else Reason.QUOTA_EXHAUSTED
    message = runner.detail or "the namespace's quota has no room for its pod"
    return [WriteStatus(report(render, seen.now, render.phase or Phase.RUNNING, reason, message))]


def _requeue(
    render: Render, seen: Observed, reason: Reason, message: str, pause_seconds: float | None = None
) -> WriteStatus:
    """Back into the queue, the open attempt forgotten: its Job never existed, so its number is used again."""
    attempts = [one for one in render.attempts if one.get("endedAt")]
    phase = Phase.RETRYING if render.stage is Stage.FINALIZE else Phase.QUEUED
    number = max((int(one["number"]) for one in attempts if one["stage"] == render.stage), default=0)
    fields: dict[str, Any] = {"attempts": attempts or None, "attempt": number, "progress": 0}
    if pause_seconds is not None:
        fields["retryAt"] = rfc3339(seen.now + pause_seconds)
    if not attempts:
        fields["startedAt"] = None  # nothing of it ever ran
    return WriteStatus(report(render, seen.now, phase, reason, message, **fields))


def taken_back(render: Render, now: float, reason: Reason, message: str, pause_seconds: float | None = None) -> Body:
    """The status after a Job was refused: as if the attempt had never been fenced. With a pause, it asks no sooner."""
    return _requeue(render, Observed(now=now), reason, message, pause_seconds).status


def _progress(render: Render, seen: Observed) -> list[Action]:
    """Say how far it may be, from how long the stage takes as a rule; never more than its share, never backwards."""
    opened = render.open_attempt or {}
    begun = seconds_of(opened["startedAt"]) if opened.get("startedAt") else seen.now
    low, high = RULES[render.kind].share[render.stage]
    elapsed = max(0.0, seen.now - begun)
    guess = low + int((high - low) * min(0.95, elapsed / max(1.0, 1.3 * seen.expected_stage_seconds)))
    told = int(render.status.get("progress") or 0)
    every = seen.policy.progress_every_seconds
    again = LookAgain(min(every, _until_deadline(render, seen)))
    is_news = elapsed >= every and guess >= told + 5 and seen.may_report
    if not is_news and render.status.get("reason") not in TAKEN_BACK:
        return [again]
    return [
        WriteStatus(
            report(
                render,
                seen.now,
                render.phase or Phase.RUNNING,
                Reason.STARTED,
                f"{render.stage}: attempt {render.attempt}",
                progress=max(guess, told),
            )
        ),
        again,
    ]


def _message(render: Render) -> str:
    return str(render.status.get("message") or "")


def _settle(render: Render, seen: Observed, result: Mapping[str, Any]) -> list[Action]:
    """A stage is done: go on to the next one, or succeed."""
    cost = seen.runner.cost_micros
    tell = _tell(render, News.ANSWERED, "", learned=result.get("learned"))
    if result.get("script"):
        tell += _tell(render, News.ANSWERED, "", provider=render.providers[-1])
    if render.stage is Stage.START:
        return [*tell, *_accepted(render, seen, str(result.get("vendorJobId") or ""), result)]
    vendor = {**(render.status.get("provider") or {}), "name": render.provider}
    if result.get("vendorJobId") and not vendor.get("jobId"):
        vendor["jobId"] = result["vendorJobId"]
    made = RULES[render.kind].done(render, result)
    count = len(made.get("outputs") or ())
    story = render.stage is Stage.FINALIZE or len(render.attempts) > 1
    message = "1 file is stored" if count == 1 else f"{count} files are stored"
    return [
        *(tell if render.stage is not Stage.FINALIZE else []),
        WriteStatus(
            report(
                render,
                seen.now,
                Phase.SUCCEEDED,
                Reason.MEDIA_READY,
                message,
                conditions=dict(_STORED),
                **{
                    **made,
                    "progress": 100,
                    "attempts": _ended(render, seen, None, Charged(result.get("charged") or Charged.NO)),
                    "provider": vendor,
                    "cost": _cost(render, cost, settled=True),
                    "finishedAt": rfc3339(seen.now),
                    "retryAt": None,
                    "queue": None,
                },
            ),
            Note(Reason.MEDIA_READY.value, message) if story else None,
        ),
    ]


def _accepted(render: Render, seen: Observed, job_id: str, result: Mapping[str, Any] | None = None) -> list[Action]:
    """The vendor has the job: no pod lives until it is done. Its cost is counted then, since a failed job has none."""
    if not job_id:
        failure = Failure(ErrorCategory.INTERNAL, "NoVendorJob", "the runner named no vendor job", Charged.UNKNOWN)
        return _failed(render, seen, Stage.START, failure)
    now = rfc3339(seen.now)
    vendor = {"name": render.provider, "jobId": job_id, "acceptedAt": now}
    told = {"status": (result or {}).get("vendorStatus"), "credits": ((result or {}).get("usage") or {}).get("credits")}
    vendor |= {name: value for name, value in told.items() if value is not None}
    return [
        WriteStatus(
            report(
                render,
                seen.now,
                Phase.WAITING,
                Reason.VENDOR_WORKING,
                f"{render.provider} works on {job_id}",
                conditions=dict(_ACCEPTED),
                stage=Stage.POLL.value,
                progress=RULES[render.kind].share[Stage.POLL][0],
                attempts=_ended(render, seen, None, Charged.YES),
                provider=vendor,
                retryAt=None,
                queue=None,
            )
        ),
        WatchVendorJob(job_id),
    ]


def _vendor_working(render: Render, seen: Observed) -> list[Action]:
    job_id = render.vendor_job_id
    if job_id is None:
        return [_requeue(render, seen, Reason.ACCEPTED, "no vendor job is known")]
    look = seen.look
    if look is None:
        return [WatchVendorJob(job_id), LookAgain(_until_deadline(render, seen))]
    match look.state:
        case "done":
            # The vendor's bill is known now. This phase is left for good with the fence, so it is counted once.
            fields = {
                "provider": _vendor(render, look.vendor_status),
                "cost": _cost(render, look.cost_micros, settled=False),
            }
            return _start_or_ask(render, seen, Stage.FINALIZE, fields)
        case "failed":
            failure = Failure(
                ErrorCategory(look.category or ErrorCategory.TRANSIENT),
                look.code or "VendorJobFailed",
                look.message or "the vendor's job failed",
                look.charged,
                retry_limit=look.retry_limit,
            )
            # It may have been shown as done before: what was asked for to fetch it starts no paid attempt.
            return [LeaveAdmission(), *_failed(render, seen, Stage.START, failure)]
        case _:
            return [WatchVendorJob(job_id), *_vendor_progress(render, seen)]


def _vendor_progress(render: Render, seen: Observed) -> list[Action]:
    look = seen.look
    assert look is not None
    low, high = RULES[render.kind].share[Stage.POLL]
    accepted = (render.status.get("provider") or {}).get("acceptedAt")
    elapsed = max(0.0, seen.now - seconds_of(accepted)) if accepted else 0.0
    share = look.progress / 100 if look.progress is not None else elapsed / max(1.0, 1.3 * seen.expected_stage_seconds)
    guess = low + int((high - low) * min(0.95, share))
    told = int(render.status.get("progress") or 0)
    again = LookAgain(_until_deadline(render, seen))
    news = look.vendor_status != (render.status.get("provider") or {}).get("status")
    if not news and (guess < told + 5 or not seen.may_report):
        return [again]
    return [
        WriteStatus(
            report(
                render,
                seen.now,
                Phase.WAITING,
                Reason.VENDOR_WORKING,
                _message(render),
                progress=max(told, guess),
                provider=_vendor(render, look.vendor_status),
            )
        ),
        again,
    ]


def _vendor(render: Render, status: str) -> Body:
    vendor = {**(render.status.get("provider") or {}), "name": render.provider}
    if status:
        vendor["status"] = status[:64]
    return vendor


def _failed(render: Render, seen: Observed, stage: Stage, failure: Failure) -> list[Action]:
    """An attempt of `stage` failed: who must act decides where the render goes."""
    then = verdict(render, stage, failure, seen.provider, seen.chance)
    tell = _tell(render, news_of(failure.category), f"{failure.code}: {failure.message}", failure)
    if stage is Stage.FINALIZE:
        tell = []  # fetching a file says nothing about the vendor's account
    settled = then.phase.is_final
    fields: dict[str, Any] = {
        "attempts": _ended(render, seen, failure, failure.charged, stage),
        "cost": _cost(render, failure.cost_micros, settled=settled),
        "retryAt": rfc3339(seen.now + then.retry_in_seconds) if then.retry_in_seconds is not None else None,
        "finishedAt": rfc3339(seen.now) if settled else None,
        "queue": None,
        "stage": stage.value,
        "attempt": max((int(one["number"]) for one in render.attempts if one["stage"] == stage), default=0),
    }
    if stage is Stage.START:
        fields["provider"] = None
    if seen.runner.script:
        fields["script"] = seen.runner.script
    write = WriteStatus(
        report(render, seen.now, then.phase, then.reason, then.message, **fields),
        Note(then.reason.value, then.message, warning=True),
    )
    again: list[Action] = [LookAgain(then.retry_in_seconds)] if then.retry_in_seconds is not None else []
    return [*tell, write, *again]


def _held(render: Render, seen: Observed) -> list[Action]:
    if render.status.get("reason") == Reason.NAME_CONFLICT:
        if seen.runner.state is Runner.FOREIGN:
            return [LookAgain(30)]
        return [_requeue(render, seen, Reason.ACCEPTED, "the name is free again")]
    return _taken_up(render, seen)


# Parts of a status


def _tell(
    render: Render,
    news: News | None,
    message: str,
    failure: Failure | None = None,
    *,
    learned: Mapping[str, int] | None = None,
    provider: str | None = None,
) -> list[Action]:
    if news is None:
        return []
    if failure is not None and failure.provider in render.providers:
        provider = failure.provider
    stage = Stage.START if render.stage is Stage.POLL else render.stage
    token = f"{render.uid}/{render.run}/{stage}/{render.attempt}"
    return [
        TellProvider(
            provider=provider or render.provider,
            token=token,
            news=news,
            message=message,
            retry_after_seconds=failure.retry_after_seconds if failure else None,
            learned=learned or (failure.learned if failure else None),
        )
    ]


def _ended(
    render: Render, seen: Observed, failure: Failure | None, charged: Charged, stage: Stage | None = None
) -> list[Body] | None:
    """The attempts with the open one closed; a video's start that the vendor gave up later is marked failed then."""
    now = rfc3339(seen.now)
    if render.open_attempt is not None:
        return close_attempt(render, now, failure, charged)
    attempts = render.attempts
    if failure and stage is Stage.START and attempts and attempts[-1]["stage"] == Stage.START:
        reopened = Render({**render.body, "status": {**render.status, "attempts": _opened(attempts)}})
        return close_attempt(reopened, now, failure, charged)
    return attempts or None


def _opened(attempts: list[Body]) -> list[Body]:
    return [*attempts[:-1], {key: value for key, value in attempts[-1].items() if key != "endedAt"}]


def _cost(render: Render, micros: int | None, *, settled: bool) -> Body | None:
    """What it has cost so far. `settled` says that no more will come in this run."""
    cost = dict(render.status.get("cost") or {})
    if micros:
        cost["actualMicros"] = int(cost.get("actualMicros") or 0) + micros
    elif settled and cost:
        cost.setdefault("actualMicros", 0)
    return cost or None


def told_to_wait(render: Render, seen: Observed, wait: Wait) -> list[Action]:
    """For a wait that only turned up in doing: tell it as any other."""
    return _wait(render, seen, wait)
