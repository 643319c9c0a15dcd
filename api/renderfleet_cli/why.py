"""Say in one paragraph why a render stands where it stands. Pure.

what it says, in this order             where it comes from
what it waits for, and since when       phase and reason; the operator's message where that knows more
its place and its expected start        status.queue
what would free it, and who must act    the table below
what it has cost so far                 attempts and cost
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from renderfleet_crds.conditions import Reason
from renderfleet_crds.phases import Phase

from .views import Render, Surroundings
from .words import clock, money, plural, seconds_between, spell

LOOKS_STUCK_SECONDS = 60
"""An operator that runs looks at a new render within seconds."""


def why(render: Render, around: Surroundings, now: datetime) -> str:
    """One paragraph of plain text."""
    if render.deleted:
        return f"{_subject(render)} is no longer in the cluster; the last that was seen of it: {render.phase}."
    if render.deleting_since and not render.phase.is_final:
        return _deleting(render, now)
    if render.redrive_asked and (render.phase.is_final or render.phase is Phase.HELD):
        return (
            f"{_subject(render)} was {render.phase} and has been asked to try again; the operator has not taken that up "
            f"yet. {_if_it_lasts(around, 0)}"
        )
    match render.phase:
        case Phase.QUEUED | Phase.RETRYING:
            said = [_waits(render, around, now), _place(render), _freed(render, around, now)]
        case Phase.RUNNING | Phase.FINALIZING:
            said = [_at_work(render, now)]
        case Phase.WAITING:
            said = [_vendor_works(render, now)]
            if render.reason != Reason.VENDOR_WORKING:
                said = [_waits(render, around, now), _place(render), _freed(render, around, now)]
        case Phase.HELD:
            said = [_waits(render, around, now), _freed(render, around, now)]
        case Phase.SUCCEEDED | Phase.FAILED | Phase.DEAD_LETTERED | Phase.CANCELLED | Phase.ABORTED:
            said = [_ended(render, now), _kept(render), _way_on(render, around)]
        case unknown:
            assert_never(unknown)
    return " ".join(filter(None, [*said, _paid(render)]))


# What it waits for


@dataclass(frozen=True, slots=True)
class _Wait:
    """One reason to wait: what is in the way, and what takes it away."""

    cause: Callable[[Render, Surroundings, datetime], str]
    freed: Callable[[Render, Surroundings], str]


def _fixed(text: str) -> Callable[..., str]:
    return lambda render, around, *_: text.format(r=render, provider=_provider_name(render, around), p=around.program)


def _quota(render: Render, around: Surroundings, _: datetime) -> str:
    if around.quota and around.quota.hard == 0:
        return "its tenant may run no pod at all"
    if around.quota:
        return f"its tenant uses {around.quota.used} of the {plural(around.quota.hard, 'runner pod')} it may have at a time"
    return "its tenant already has as many runner pods as it may have at a time"


def _more_pods(_: Render, around: Surroundings) -> str:
    raising = "raising spec.concurrency of the RenderTenant"
    if around.quota and around.quota.hard == 0:
        return f"An administrator allows it by {raising}."
    return f"It starts when one of them ends; an administrator allows more by {raising}."


def _says(render: Render) -> str:
    """The operator's own words, where ours know no more than they do."""
    return f" ({render.message})" if render.message else ""


def _throttled(render: Render, around: Surroundings, _: datetime) -> str:
    return f"{_provider_name(render, around)} takes no more calls for the moment{_says(render)}"


def _behind(render: Render, around: Surroundings, _: datetime) -> str:
    return f"others are before it in the line for {_provider_name(render, around)}{_says(render)}"


def _circuit(render: Render, around: Surroundings, now: datetime) -> str:
    name, provider = _provider_name(render, around), around.provider
    said = f"{name} kept failing, so it is left alone for a while"
    if provider is None or provider.circuit_until is None:
        return said + _says(render)
    if provider.circuit_until > now:
        left = seconds_between(now, provider.circuit_until) or 0
        said += f", until {clock(provider.circuit_until)} ({spell(left)} from now)"
    if provider.last_error:
        said += f"; its last error was: {provider.last_error}"
    return said


def _provider_held(render: Render, around: Surroundings, _: datetime) -> str:
    name, provider = _provider_name(render, around), around.provider
    if provider and provider.hold:
        return f"{name} is held by hand"
    if provider and provider.held_reason:
        return f"the account of {name} is refused ({provider.held_reason})"
    return f"its provider is held{_says(render)}"


def _release(render: Render, around: Surroundings) -> str:
    name = _provider_name(render, around)
    if around.provider and around.provider.hold:
        return f"An administrator releases it by setting spec.hold of RenderProvider {name} to false."
    return (
        "An administrator must put the account right: a new key in its Secret is noticed within half a minute, "
        f"new credit within a quarter of an hour; `renderfleet release {name}` tries at once. "
        "Until then nothing is sent there, and waiting uses up no attempt."
    )


def _budget(render: Render, around: Surroundings, _: datetime) -> str:
    tenant = around.tenant
    if tenant and tenant.budget_micros is not None:
        spent, most = money(tenant.spent_micros or 0, render.currency), money(tenant.budget_micros, render.currency)
        return f"this month's budget of its tenant is used up ({spent} of {most})"
    return "this month's budget of its tenant is used up"


def _after_failure(render: Render, around: Surroundings, now: datetime) -> str:
    return f"the last one failed ({render.message})" if render.message else "the last one failed"


def _next_try(render: Render, around: Surroundings) -> str:
    if render.retry_at:
        return f"It is tried again by itself at {clock(render.retry_at)}."
    return "It is tried again by itself after a pause."


_WAITS: Mapping[str, _Wait] = {
    Reason.ACCEPTED: _Wait(
        _fixed("nothing stands in its way any more"), _fixed("The operator starts it with its next look.")
    ),
    Reason.REDRIVEN: _Wait(
        _fixed("it was asked to try again from the start"), _fixed("The operator starts it with its next look.")
    ),
    Reason.BEHIND_OTHERS: _Wait(
        _behind,
        _fixed("It starts when those are through; a higher spec.priority (now {r.priority}) moves it forward."),
    ),
    Reason.QUOTA_EXHAUSTED: _Wait(
        _quota,
        _more_pods,
    ),
    Reason.PROVIDER_THROTTLED: _Wait(
        _throttled,
        _fixed("The allowance refills by itself; waiting uses up no attempt."),
    ),
    Reason.CIRCUIT_OPEN: _Wait(
        _circuit, _fixed("After that a few renders are let through to try it, and the rest follow when those succeed.")
    ),
    Reason.PROVIDER_HELD: _Wait(_provider_held, _release),
    Reason.PROVIDER_UNKNOWN: _Wait(
        _fixed("there is no RenderProvider called {r.provider}"),
        _fixed(
            "It goes on when somebody makes that one; `kubectl get renderproviders` shows which exist, and a new render "
            "may name another."
        ),
    ),
    Reason.CREDENTIALS_MISSING: _Wait(
        _fixed("the key of {provider} is not there"),
        _fixed("It goes on when the Secret that the RenderProvider names exists; `{p} doctor` says which one that is."),
    ),
    Reason.DEPENDENCY_PENDING: _Wait(
        lambda render, *_: (
            f"what it is made of is not there yet ({render.message})"
            if render.message
            else "what it is made of is not there yet"
        ),
        _fixed("It starts by itself as soon as that has succeeded, and fails when that fails for good."),
    ),
    Reason.SUSPENDED: _Wait(
        _fixed("spec.suspend is true"),
        _fixed("It goes on when somebody sets that to false; it keeps its place in time."),
    ),
    Reason.BUDGET_EXHAUSTED: _Wait(
        _budget,
        _fixed(
            "It starts with the next month (UTC), or when an administrator raises spec.monthlyBudgetMicros of the "
            "RenderTenant."
        ),
    ),
    Reason.NAMESPACE_NOT_A_TENANT: _Wait(
        _fixed("the namespace {r.namespace} belongs to no RenderTenant"),
        _fixed(
            "It starts when an administrator makes a RenderTenant with that namespace, or submit it in another one."
        ),
    ),
    Reason.BACKING_OFF: _Wait(_after_failure, _next_try),
    Reason.OUTCOME_UNKNOWN: _Wait(
        _fixed("nobody can say whether its paid call was made ({r.message})"),
        _fixed(
            "A person must decide: look into the account of {provider}, then `{p} retry {r.short_ref}` tries again and may "
            "pay a second time, or `{p} cancel {r.short_ref}` gives it up."
        ),
    ),
    Reason.JOB_REFUSED: _Wait(
        lambda render, *_: render.message or "the API server refuses its Job",
        _fixed(
            "It is tried again every half minute, uses up no attempt, and goes on when an administrator has mended what "
            "refuses it: the operator's rights, an admission policy, or the settings of its pool."
        ),
    ),
    Reason.NAME_CONFLICT: _Wait(
        _fixed("an object that is not ours has the name that its runner needs ({r.message})"),
        _fixed("It goes on by itself when that object is deleted."),
    ),
}
"""Every reason that a render can wait for."""


def _waits(render: Render, around: Surroundings, now: datetime) -> str:
    since = seconds_between(render.waiting_since, now)
    for_so_long = f" for {spell(since)}" if since is not None else ""
    if not render.seen_by_operator:
        return f"{_subject(render)} was submitted {spell(since or 0)} ago, and the operator has not looked at it yet."
    known = _WAITS.get(render.reason)
    cause = known.cause(render, around, now) if known else render.message or render.reason or "no reason was given"
    match render.phase:
        case Phase.HELD:
            begin = "is held"
        case Phase.RETRYING:
            begin = f"has been on its way{for_so_long} and pauses between two attempts"
        case _:
            begin = f"has waited{for_so_long}"
    return _sentence(f"{_subject(render)} {begin}: {cause}")


def _place(render: Render) -> str:
    parts = []
    if render.position is not None:
        line = f"the line for {render.provider}" if render.provider else "the line"
        parts.append("It is next in " + line if render.position == 1 else f"It is number {render.position} in {line}")
    if render.eta_seconds is not None:
        soon = "at any moment" if render.eta_seconds < 1 else f"in about {spell(render.eta_seconds)}"
        parts.append(f"should start {soon}" if parts else f"It should start {soon}")
    return " and ".join(parts) + "." if parts else ""


def _freed(render: Render, around: Surroundings, now: datetime) -> str:
    if not render.seen_by_operator:
        return _if_it_lasts(around, seconds_between(render.waiting_since, now) or 0)
    known = _WAITS.get(render.reason)
    return known.freed(render, around) if known else ""


def _if_it_lasts(around: Surroundings, seconds: float) -> str:
    if seconds > LOOKS_STUCK_SECONDS:
        return f"That should take seconds, so the operator may not be running: `{around.program} doctor` looks."
    return f"If that lasts longer than a minute, the operator may not be running: `{around.program} doctor` looks."


# At work


def _at_work(render: Render, now: datetime) -> str:
    ran = seconds_between(render.started_at, now)
    so_long = f" for {spell(ran)}" if ran is not None else ""
    if render.reason == Reason.CANCELLING:
        return _sentence(f"{_subject(render)} is being stopped, but its pod is still ending: {render.message}")
    which = f"stage {render.stage}, attempt {render.attempt}" if render.stage else f"attempt {render.attempt}"
    return f"{_subject(render)} waits for nothing: it has been at work{so_long} ({which}, {render.progress} %)."


def _vendor_works(render: Render, now: datetime) -> str:
    ran = seconds_between(render.started_at, now)
    so_long = f" for {spell(ran)}" if ran is not None else ""
    job = f" as {render.vendor_job}" if render.vendor_job else ""
    return (
        f"{_subject(render)} is with {render.provider or 'its vendor'}{job}, which has been working on it{so_long} "
        f"({render.progress} %). No pod runs meanwhile; the operator looks every few seconds and goes on by itself."
    )


def _deleting(render: Render, now: datetime) -> str:
    since = spell(seconds_between(render.deleting_since, now) or 0)
    return (
        f"{_subject(render)} has been on its way out for {since}: first its runner must end, then its history is archived, "
        "then it goes."
    )


# Ends


def _ended(render: Render, now: datetime) -> str:
    ago = seconds_between(render.finished_at, now)
    when = f" {spell(ago)} ago" if ago is not None else ""
    why_so = render.message or render.reason
    match render.phase:
        case Phase.SUCCEEDED:
            took = seconds_between(render.started_at, render.finished_at)
            lasted = f" after {spell(took)} of work" if took is not None else ""
            made = f" It made {', '.join(render.outputs)}." if render.outputs else ""
            return f"{_subject(render)} waits for nothing: it succeeded{when}{lasted}.{made}"
        case Phase.DEAD_LETTERED:
            return _sentence(f"{_subject(render)} was given up{when}, its attempts are used up: {why_so}")
        case Phase.FAILED:
            return _sentence(f"{_subject(render)} failed{when} ({render.reason}): {why_so}")
        case Phase.ABORTED:
            return _sentence(f"{_subject(render)} was stopped{when} before it ever started: {why_so}")
        case _:
            return _sentence(f"{_subject(render)} was stopped{when} while it was at work: {why_so}")


def _kept(render: Render) -> str:
    if not render.not_archived:
        return ""
    return _sentence(f"Its object stays until its history is archived: {render.not_archived}")


def _way_on(render: Render, around: Surroundings) -> str:
    again = f"`{around.program} retry {render.short_ref}` tries again from the start."
    match render.reason:
        case Reason.MEDIA_READY:
            return ""
        case Reason.INPUT_REFUSED | Reason.MODERATED | Reason.FOREIGN_KEY:
            return "The same input would fail again: submit a changed one."
        case Reason.DEPENDENCY_FAILED:
            return f"Put right what it depends on first; after that, {again}"
    return "" if render.phase is Phase.SUCCEEDED else again


def _paid(render: Render) -> str:
    match render.charged:
        case "true":
            cost = money(render.actual_micros, render.currency)
            if not render.actual_micros:
                return "It was charged by the vendor."
            return f"It has cost {cost}." if render.is_over else f"So far it has cost {cost}."
        case "unknown":
            return "Whether the vendor charged for it is not known."
    return "" if render.phase is Phase.SUCCEEDED else "Nothing has been charged."


# Words


def _sentence(text: str) -> str:
    """Ended by one full stop, also when it ends in somebody else's sentence."""
    return text.rstrip(". ") + "."


def _subject(render: Render) -> str:
    return f"{render.kind} {render.name}"


def _provider_name(render: Render, around: Surroundings) -> str:
    return around.provider.name if around.provider else render.blocking_provider or "its provider"
