"""A render as the decisions see it: the raw body, and names for the places in it that are asked for often.

No model is built here: this is the hot path, and the API server has validated and defaulted the body already.
"""

from typing import Any

from renderfleet_crds import meta
from renderfleet_crds.conditions import ConditionType, find_condition
from renderfleet_crds.contract import ErrorCategory, Stage
from renderfleet_crds.kinds import BY_KIND
from renderfleet_crds.phases import Phase
from renderfleet_operator.times import seconds_of

Body = dict[str, Any]

COUNTED = frozenset(
    {ErrorCategory.TRANSIENT, ErrorCategory.OUTAGE, ErrorCategory.INTERNAL, ErrorCategory.UNKNOWN_OUTCOME}
)
"""Failures that use up one of retryPolicy.maxAttempts; the others are nobody's attempt."""

ATTEMPTS_KEPT = 20


class Render:
    """One AvatarRender, VoiceJob or VideoRender."""

    __slots__ = ("body", "metadata", "spec", "status")

    def __init__(self, body: Body) -> None:
        self.body = body
        self.metadata: Body = body["metadata"]
        self.spec: Body = body.get("spec") or {}
        self.status: Body = body.get("status") or {}

    @property
    def kind(self) -> str:
        """AvatarRender, VoiceJob or VideoRender."""
        return str(self.body["kind"])

    @property
    def uid(self) -> str:
        """What tells it from an earlier object of the same name."""
        return str(self.metadata["uid"])

    @property
    def namespace(self) -> str:
        """Where it lives, and by that whose it is."""
        return str(self.metadata["namespace"])

    @property
    def name(self) -> str:
        """Unique per kind and namespace at a time."""
        return str(self.metadata["name"])

    @property
    def generation(self) -> int:
        """Grows with each change of the spec."""
        return int(self.metadata.get("generation") or 0)

    @property
    def created_at(self) -> float:
        """Seconds since 1970; whole, as the API server stores it."""
        return seconds_of(self.metadata["creationTimestamp"])

    @property
    def is_deleting(self) -> bool:
        """Somebody asked for its deletion; only finalizers keep it."""
        return "deletionTimestamp" in self.metadata

    @property
    def has_finalizer(self) -> bool:
        """True while our finalizer holds it."""
        return meta.FINALIZER in (self.metadata.get("finalizers") or ())

    @property
    def phase(self) -> Phase | None:
        """None before the first report."""
        word = self.status.get("phase")
        return Phase(word) if word else None

    def condition(self, kind: ConditionType) -> Body | None:
        """Its condition of that type, or None when nobody has said anything yet."""
        return find_condition(self.status.get("conditions") or [], kind)

    @property
    def is_finished(self) -> bool:
        """At an end: nothing is started for it any more in this run."""
        word = self.status.get("phase")
        return word is not None and Phase(word).is_final

    @property
    def run(self) -> int:
        """How often it was redriven, as far as the status has caught up."""
        return int(self.status.get("run") or 0)

    @property
    def wants_new_run(self) -> bool:
        """A redrive has been asked for that the status has not taken up yet."""
        return int(self.spec.get("redrive") or 0) > self.run

    @property
    def stage(self) -> Stage:
        """The current stage, or the first one."""
        word = self.status.get("stage")
        return Stage(word) if word else BY_KIND[self.kind].stages[0]

    @property
    def attempt(self) -> int:
        """Number of the current stage's latest attempt; 0 before the first."""
        return int(self.status.get("attempt") or 0)

    @property
    def attempts(self) -> list[Body]:
        """The latest attempts of this run, oldest first."""
        return list(self.status.get("attempts") or ())

    @property
    def open_attempt(self) -> Body | None:
        """The attempt that was started and has not ended."""
        attempts = self.status.get("attempts")
        if not attempts or attempts[-1].get("endedAt"):
            return None
        last: Body = attempts[-1]
        return last

    @property
    def provider(self) -> str:
        """Name of the RenderProvider that it uses."""
        return str(self.spec.get("provider") or "")

    @property
    def providers(self) -> tuple[str, ...]:
        """All RenderProviders that must be usable before it starts; the first one's limits count it."""
        if self.kind == "VoiceJob" and self.spec.get("prompt") is not None:
            return (self.provider, str(self.spec.get("scriptProvider") or ""))
        return (self.provider,)

    @property
    def vendor_job_id(self) -> str | None:
        """The vendor's own id, once it accepted."""
        job_id = (self.status.get("provider") or {}).get("jobId")
        return str(job_id) if job_id else None

    @property
    def priority(self) -> int:
        """Higher goes first."""
        return int(self.spec.get("priority", 100))

    @property
    def queued_at(self) -> float:
        """Since when it waits for its first start in this run (seconds since 1970)."""
        text = self.status.get("queuedAt")
        return seconds_of(text) if text else self.created_at

    @property
    def started_at(self) -> float | None:
        """First start in this run."""
        text = self.status.get("startedAt")
        return seconds_of(text) if text else None

    @property
    def finished_at(self) -> float | None:
        """When it came to its end."""
        text = self.status.get("finishedAt")
        return seconds_of(text) if text else None

    @property
    def paid_micros(self) -> int:
        """What this run has cost so far."""
        return int((self.status.get("cost") or {}).get("actualMicros") or 0)

    @property
    def estimated_micros(self) -> int:
        """What one try of it may cost; 0 before the first start of this run, and when nobody knows."""
        return int((self.status.get("cost") or {}).get("estimatedMicros") or 0) if self.started_at is not None else 0

    @property
    def reserved_micros(self) -> int:
        """What is set aside for it of its tenant's budget: what it has cost, and what it may cost yet.

        Between two tries that is the larger of both: a try that cost nothing leaves its share to the next one, and after
        one that was paid the next needs a share of its own (`unreserved_micros`). At an end nothing is: the cost is spent.
        """
        if self.is_finished:
            return 0
        if self.phase in (Phase.RUNNING, Phase.WAITING):
            return self.paid_micros + self.estimated_micros
        return max(self.paid_micros, self.estimated_micros)

    @property
    def unreserved_micros(self) -> int:
        """What must be set aside besides before another try of it."""
        return min(self.paid_micros, self.estimated_micros)  # the larger of both is reserved already

    def next_number(self, stage: Stage) -> int:
        """Number of the next attempt of a stage: never one that was used in this run."""
        return 1 + max((int(one["number"]) for one in self.attempts if one["stage"] == stage), default=0)

    def counted_failures(self, stage: Stage) -> int:
        """Attempts of a stage that used up the retry policy."""
        return sum(1 for one in self.attempts if one["stage"] == stage and one.get("category") in COUNTED)


def kept(attempts: list[Body]) -> list[Body]:
    """At most twenty attempts: those that count are forgotten last, or the retry limit would forget with them."""
    out = list(attempts)
    while len(out) > ATTEMPTS_KEPT:
        spare = next((at for at, one in enumerate(out[:-1]) if one.get("category") not in COUNTED), 0)
        del out[spare]
    return out
