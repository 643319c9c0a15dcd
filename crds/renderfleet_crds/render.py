"""What all three kinds of render have in common: how they are asked for, and how they report."""

from typing import Annotated

from pydantic import Field

from .conditions import Condition
from .contract import Charged, ErrorCategory, Output
from .parts import MicroUnits, Part, rule
from .phases import Phase

Seconds = Annotated[int, Field(ge=1, le=2_592_000)]


class RetryPolicy(Part):
    """How often and how patiently to try again what may yet work."""

    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """Attempts of one stage before the render is DeadLettered, the first one included."""
    backoff_seconds: Annotated[int, Field(ge=1, le=3600)] = 5
    """Upper bound of the first pause; it doubles with each attempt, and the pause is drawn evenly from 0 to the bound."""
    max_backoff_seconds: Annotated[int, Field(ge=1, le=86_400)] = 600
    """The bound never grows past this. A vendor's Retry-After is obeyed even when longer."""


class RenderSpec(Part):
    """What every render may be told. Written by users and the API, never by the operator."""

    priority: Annotated[int, Field(ge=0, le=1000)] = 100
    """Higher goes first among what waits for the same provider. May be changed while queued."""
    suspend: bool = False
    """Keep it queued until this is false again; what runs already is not stopped."""
    cancel: bool = False
    """Stop it: Aborted when it never started (nothing charged), Cancelled when it did."""
    redrive: Annotated[
        int,
        Field(
            ge=0,
            le=1000,
            json_schema_extra={
                "x-kubernetes-validations": [
                    rule("self >= oldSelf", "redrive only grows: set it to the current value plus one")
                ]
            },
        ),
    ] = 0
    """Raise it by one to try a failed, dead-lettered, cancelled or held render again from the start."""
    retry_policy: RetryPolicy = RetryPolicy()
    queue_deadline_seconds: Seconds | None = None
    """Fail when it has not started this long after it was queued. Unset: wait as long as it takes."""
    run_deadline_seconds: Seconds = 3600
    """Fail when it has not ended this long after its first start; pods are stopped by it."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    """Delete the object this long after its end, once it is archived. Unset: the operator's setting, by outcome."""
    client_reference: Annotated[str, Field(max_length=256)] | None = None
    """Anything the client wants to find the render by; kept and echoed, never read."""


class QueuePosition(Part):
    """Where a waiting render stands."""

    position: Annotated[int, Field(ge=1)] | None = None
    """1 is next among the renders that wait for the same provider; of one that backs off, the place it would have now.

    Absent, as is `etaSeconds`, while it is suspended or waits for other renders: its turn is nothing the queue decides.
    """
    since: str | None = None
    """When it was queued (RFC 3339)."""
    eta_seconds: Annotated[int, Field(ge=0)] | None = None
    """When it is expected to start, from now, and never before `retryAt`; absent when what it waits for cannot be timed."""
    reason: Annotated[str, Field(max_length=128)] | None = None


class VendorJob(Part):
    """The render as its vendor knows it."""

    name: Annotated[str, Field(max_length=253)] | None = None
    """The RenderProvider used."""
    job_id: Annotated[str, Field(max_length=256)] | None = None
    accepted_at: str | None = None
    status: Annotated[str, Field(max_length=64)] | None = None
    """The vendor's own word for the state of its job."""
    credits: Annotated[int, Field(ge=0)] | None = None
    """What the vendor took for the job, in its own credits, where that could be told. Those of a failed job it returns."""


class Attempt(Part):
    """One start of one stage and how it went."""

    run: Annotated[int, Field(ge=0)] = 0
    number: Annotated[int, Field(ge=1)]
    stage: Annotated[str, Field(max_length=32)]
    job_name: Annotated[str, Field(max_length=63)] | None = None
    started_at: str | None = None
    ended_at: str | None = None
    category: ErrorCategory | None = None
    code: Annotated[str, Field(max_length=128)] | None = None
    message: Annotated[str, Field(max_length=512)] | None = None
    charged: Charged = Charged.NO


class Cost(Part):
    """What it costs, in millionths of a currency unit."""

    estimated_micros: MicroUnits | None = None
    actual_micros: MicroUnits | None = None
    currency: Annotated[str, Field(max_length=3)] = "USD"


class RenderStatus(Part):
    """What the operator reports. Nobody else writes it."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    phase: Phase | None = None
    reason: Annotated[str, Field(max_length=128)] | None = None
    message: Annotated[str, Field(max_length=1024)] | None = None
    stage: Annotated[str, Field(max_length=32)] | None = None
    progress: Annotated[int, Field(ge=0, le=100)] | None = None
    """Per cent; 100 only at success."""
    run: Annotated[int, Field(ge=0)] | None = None
    """How often it was redriven: equals spec.redrive of the run that this status tells of."""
    attempt: Annotated[int, Field(ge=0)] | None = None
    """Number of the current stage's latest attempt; 0 before the first."""
    attempts: Annotated[list[Attempt], Field(max_length=20)] | None = None
    """The latest attempts of this run, oldest first, bounded."""
    queue: QueuePosition | None = None
    provider: VendorJob | None = None
    outputs: Annotated[list[Output], Field(max_length=64)] | None = None
    cost: Cost | None = None
    retry_at: str | None = None
    """When the next attempt may start (RFC 3339), while Retrying."""
    queued_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    trace_id: Annotated[str, Field(max_length=64)] | None = None
    conditions: Annotated[list[Condition], Field(max_length=16)] | None = Field(
        default=None,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
