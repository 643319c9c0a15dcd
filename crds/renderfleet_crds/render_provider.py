"""RenderProvider: one vendor account, its limits, and, in its status, how the vendor is doing."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from .conditions import Condition
from .contract import Vendor
from .parts import MicroUnits, ObjectName, Part, immutable


class SecretKey(Part):
    """A key of a Secret in the operator's own namespace."""

    name: ObjectName
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")] = "api-key"


class ProviderLimits(Part):
    """How hard the account may be used, by all tenants together."""

    in_flight: Annotated[int, Field(ge=1, le=10_000)] = 5
    """Calls or vendor jobs at a time."""
    per_minute: Annotated[int, Field(ge=1, le=100_000)] = 60
    """Starts per minute, refilled evenly."""
    burst: Annotated[int, Field(ge=1, le=10_000)] = 5
    """Starts that may come at once after a quiet time."""


class BreakerSettings(Part):
    """When to stop asking a vendor that keeps failing."""

    window_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    min_calls: Annotated[int, Field(ge=1, le=1000)] = 5
    """Fewer calls in the window say nothing."""
    failure_percent: Annotated[int, Field(ge=1, le=100)] = 50
    open_seconds: Annotated[int, Field(ge=1, le=3600)] = 15
    """First time open; doubles each time a probe fails, with jitter."""
    max_open_seconds: Annotated[int, Field(ge=1, le=86_400)] = 600
    half_open_probes: Annotated[int, Field(ge=1, le=100)] = 1
    """Renders let through at a time to see whether the vendor is back."""


class Price(Part):
    """What a unit of a vendor's counting costs."""

    unit: Annotated[str, Field(max_length=64)]
    """As in a result's usage: `images`, `outputTokens`, `characters`, `credits`."""
    micros: MicroUnits
    """Millionths of `currency` per unit."""


class RenderProviderSpec(Part):
    """Where the vendor is and how to treat it."""

    model_config = ConfigDict(json_schema_extra=immutable("vendor"))

    vendor: Vendor
    """Which adapter speaks to it."""
    base_url: Annotated[str, Field(max_length=512, pattern=r"^https?://[^\s@]+$")]
    """No host name is compiled in; plain http is for stand-ins inside the cluster."""
    secret_ref: SecretKey
    """Its API key."""
    options: dict[str, Annotated[str, Field(max_length=256)]] = {}
    """Settings of the adapter.

    openai: `model`, `scriptModel`, `organization`, `project`, `resendModeratedOutput`. elevenlabs: `maxCharacters`.
    did: `authScheme`, `secondsPerCredit`, `lostJobSeconds`.
    """
    limits: ProviderLimits = ProviderLimits()
    breaker: BreakerSettings = BreakerSettings()
    hold: bool = False
    """Stop by hand: nothing new is started while true."""
    released_at: Annotated[str, Field(max_length=64)] | None = None
    """When somebody last let it go. A new value ends a hold of the operator's own (a refused key, an empty account),
    which cannot see what was done about it; so does any other edit."""
    on_unknown_outcome: Literal["hold", "retry", "fail"] = "hold"
    """What to do when nobody can say whether a paid call happened: ask a person, pay perhaps twice, or give up."""
    call_timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 300
    """Total time for one paid call, from connecting to the last byte."""
    poll_seconds: Annotated[int, Field(ge=1, le=600)] = 5
    """Pause between two looks at a vendor's job."""
    prices: Annotated[list[Price], Field(max_length=16)] = []
    """Price list for estimates before and costs after; empty: nothing is counted."""
    currency: Annotated[str, Field(min_length=3, max_length=3)] = "USD"
    """ISO 4217 code of the price list."""


def hold_patch(*, held: bool) -> dict[str, Any]:
    """Merge patch that holds a provider, or lets it go now, whoever held it."""
    if held:
        return {"spec": {"hold": True}}
    return {"spec": {"hold": False, "releasedAt": datetime.now(UTC).isoformat(timespec="milliseconds")}}


class RenderProviderStatus(Part):
    """How the vendor is doing, as seen from here."""

    observed_generation: int | None = None
    circuit: Literal["Closed", "Open", "HalfOpen"] | None = None
    circuit_until: str | None = None
    """While open: when probes may start (RFC 3339)."""
    circuit_opened: int | None = None
    """How often it opened in a row; the next time open grows with it."""
    window_calls: int | None = None
    """Calls within `breaker.windowSeconds` of the latest one, when any of them failed and the circuit is closed."""
    window_failures: int | None = None
    """How many of them failed: a circuit that is about to open."""
    held: bool | None = None
    held_reason: Annotated[str, Field(max_length=256)] | None = None
    in_flight: int | None = None
    waiting: int | None = None
    tokens: int | None = None
    """Starts that may happen right now."""
    learned_in_flight: int | None = None
    """What the vendor's headers say may run at a time, when that is less than spec.limits."""
    learned_per_minute: int | None = None
    """What the vendor's headers say may be started per minute, when that is less than spec.limits."""
    slowed_per_minute: int | None = None
    """Starts per minute to which the vendor's refusals (429) slowed it; it grows back by a tenth of that each minute."""
    slowed_at: str | None = None
    """When it was last slowed."""
    paused_until: str | None = None
    """The vendor asked (Retry-After) to start nothing before."""
    credits_remaining: int | None = None
    """What is left in the account, in the vendor's own credits, where it tells."""
    warning: Annotated[str, Field(max_length=512)] | None = None
    """What will break if nobody acts: a model that is about to be shut down, or is not offered to this account."""
    checked_at: str | None = None
    """When the vendor was last asked for these two."""
    last_error: Annotated[str, Field(max_length=512)] | None = None
    last_error_at: str | None = None
    last_success_at: str | None = None
    conditions: Annotated[list[Condition], Field(max_length=8)] | None = Field(
        default=None,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
