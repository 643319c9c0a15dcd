"""Decide which waiting renders may start, and why the others may not. Pure; the one place for all reasons to wait.

A lane is one tenant's waiting renders for one provider, in order. What stops a lane, asked in this order:
  the provider   held -> ProviderHeld; circuit -> CircuitOpen; told to slow down, or no token -> ProviderThrottled;
                 all its places taken -> BehindOthers
  the tenant     no place in the namespace's quota -> QuotaExhausted; no budget left -> BudgetExhausted
Among lanes that nothing stops, the next start goes to the highest priority; then to the tenant that used the provider
least for its weight (use decays, and a start is charged at once, so that a burst pays as it enters); then to the oldest.

`admit` looks at the heads of lanes only, so that a pass over thousands of waiting renders costs what it admits.
`places` tells every waiting render its position and expected start: the same order, played on without limits. Those that
back off before another try are told, too: as if they waited already, but not before their pause ends.
"""

import bisect
import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from renderfleet_crds.conditions import Reason

from .observed import Wait

LaneKey = tuple[str, str]
"""(provider, tenant namespace). The provider is "" for what needs a place in the quota only."""

Order = tuple[int, float, str]
"""(-priority, waiting since, UID): how a lane is sorted."""


@dataclass(slots=True)
class Provider:
    """What a provider can take just now."""

    name: str
    free: int
    """Calls or vendor jobs that may be added."""
    places: int
    """How many it takes at a time."""
    tokens: float
    """Starts that its rate allows right now."""
    per_second: float
    """How fast tokens come back."""
    open_to: int | None = None
    """What the circuit still lets through; None: no limit."""
    reopens_in: float = 0.0
    held: str | None = None
    no_key: str | None = None
    """What is missing of its key."""
    paused_for: float = 0.0
    """The vendor asked for a pause of this many seconds."""
    service_seconds: float = 20.0
    """How long a render keeps its place, as a rule."""


@dataclass(slots=True)
class Tenant:
    """What a tenant may still use."""

    namespace: str
    weight: int = 100
    free: int | None = None
    """Places in its quota; None: no limit."""
    places: int | None = None
    budget_micros: int | None = None
    """What is left of it this month, reservations taken off; None: no limit."""
    use: Mapping[str, float] = field(default_factory=dict)
    """Decayed use by provider, in starts."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One render that waits."""

    uid: str
    order: Order
    cost_micros: int | None = 0
    """What it may cost. None: that is set aside already, so no budget stops it."""
    also: tuple[str, ...] = ()
    """Other providers that must be usable too."""


@dataclass(frozen=True, slots=True)
class BackingOff:
    """One render that may not start yet: an attempt failed, and it pauses before the next."""

    waiting: Waiting
    """As it will wait once its pause is over."""
    left_seconds: float


@dataclass(slots=True)
class Pass:
    """What came of one pass."""

    admitted: list[str] = field(default_factory=list)
    stopped: dict[LaneKey, Wait] = field(default_factory=dict)
    """Why the lanes that still hold something do not move."""
    again_in: float | None = None
    """When time alone may let more through."""


Lanes = Mapping[LaneKey, Sequence[Waiting]]
Pauses = Mapping[LaneKey, Sequence[BackingOff]]


def admit(lanes: Lanes, tenants: Mapping[str, Tenant], providers: Mapping[str, Provider]) -> Pass:
    """Let in all that may start now. Takes what it admits off `tenants` and `providers`, which are the caller's copies."""
    out = Pass()
    heads: list[tuple[int, float, float, str, LaneKey, int]] = []
    for key, lane in lanes.items():
        if lane:
            _push(heads, key, lane, 0, tenants)
    while heads:
        *_, key, at = heapq.heappop(heads)
        lane = lanes[key]
        one = lane[at]
        if stop := _lane_stop(key, tenants, providers):
            out.stopped[key] = stop
            continue
        if own_stop := _own_stop(one, tenants[key[1]], providers):
            out.stopped.setdefault(key, own_stop)
        else:
            _take(one, key, tenants, providers)
            out.admitted.append(one.uid)
        following = _next(lane, at + 1, tenants[key[1]])
        if following < len(lane):
            _push(heads, key, lane, following, tenants)
    out.again_in = _again_in(out.stopped, providers)
    return out


def places(
    lanes: Lanes,
    tenants: Mapping[str, Tenant],
    providers: Mapping[str, Provider],
    pauses: Pauses = MappingProxyType({}),
) -> dict[str, Wait]:
    """Position and expected start of every waiting render, with the reason its lane stands still (or BehindOthers).

    The expected start is the later of two: when the provider has served those in front, and when the tenant's own quota
    has. Absent where nobody can say: a hold, a missing key or provider, a budget, a quota of none. Whoever is in `pauses`
    is in nobody's way until it waits.
    """
    stopped = admit(lanes, _copies(tenants), {name: _copy(one) for name, one in providers.items()}).stopped
    out: dict[str, Wait] = {}
    by_provider: dict[str, list[LaneKey]] = {}
    for key, lane in lanes.items():
        if lane:
            by_provider.setdefault(key[0], []).append(key)
    for name, keys in by_provider.items():
        provider = providers.get(name)
        waits = {key: stopped.get(key) or _behind(provider, name) for key in keys}
        of_tenant: dict[str, int] = {}
        for position, (key, one) in enumerate(_in_order(keys, lanes, tenants), start=1):
            tenant = tenants[key[1]]
            own = of_tenant[key[1]] = of_tenant.get(key[1], 0) + 1
            wait = waits[key]
            out[one.uid] = Wait(
                wait.reason, wait.message, position, _eta(wait.reason, position, own, provider=provider, tenant=tenant)
            )
    return out | _after_pauses(lanes, tenants, providers, pauses) if pauses else out


def _after_pauses(
    lanes: Lanes, tenants: Mapping[str, Tenant], providers: Mapping[str, Provider], pauses: Pauses
) -> dict[str, Wait]:
    """Position and expected start of those that back off, of whom only those are in front whose pause ends no later."""
    names = {key[0] for key in pauses}
    left = {one.waiting.uid: one.left_seconds for those in pauses.values() for one in those}
    everyone = {
        key: sorted([*lanes.get(key, ()), *(one.waiting for one in pauses.get(key, ()))], key=lambda one: one.order)
        for key in {*lanes, *pauses}
        if key[0] in names
    }
    now = admit(everyone, _copies(tenants), {name: _copy(one) for name, one in providers.items()})
    at_once = set(now.admitted)
    out: dict[str, Wait] = {}
    for name in names:
        provider = providers.get(name)
        front, front_of = _Front(), defaultdict[str, _Front](_Front)
        keys = [key for key in everyone if key[0] == name and everyone[key]]
        for key, one in _in_order(keys, everyone, tenants):
            own, pause = front_of[key[1]], left.get(one.uid)
            if pause is not None:
                position = 1 + front.after(pause)
                queue: int | None = 0
                if one.uid not in at_once:
                    stop = now.stopped.get(key) or _behind(provider, name)
                    queue = _eta(stop.reason, position, 1 + own.after(pause), provider=provider, tenant=tenants[key[1]])
                eta = None if queue is None else max(queue, math.ceil(pause))
                out[one.uid] = Wait(Reason.BACKING_OFF, "", position, eta)
            front.add(pause)
            own.add(pause)
    return out


@dataclass(slots=True)
class _Front:
    """Who is in front of a place in the order."""

    waiting: int = 0
    pauses: list[float] = field(default_factory=list)
    """Seconds left of those that back off, in order."""

    def add(self, pause: float | None) -> None:
        """One more; `pause` None: it waits already."""
        if pause is None:
            self.waiting += 1
        else:
            bisect.insort(self.pauses, pause)

    def after(self, seconds: float) -> int:
        """How many are there that long from now, if none starts meanwhile."""
        return self.waiting + bisect.bisect_right(self.pauses, seconds)


def _in_order(keys: list[LaneKey], lanes: Lanes, tenants: Mapping[str, Tenant]) -> Iterable[tuple[LaneKey, Waiting]]:
    """The order in which they would start if nothing stopped anybody."""
    copies = _copies({key[1]: tenants[key[1]] for key in keys})
    heads: list[tuple[int, float, float, str, LaneKey, int]] = []
    for key in keys:
        _push(heads, key, lanes[key], 0, copies)
    while heads:
        *_, key, at = heapq.heappop(heads)
        yield key, lanes[key][at]
        _charge(copies[key[1]], key[0])
        if at + 1 < len(lanes[key]):
            _push(heads, key, lanes[key], at + 1, copies)


def _push(
    heads: list[tuple[int, float, float, str, LaneKey, int]],
    key: LaneKey,
    lane: Sequence[Waiting],
    at: int,
    tenants: Mapping[str, Tenant],
) -> None:
    rank, since, uid = lane[at].order
    tenant = tenants[key[1]]
    share = tenant.use.get(key[0], 0.0) / max(1, tenant.weight)
    heapq.heappush(heads, (rank, share, since, uid, key, at))


def _next(lane: Sequence[Waiting], at: int, tenant: Tenant) -> int:
    """Who may be next in a lane: anybody, or, when the budget is used up, who needs nothing more of it."""
    if tenant.budget_micros is None or tenant.budget_micros > 0:
        return at
    return next((n for n in range(at, len(lane)) if lane[n].cost_micros is None), len(lane))


def _lane_stop(key: LaneKey, tenants: Mapping[str, Tenant], providers: Mapping[str, Provider]) -> Wait | None:
    """What stops all of a lane."""
    name, namespace = key
    if name:
        provider = providers.get(name)
        if wait := _provider_down(provider, name):
            return wait
        assert provider is not None
        if provider.tokens < 1:
            return Wait(Reason.PROVIDER_THROTTLED, f"{name}: its starts per minute are used up")
        if provider.free < 1:
            return Wait(Reason.BEHIND_OTHERS, f"{name}: all {provider.places} places are taken")
    tenant = tenants[namespace]
    if tenant.free is not None and tenant.free < 1:
        return Wait(Reason.QUOTA_EXHAUSTED, f"all {tenant.places} pods of the namespace's quota are in use")
    return None


def _own_stop(one: Waiting, tenant: Tenant, providers: Mapping[str, Provider]) -> Wait | None:
    """What stops this render, but perhaps not the one behind it."""
    for name in one.also:
        if wait := _provider_down(providers.get(name), name):
            return wait
    if tenant.budget_micros is None or one.cost_micros is None:
        return None
    if tenant.budget_micros <= 0:
        return Wait(Reason.BUDGET_EXHAUSTED, "this month's budget is used up")
    if one.cost_micros > tenant.budget_micros:
        return Wait(Reason.BUDGET_EXHAUSTED, "what is left of this month's budget does not cover it")
    return None


def _provider_down(provider: Provider | None, name: str) -> Wait | None:
    if provider is None:
        return Wait(Reason.PROVIDER_UNKNOWN, f"there is no RenderProvider {name}")
    if provider.no_key is not None:
        return Wait(Reason.CREDENTIALS_MISSING, f"{name}: {provider.no_key}")
    if provider.held is not None:
        return Wait(Reason.PROVIDER_HELD, f"{name}: {provider.held}")
    if provider.open_to is not None and provider.open_to < 1:
        return Wait(Reason.CIRCUIT_OPEN, f"{name} keeps failing: it is asked again in {provider.reopens_in:.0f} s")
    if provider.paused_for > 0:
        return Wait(Reason.PROVIDER_THROTTLED, f"{name} asked for a pause of {provider.paused_for:.0f} s")
    return None


def _take(one: Waiting, key: LaneKey, tenants: Mapping[str, Tenant], providers: Mapping[str, Provider]) -> None:
    name, namespace = key
    if name:
        provider = providers[name]
        provider.free -= 1
        provider.tokens -= 1
        for other in (provider, *(providers[also] for also in one.also)):
            if other.open_to is not None:
                other.open_to -= 1
    tenant = tenants[namespace]
    if tenant.free is not None:
        tenant.free -= 1
    if tenant.budget_micros is not None:
        tenant.budget_micros -= one.cost_micros or 0
    _charge(tenant, name)


def _charge(tenant: Tenant, provider: str) -> None:
    use = dict(tenant.use) if not isinstance(tenant.use, dict) else tenant.use
    use[provider] = use.get(provider, 0.0) + 1.0
    tenant.use = use


def _behind(provider: Provider | None, name: str) -> Wait:
    if provider is None and name:
        return Wait(Reason.PROVIDER_UNKNOWN, f"there is no RenderProvider {name}")
    return Wait(Reason.BEHIND_OTHERS, "others are in front of it")


_UNTIMED = frozenset(
    {Reason.PROVIDER_HELD, Reason.PROVIDER_UNKNOWN, Reason.CREDENTIALS_MISSING, Reason.BUDGET_EXHAUSTED}
)


def _eta(reason: Reason, position: int, own: int, *, provider: Provider | None, tenant: Tenant) -> int | None:
    if reason in _UNTIMED or provider is None:
        return None
    wait = max(provider.paused_for, provider.reopens_in)
    per_place = provider.service_seconds / max(1, provider.places)
    by_places = max(0, position - max(0, provider.free)) * per_place
    by_rate = max(0.0, position - provider.tokens) / provider.per_second if provider.per_second else 0.0
    by_quota = 0.0
    if tenant.free is not None:
        if not tenant.places:
            return None
        by_quota = max(0, own - max(0, tenant.free)) * provider.service_seconds / tenant.places
    return int(wait + max(by_places, by_rate, by_quota) + 0.5)


def _again_in(stopped: Mapping[LaneKey, Wait], providers: Mapping[str, Provider]) -> float | None:
    """When the clock alone changes something: a token, the end of a pause, a circuit that turns half-open."""
    times = []
    for (name, _), wait in stopped.items():
        provider = providers.get(name)
        if provider is None:
            continue
        if wait.reason is Reason.PROVIDER_THROTTLED:
            token = (1 - provider.tokens) / provider.per_second if provider.tokens < 1 and provider.per_second else 0.0
            times.append(max(provider.paused_for, token))
        elif wait.reason is Reason.CIRCUIT_OPEN and provider.reopens_in > 0:
            times.append(provider.reopens_in)
    return min(times, default=None)


def _copies(tenants: Mapping[str, Tenant]) -> dict[str, Tenant]:
    return {
        name: Tenant(one.namespace, one.weight, one.free, one.places, one.budget_micros, dict(one.use))
        for name, one in tenants.items()
    }


def _copy(one: Provider) -> Provider:
    return Provider(
        name=one.name,
        free=one.free,
        places=one.places,
        tokens=one.tokens,
        per_second=one.per_second,
        open_to=one.open_to,
        reopens_in=one.reopens_in,
        held=one.held,
        no_key=one.no_key,
        paused_for=one.paused_for,
        service_seconds=one.service_seconds,
    )
