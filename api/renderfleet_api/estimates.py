"""What a render would cost and when it would start, before anything is made."""

import math
from typing import Any

from renderfleet_client import Resource
from renderfleet_client.errors import NotFound
from renderfleet_crds.kinds import RENDER_PROVIDER, ResourceKind
from renderfleet_crds.render import RenderSpec
from renderfleet_crds.render_provider import RenderProviderSpec
from renderfleet_providers.costs import cost_micros, estimate_usage, split_usage

from .parts import Parts
from .views import CostView, Estimate


async def estimate(parts: Parts, kind: ResourceKind, body: dict[str, Any]) -> Estimate:
    """Of an object as the cluster would store it. A provider that does not exist leaves cost and start open."""
    spec = kind.spec.model_validate(body["spec"])
    if not isinstance(spec, RenderSpec):
        raise TypeError(f"{kind.kind} is no render")
    own, script = split_usage(estimate_usage(spec))
    provider, status = await _provider(parts, body["spec"].get("provider", ""))
    writer = None
    if script:
        writer, _ = await _provider(parts, body["spec"].get("scriptProvider", ""))
    micros = None
    if provider is not None:
        micros = cost_micros(own, provider.prices) + (cost_micros(script, writer.prices) if writer else 0)
    currency = provider.currency if provider else "USD"
    return Estimate(
        kind=kind.kind,
        spec=body["spec"],
        cost=CostView(estimated_micros=micros, currency=currency),
        usage={**own, **{f"script:{unit}": count for unit, count in script.items()}},
        start_seconds=_start_seconds(provider, status),
    )


def _start_seconds(provider: RenderProviderSpec | None, status: dict[str, Any]) -> int | None:
    """A rough guess: those that wait already, at the pace that the provider allows; None when nobody can say."""
    if provider is None or provider.hold or status.get("held") or status.get("circuit") == "Open":
        return None
    told = (provider.limits.per_minute, status.get("learnedPerMinute"), status.get("slowedPerMinute"))
    per_minute: int = min(one for one in told if one)
    waiting: int = status.get("waiting") or 0
    return math.ceil(waiting * 60 / per_minute)


async def _provider(parts: Parts, name: str) -> tuple[RenderProviderSpec | None, dict[str, Any]]:
    if not name:
        return None, {}
    try:
        found = await parts.cluster.get(Resource.of(RENDER_PROVIDER), name)
    except NotFound:
        return None, {}
    return RenderProviderSpec.model_validate(found["spec"]), found.get("status") or {}
