"""Who waits, who works, and what is left to give: the state that admission decides over.

Everything here follows from the renders' own statuses (fed in by `render_changed`), from RenderTenants, RenderProviders
and ResourceQuotas, so a restart finds it again. Only tickets are memory: a render that was admitted holds one until its
fence is written, and loses it when that takes too long.
"""

import bisect
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from renderfleet_crds.conditions import Reason
from renderfleet_crds.contract import Stage
from renderfleet_crds.phases import Phase

from .accounts import Account, account_of, spec_changed
from .cache import Cache, Key
from .children.tenant import pods_of
from .clock import Clock
from .decide import admission
from .decide.actions import AskAdmission, TellProvider
from .decide.lifecycle import SHORT_PAUSE_SECONDS, TAKEN_BACK, is_told, pause_reason
from .decide.observed import Wait
from .decide.view import Render
from .times import rfc3339, seconds_of

Body = dict[str, Any]

TICKET_SECONDS = 60.0
"""Within which an admitted render must have written its fence."""
RECENT_SECONDS = 10.0
"""A pod's end reaches the quota's count later than us; for this long an ended pod explains a quota that looks fuller."""
_SECONDS_OF_BUCKET = 120.0
REFUSED_SECONDS = 30.0
"""Between two tries of what the API server refuses to make a Job of."""
_REFUSED_IN_A_ROW = 2
"""One refused Job may have itself to blame; after so many, none between them made, the rest of its lane waits too."""

_HOLDS_POD = frozenset({Phase.RUNNING, Phase.FINALIZING})
_HOLDS_PLACE = frozenset({Phase.RUNNING, Phase.WAITING})
_GOT_NO_POD = TAKEN_BACK | {Reason.JOB_REFUSED}


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one render takes."""

    namespace: str
    provider: str
    also: tuple[str, ...]
    """Other providers that it asks: no place is counted there, but a circuit that is half-open counts it as a probe."""
    holds_pod: bool
    holds_place: bool
    reserved_micros: int
    """What it has cost and may cost yet; what it has cost is counted as spent at its end and not before."""
    actual_micros: int
    finished_at: str
    begun_at: str
    token: str
    got_no_pod: bool
    """Its Job was refused, or refused a pod, and taken back: nothing was called."""
    quota_is_full: bool
    """It was the quota that refused it."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """An admission that has not become a fence yet."""

    key: Key
    uid: str
    lane: admission.LaneKey
    cost_micros: int | None
    """What its start takes of the budget, besides what the render has reserved."""
    until: float


@dataclass(slots=True)
class Refusal:
    """The API server does not take a lane's Jobs."""

    wait: Wait
    in_a_row: int
    until: float


@dataclass(slots=True)
class Spending:
    """What a tenant has spent in one month."""

    month: str
    micros: int = 0
    told_micros: int = 0
    """As much of it as a later operator may take over."""
    told_through: str = ""
    """finishedAt of the latest render that is in that."""
    begun_through: str = ""
    """The same when this process took over: renders are listed in another order than they ended in."""
    untold: list[tuple[str, int]] = field(default_factory=list)
    """(finishedAt, micros) of the rest."""

    def add(self, finished_at: str, micros: int) -> None:
        """A render has ended."""
        self.micros += micros
        self.untold.append((finished_at, micros))

    def tell(self, until: str) -> bool:
        """Have all that ended until then told; True when something is left."""
        self.told_micros += sum(micros for at, micros in self.untold if at <= until)
        self.told_through = max([self.told_through, *(at for at, _ in self.untold if at <= until)])
        self.untold = [one for one in self.untold if one[0] > until]
        return bool(self.untold)


def footprint(body: Body) -> Footprint:
    """What a render takes, by its status."""
    render = Render(body)
    phase = render.phase
    attempts = render.status.get("attempts") or ()
    return Footprint(
        namespace=render.namespace,
        provider=render.provider,
        also=render.providers[1:],
        holds_pod=phase in _HOLDS_POD,
        holds_place=phase in _HOLDS_PLACE,
        reserved_micros=render.reserved_micros,
        actual_micros=render.paid_micros,
        finished_at=str(render.status.get("finishedAt") or ""),
        begun_at=str(attempts[-1].get("startedAt") or "") if attempts else "",
        token=f"{render.uid}/{render.run}/{Stage.START if phase is Phase.WAITING else render.stage}/{render.attempt}",
        got_no_pod=render.status.get("reason") in _GOT_NO_POD,
        quota_is_full=render.status.get("reason") == Reason.QUOTA_EXHAUSTED,
    )


@dataclass(slots=True)
class Fleet:
    """The books of admission."""

    cache: Cache
    clock: Clock
    half_life_seconds: float = 600.0
    wake: Callable[[], None] = lambda: None
    """Asks for an admission pass."""
    provider_moved: Callable[[str], None] = lambda name: None
    """A provider's state changed: its status may want a write."""
    tenant_moved: Callable[[str], None] = lambda name: None
    accounts: dict[str, Account] = field(default_factory=dict)
    spending: dict[str, Spending] = field(default_factory=dict)
    """By namespace."""
    is_ready: bool = False
    """Before this, what is seen is history, not news."""
    _lanes: dict[admission.LaneKey, list[admission.Waiting]] = field(default_factory=dict)
    _lane_of: dict[str, tuple[admission.LaneKey, admission.Waiting]] = field(default_factory=dict)
    _pauses: dict[str, tuple[admission.LaneKey, admission.Waiting, float]] = field(default_factory=dict)
    """Who backs off, how it will wait, and until when (seconds since 1970)."""
    _tickets: dict[str, Ticket] = field(default_factory=dict)
    _pods: dict[str, int] = field(default_factory=dict)
    _reserved: dict[str, int] = field(default_factory=dict)
    _ended: dict[str, deque[float]] = field(default_factory=dict)
    _use: dict[admission.LaneKey, tuple[float, float]] = field(default_factory=dict)
    _stopped: dict[admission.LaneKey, Wait] = field(default_factory=dict)
    _refused: dict[admission.LaneKey, Refusal] = field(default_factory=dict)
    _places: dict[str, Wait] = field(default_factory=dict)
    _starts: dict[str, list[float]] = field(default_factory=dict)
    """Before readiness: when attempts of a provider started lately."""

    # What the cluster tells

    def render_changed(self, key: Key, old: Body | None, new: Body | None) -> None:
        """A render is other than before: adjust what it takes."""
        before = footprint(old) if old else None
        after = footprint(new) if new else None
        freed = False
        if before and before.holds_pod and not (after and after.holds_pod):
            self._pods[before.namespace] -= 1
            if after and after.got_no_pod:
                if after.quota_is_full:
                    self._ended.pop(before.namespace, None)  # so what has ended explains nothing
            else:
                self._ended.setdefault(before.namespace, deque()).append(self.clock.monotonic())
            freed = True
        if new and after and after.holds_pod and not (before and before.holds_pod):
            self._pods[after.namespace] = self._pods.get(after.namespace, 0) + 1
            self._use_ticket(new["metadata"]["uid"])
        if before and before.holds_place and not (after and after.holds_place):
            self._place_freed(before, has_worked=not (after and after.got_no_pod))
            freed = True
        if after and after.holds_place and not (before and before.holds_place):
            self._place_taken(after)
        more = (after.reserved_micros if after else 0) - (before.reserved_micros if before else 0)
        if more:
            self._reserved[key.namespace] = self._reserved.get(key.namespace, 0) + more
            freed = freed or more < 0
        if after and after.finished_at and (before is None or before.finished_at != after.finished_at):
            self._settle(after, before)
        if new is None and old is not None:
            self.leave(old["metadata"]["uid"])
            self.return_ticket(old["metadata"]["uid"])
        if freed:
            self.wake()

    def _place_taken(self, after: Footprint) -> None:
        if account := self.accounts.get(after.provider):
            account.in_flight += 1
            account.started(after.token)
            self.provider_moved(after.provider)
        for other in self._others(after):
            other.started(after.token)
        if not self.is_ready and after.begun_at:
            begun = seconds_of(after.begun_at)
            self._starts.setdefault(after.provider, []).append(begun)
            self._charge((after.provider, after.namespace), begun)

    def _place_freed(self, before: Footprint, *, has_worked: bool) -> None:
        if account := self.accounts.get(before.provider):
            account.in_flight -= 1
            account.forget_probe(before.token)
            if not has_worked:
                account.tokens += 1
            elif before.begun_at:
                account.served(max(0.0, self.clock.now() - seconds_of(before.begun_at)))
            self.provider_moved(before.provider)
        for other in self._others(before):
            other.forget_probe(before.token)

    def _others(self, mark: Footprint) -> list[Account]:
        return [self.accounts[name] for name in mark.also if name in self.accounts]

    def _settle(self, after: Footprint, before: Footprint | None) -> None:
        """A render ended: its cost belongs to the month of its end."""
        if not self.is_ready and after.begun_at and not after.holds_place:
            begun = seconds_of(after.begun_at)
            if self.clock.now() - begun < 8 * self.half_life_seconds:
                self._charge((after.provider, after.namespace), begun)
            if self.clock.now() - begun < _SECONDS_OF_BUCKET:
                self._starts.setdefault(after.provider, []).append(begun)
        if not after.actual_micros:
            return
        month = after.finished_at[:7]
        spent = self._spending(after.namespace)
        if month != spent.month or (not self.is_ready and after.finished_at <= spent.begun_through):
            return
        known = before.actual_micros if before and before.finished_at else 0
        spent.add(after.finished_at, max(0, after.actual_micros - known))
        if name := self.cache.tenant_of.get(after.namespace):
            self.tenant_moved(name)

    def _spending(self, namespace: str) -> Spending:
        """This month's spending, begun from what the RenderTenant's status says."""
        month = rfc3339(self.clock.now())[:7]
        spent = self.spending.get(namespace)
        if spent is None or spent.month != month:
            tenant = self.cache.tenants.get(self.cache.tenant_of.get(namespace, ""))
            status = (tenant or {}).get("status") or {}
            spent = Spending(month)
            if status.get("budgetMonth") == month:
                micros, through = int(status.get("spentMicros") or 0), str(status.get("spentThrough") or "")
                spent = Spending(month, micros, micros, through, through)
            self.spending[namespace] = spent
        return spent

    def spent(self, namespace: str) -> Spending:
        """What a tenant has spent this month."""
        return self._spending(namespace)

    def provider_seen(self, body: Body) -> bool:
        """A RenderProvider is there or was edited; True when an edit ended a hold of ours."""
        name = body["metadata"]["name"]
        account = self.accounts.get(name)
        if account is None:
            account = self.accounts[name] = account_of(body, self.clock.now())
            for _, render in self.cache.live():
                mark = footprint(render)
                if mark.provider == name and mark.holds_place:
                    account.in_flight += 1
            account.tickets = sum(1 for one in self._tickets.values() if one.lane[0] == name)
            self.wake()
            return False
        edited = spec_changed(account, body)
        if edited:
            self.wake()
        return edited

    def provider_gone(self, name: str) -> None:
        """A RenderProvider was deleted."""
        self.accounts.pop(name, None)

    def ready(self) -> None:
        """Everything has been listed: from now on what is seen is news."""
        now = self.clock.now()
        for name, account in self.accounts.items():
            self._replay(account, sorted(self._starts.get(name, ())), now)
        self._starts.clear()
        self.is_ready = True
        self.wake()

    def _replay(self, account: Account, starts: list[float], now: float) -> None:
        """Tokens as they would be had this process given them out."""
        if not starts:
            return
        account.tokens_at = 0.0
        account.refill(min(starts[0], now))
        for at in starts:
            account.refill(min(at, now))
            account.tokens -= 1
        account.refill(now)

    # What renders ask

    def ask(self, key: Key, uid: str, asked: AskAdmission) -> None:
        """Have a render stand in its lane, or know how it will; asking again with other words moves it."""
        lane = (asked.providers[0] if asked.providers else "", key.namespace)
        one = admission.Waiting(uid, (-asked.priority, asked.since, uid), asked.cost_micros, asked.providers[1:])
        if asked.not_before is not None:
            if uid not in self._pauses:
                self.leave(uid)
                self.return_ticket(uid)
            self._pauses[uid] = (lane, one, asked.not_before)
            return
        if uid in self._tickets:
            return
        if self._pauses.pop(uid, None):
            self._places.pop(uid, None)
        known = self._lane_of.get(uid)
        if known is not None:
            if known == (lane, one):
                return
            self.leave(uid)
        bisect.insort(self._lanes.setdefault(lane, []), one, key=_order)
        self._lane_of[uid] = (lane, one)
        if len(self._lanes[lane]) == 1 or lane not in self._stopped:
            self.wake()
        if lane[0]:
            self.provider_moved(lane[0])

    def leave(self, uid: str) -> None:
        """A render stands in no lane any more, nor will it by itself."""
        known = self._lane_of.pop(uid, None)
        self._pauses.pop(uid, None)
        self._places.pop(uid, None)
        if known is None:
            return
        lane, one = known
        waiting = self._lanes[lane]
        at = bisect.bisect_left(waiting, one.order, key=_order)
        if at < len(waiting) and waiting[at].uid == uid:
            del waiting[at]
        if not waiting:
            del self._lanes[lane]
            self._stopped.pop(lane, None)
        if lane[0]:
            self.provider_moved(lane[0])

    def has_ticket(self, uid: str) -> bool:
        """The render was admitted."""
        return uid in self._tickets

    def _use_ticket(self, uid: str) -> None:
        """The fence is written: the render itself counts from now on."""
        ticket = self._tickets.pop(uid, None)
        if ticket and (account := self.accounts.get(ticket.lane[0])):
            account.tickets -= 1

    def return_ticket(self, uid: str) -> None:
        """The render could not start after all; the start was not used."""
        ticket = self._tickets.pop(uid, None)
        if ticket is None:
            return
        if account := self.accounts.get(ticket.lane[0]):
            account.tickets -= 1
            account.tokens += 1
        self.wake()

    def job_refused(self, render: Render, message: str) -> None:
        """The API server did not take the render's Job."""
        lane = _lane_of_start(render)
        before = self._refused.get(lane)
        self._refused[lane] = Refusal(
            wait=Wait(Reason.JOB_REFUSED, message),
            in_a_row=(before.in_a_row if before else 0) + 1,
            until=self.clock.now() + REFUSED_SECONDS,
        )

    def job_made(self, render: Render) -> None:
        """It did."""
        if self._refused.pop(_lane_of_start(render), None) is not None:
            self.wake()

    def wait_of(self, uid: str) -> Wait | None:
        """Why a render in a lane, or one that backs off, does not start; None before the first pass over it."""
        if uid in self._pauses:
            return self._places.get(uid)
        known = self._lane_of.get(uid)
        if known is None:
            return None
        placed = self._places.get(uid)
        stopped = self._stopped.get(known[0])
        if placed is None:
            return stopped
        return placed if stopped is None else replace(placed, reason=stopped.reason, message=stopped.message)

    def tell(self, news: TellProvider, secret_version: str | None) -> None:
        """What an attempt tells about its provider."""
        account = self.accounts.get(news.provider)
        if account is None:
            return
        if account.tell(news, self.clock.now(), secret_version):
            self.provider_moved(news.provider)
            self.wake()

    # Passes

    def run_pass(self) -> tuple[list[Key], float | None]:
        """Give tickets to all that may start; comes back with them, and when time alone may let more in."""
        now = self.clock.now()
        self._expire(now)
        if not self._lanes:
            return [], None
        tenants, providers = self._tenants(self._lanes), self._providers(now)
        refused = self._refused_lanes()
        made = admission.admit(self._open_lanes(refused, now), tenants, providers)
        keys: list[Key] = []
        for uid in made.admitted:
            lane = self._lane_of[uid][0]
            if lane in refused:
                refused[lane].until = now + REFUSED_SECONDS
            key = self._admit(uid, now)
            if key is not None:
                keys.append(key)
        resting = {lane: one for lane, one in refused.items() if one.until > now and lane in self._lanes}
        self._stopped = {**made.stopped, **{lane: one.wait for lane, one in resting.items()}}
        times = [made.again_in, *(one.until - now for one in resting.values())]
        return keys, min((time for time in times if time is not None), default=None)

    def _refused_lanes(self) -> dict[admission.LaneKey, Refusal]:
        """Those of which several Jobs in a row were refused, so that not only one render is to blame."""
        return {
            lane: one
            for lane, one in self._refused.items()
            if lane in self._lanes and one.in_a_row >= _REFUSED_IN_A_ROW
        }

    def _open_lanes(self, refused: Mapping[admission.LaneKey, Refusal], now: float) -> admission.Lanes:
        """Who may be let in: of a refused lane nobody while it rests, then one, to find out whether it was mended."""
        return {
            lane: waiting[:1] if lane in refused else waiting
            for lane, waiting in self._lanes.items()
            if lane not in refused or refused[lane].until <= now
        }

    def _admit(self, uid: str, now: float) -> Key | None:
        lane, one = self._lane_of[uid]
        self.leave(uid)
        key = self.cache.key_of(uid)
        if key is None:
            return None
        self._tickets[uid] = Ticket(key, uid, lane, one.cost_micros, now + TICKET_SECONDS)
        if account := self.accounts.get(lane[0]):
            account.grant()
        self._charge(lane, now)
        return key

    def run_places(self) -> list[Key]:
        """Work out every waiting render's position and expected start; comes back with those to be looked at for it.

        Who backs off is looked at only for news: its place may be the same for long, and looks are as few as writes.
        """
        now = self.clock.now()
        pauses: dict[admission.LaneKey, list[admission.BackingOff]] = {}
        for lane, one, until in self._pauses.values():
            pauses.setdefault(lane, []).append(admission.BackingOff(one, max(0.0, until - now)))
        tenants = self._tenants({*self._lanes, *pauses})
        self._places = admission.places(self._lanes, tenants, self._providers(now), pauses)
        keys = (self.cache.key_of(uid) for uid in self._places if uid not in self._pauses or self._is_news(uid, now))
        return [key for key in keys if key is not None]

    def _is_news(self, uid: str, now: float) -> bool:
        """Who backs off is to be told its place: not if its pause is nearly over, or its status says so already."""
        key = self.cache.key_of(uid)
        body = self.cache.render(key) if key else None
        if body is None or self._pauses[uid][2] - now < SHORT_PAUSE_SECONDS:
            return False
        render = Render(body)
        return not is_told(render, replace(self._places[uid], reason=pause_reason(render)))

    def reckoned(self) -> int:
        """How many have a place in the queue, or will."""
        return len(self._places)

    def _expire(self, now: float) -> None:
        for uid in [uid for uid, one in self._tickets.items() if one.until < now]:
            self.return_ticket(uid)

    def _tenants(self, lanes: Iterable[admission.LaneKey]) -> dict[str, admission.Tenant]:
        out: dict[str, admission.Tenant] = {}
        for lane in lanes:
            one = out.get(lane[1])
            if one is None:
                one = out[lane[1]] = self._tenant(lane[1])
            assert isinstance(one.use, dict)
            one.use[lane[0]] = self._used(lane)
        return out

    def _tenant(self, namespace: str) -> admission.Tenant:
        tenant = self.cache.tenants.get(self.cache.tenant_of.get(namespace, ""))
        spec: Mapping[str, Any] = (tenant or {}).get("spec") or {}
        held = [one for one in self._tickets.values() if one.key.namespace == namespace]
        places, free = self._pods_left(namespace, len(held))
        budget: int | None = None
        if spec.get("monthlyBudgetMicros") is not None:
            promised = self._reserved.get(namespace, 0) + sum(one.cost_micros or 0 for one in held)
            budget = int(spec["monthlyBudgetMicros"]) - self._spending(namespace).micros - promised
        return admission.Tenant(
            namespace=namespace,
            weight=int(spec.get("weight", 100)),
            free=free,
            places=places,
            budget_micros=budget,
            use={},
        )

    def _pods_left(self, namespace: str, tickets: int) -> tuple[int | None, int | None]:
        """(pods the quota allows, pods that may be added). What others run there counts too."""
        allowed, used = pods_of(self.cache.quotas.get(namespace))
        if allowed is None:
            return None, None
        ours = self._pods.get(namespace, 0) + tickets
        ended = self._ended.get(namespace) or deque()
        horizon = self.clock.monotonic() - RECENT_SECONDS
        while ended and ended[0] < horizon:
            ended.popleft()
        foreign = max(0, (used or 0) - ours - len(ended))
        return allowed, allowed - ours - foreign

    def _providers(self, now: float) -> dict[str, admission.Provider]:
        return {name: account.snapshot(now) for name, account in self.accounts.items()}

    def _charge(self, lane: admission.LaneKey, at: float) -> None:
        value, since = self._use.get(lane, (0.0, at))
        if at >= since:
            self._use[lane] = (self._decayed(value, at - since) + 1.0, at)
        else:
            self._use[lane] = (value + self._decayed(1.0, since - at), since)

    def _used(self, lane: admission.LaneKey) -> float:
        value, since = self._use.get(lane, (0.0, 0.0))
        return self._decayed(value, self.clock.now() - since) if value else 0.0

    def _decayed(self, value: float, seconds: float) -> float:
        return float(value * 0.5 ** (max(0.0, seconds) / self.half_life_seconds))

    # What is told outside

    def waiting_for(self, provider: str) -> int:
        """How many wait for a provider."""
        return sum(len(lane) for key, lane in self._lanes.items() if key[0] == provider)

    def waiting_by_lane(self) -> dict[admission.LaneKey, int]:
        """How many wait in each lane."""
        return {key: len(lane) for key, lane in self._lanes.items()}

    def waiting_outside(self) -> Iterator[tuple[str, str]]:
        """(provider, reason told) of each render that waits but stands in no lane: its turn would be no use to it yet."""
        for _, body in self.cache.live():
            render = Render(body)
            told = render.status.get("reason")
            is_waiting = render.phase in (Phase.QUEUED, Phase.RETRYING)
            if is_waiting and told and render.uid not in self._lane_of and render.uid not in self._tickets:
                yield render.provider, str(told)

    def waiting_by_stage(self) -> dict[Stage, tuple[int, float]]:
        """How many wait for each stage, and since when the longest-waiting one does (seconds since 1970)."""
        out: dict[Stage, tuple[int, float]] = {}
        for uid, (_, one) in self._lane_of.items():
            key = self.cache.key_of(uid)
            body = self.cache.render(key) if key else None
            if body is not None:
                stage = Render(body).stage
                stage = Stage.FINALIZE if stage is Stage.POLL else stage
                count, since = out.get(stage, (0, one.order[1]))
                out[stage] = (count + 1, min(since, one.order[1]))
        return out

    def stopped_by_lane(self) -> dict[admission.LaneKey, Wait]:
        """Why lanes stand still."""
        return dict(self._stopped)

    def oldest_since(self) -> dict[admission.LaneKey, float]:
        """Since when the longest-waiting render of each lane waits (seconds since 1970)."""
        return {key: min(one.order[1] for one in lane) for key, lane in self._lanes.items() if lane}

    def pods_in_use(self) -> dict[str, int]:
        """Runner pods by namespace, as far as we have them started."""
        return {namespace: count for namespace, count in self._pods.items() if count}

    def quota_share(self, namespace: str) -> float | None:
        """How much of a tenant's pods is in use, from 0 to 1."""
        places, free = self._pods_left(namespace, 0)
        return None if not places or free is None else max(0.0, min(1.0, 1 - free / places))


def _lane_of_start(render: Render) -> admission.LaneKey:
    """The lane that a render started from."""
    return ("" if render.stage is Stage.FINALIZE else render.provider, render.namespace)


def _order(one: admission.Waiting) -> admission.Order:
    return one.order
