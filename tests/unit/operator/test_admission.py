"""Who starts next, and why the others wait. A fake clock, no cluster."""

import random
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from renderfleet_crds.conditions import Reason
from renderfleet_operator.decide.admission import BackingOff, LaneKey, Provider, Tenant, Waiting, admit, places
from renderfleet_operator.decide.observed import Wait


def waits(
    uid: str, *, priority: int = 100, since: float = 0.0, cost: int | None = 0, also: tuple[str, ...] = ()
) -> Waiting:
    return Waiting(uid, (-priority, since, uid), cost, also)


def lane(*waiting: Waiting) -> list[Waiting]:
    return sorted(waiting, key=lambda one: one.order)


def provider(name: str = "p", **more: Any) -> dict[str, Provider]:
    given: dict[str, Any] = {"free": 10, "places": 10, "tokens": 100.0, "per_second": 1.0, **more}
    return {name: Provider(name=name, **given)}


def tenants(*names: str, **more: Any) -> dict[str, Tenant]:
    return {name: Tenant(name, use={}, **more) for name in names}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"held": "bad key"}, Reason.PROVIDER_HELD, id="held"),
        pytest.param({"no_key": "no Secret"}, Reason.CREDENTIALS_MISSING, id="no key"),
        pytest.param({"open_to": 0, "reopens_in": 5.0}, Reason.CIRCUIT_OPEN, id="circuit"),
        pytest.param({"paused_for": 3.0}, Reason.PROVIDER_THROTTLED, id="asked for a pause"),
        pytest.param({"tokens": 0.2}, Reason.PROVIDER_THROTTLED, id="no token"),
        pytest.param({"free": 0}, Reason.BEHIND_OTHERS, id="no place"),
    ],
)
def test_a_provider_that_cannot_take_more_stops_its_renders_only(changes: dict[str, Any], reason: Reason) -> None:
    lanes = {("p", "a"): lane(waits("1")), ("q", "a"): lane(waits("2"))}

    made = admit(lanes, tenants("a"), provider(**changes) | provider("q"))

    assert made.admitted == ["2"]
    assert made.stopped[("p", "a")].reason is reason


@pytest.mark.parametrize(
    ("tenant", "reason"),
    [
        (Tenant("a", free=0, places=4, use={}), Reason.QUOTA_EXHAUSTED),
        (Tenant("a", budget_micros=0, use={}), Reason.BUDGET_EXHAUSTED),
    ],
)
def test_a_tenant_that_has_nothing_left_stops_itself_only(tenant: Tenant, reason: Reason) -> None:
    lanes = {("p", "a"): lane(waits("1")), ("p", "b"): lane(waits("2"))}

    made = admit(lanes, {"a": tenant} | tenants("b"), provider())

    assert made.admitted == ["2"]
    assert made.stopped[("p", "a")].reason is reason


def test_no_more_start_than_there_is_room_for() -> None:
    lanes = {("p", "a"): lane(*(waits(str(n), since=n) for n in range(10)))}

    made = admit(lanes, {"a": Tenant("a", free=5, places=5, use={})}, provider(free=3, tokens=4.0))

    assert made.admitted == ["0", "1", "2"]


def test_half_open_lets_a_probe_through() -> None:
    lanes = {("p", "a"): lane(waits("1"), waits("2"))}

    made = admit(lanes, tenants("a"), provider(open_to=1))

    assert made.admitted == ["1"]
    assert made.stopped[("p", "a")].reason is Reason.CIRCUIT_OPEN


def test_a_budget_lets_a_cheaper_one_pass() -> None:
    lanes = {("p", "a"): lane(waits("dear", cost=100), waits("cheap", since=1, cost=10))}

    made = admit(lanes, {"a": Tenant("a", budget_micros=50, use={})}, provider())

    assert made.admitted == ["cheap"]
    assert made.stopped[("p", "a")].reason is Reason.BUDGET_EXHAUSTED


@pytest.mark.parametrize("left", [0, -50])
def test_a_budget_that_is_used_up_stops_what_is_new_and_not_what_was_begun_on_it(left: int) -> None:
    lanes = {
        ("", "a"): lane(waits("finalize", priority=1001, cost=None)),
        ("p", "a"): lane(waits("new"), waits("dear", cost=10), waits("retried", since=1, cost=None), waits("newer")),
    }

    made = admit(lanes, {"a": Tenant("a", budget_micros=left, use={})}, provider())

    assert made.admitted == ["finalize", "retried"]
    assert made.stopped[("p", "a")].reason is Reason.BUDGET_EXHAUSTED


def test_a_second_provider_that_is_down_stops_only_who_needs_it() -> None:
    lanes = {("p", "a"): lane(waits("prompt", also=("q",)), waits("text", since=1))}

    made = admit(lanes, tenants("a"), provider() | provider("q", held="x"))

    assert made.admitted == ["text"]


def test_priority_comes_before_fairness_and_age() -> None:
    lanes = {("p", "a"): lane(waits("urgent", priority=900, since=99)), ("p", "b"): lane(waits("old", since=1))}
    busy = {"a": Tenant("a", use={"p": 50.0})} | tenants("b")

    assert admit(lanes, busy, provider(free=1)).admitted == ["urgent"]


def test_who_used_less_for_its_weight_goes_first() -> None:
    lanes = {("p", "a"): lane(waits("a")), ("p", "b"): lane(waits("b", since=1))}
    used = {"a": Tenant("a", weight=100, use={"p": 5.0}), "b": Tenant("b", weight=200, use={"p": 8.0})}

    assert admit(lanes, used, provider(free=1)).admitted == ["b"]


def test_what_is_paid_already_needs_a_pod_only() -> None:
    lanes = {("", "a"): lane(waits("finalize", priority=1001)), ("p", "a"): lane(waits("new"))}

    made = admit(lanes, {"a": Tenant("a", free=1, places=1, use={})}, provider(held="x"))

    assert made.admitted == ["finalize"]


def test_time_alone_is_waited_for_no_longer_than_needed() -> None:
    lanes = {("p", "a"): lane(waits("1"))}

    assert admit(lanes, tenants("a"), provider(tokens=0.5, per_second=0.1)).again_in == pytest.approx(5.0)
    assert admit(lanes, tenants("a"), provider(open_to=0, reopens_in=7.0)).again_in == pytest.approx(7.0)
    assert admit(lanes, tenants("a"), provider(free=0)).again_in is None


def test_everyone_has_a_position_and_an_expected_start() -> None:
    lanes = {("p", "a"): lane(*(waits(f"a{n}", since=n) for n in range(4))), ("p", "b"): lane(waits("b", since=9))}

    found = places(lanes, tenants("a", "b"), provider(free=0, places=2, service_seconds=10.0))

    assert sorted(one.position or 0 for one in found.values()) == [1, 2, 3, 4, 5]
    assert (found["b"].position or 9) <= 2, "fair share puts another tenant's only render in front"
    assert [found[f"a{n}"].eta_seconds for n in range(4)] == sorted(found[f"a{n}"].eta_seconds for n in range(4))  # type: ignore[type-var]
    assert found["a0"].eta_seconds == 5


def test_a_held_provider_has_no_expected_start() -> None:
    found = places({("p", "a"): lane(waits("1"))}, tenants("a"), provider(held="x"))

    assert (found["1"].position, found["1"].eta_seconds) == (1, None)


class TestBackingOff:
    """Who pauses before another try has the place it would have, and is never promised a start before its pause ends."""

    def test_it_has_the_place_that_admission_would_give_it(self) -> None:
        lanes = {("p", "a"): lane(*(waits(f"a{n}", since=n) for n in range(4)))}
        full = provider(free=0, places=2, service_seconds=10.0)

        found = places(lanes, tenants("a"), full, {("p", "a"): [BackingOff(waits("x", since=1.5, cost=None), 7.2)]})

        assert found["x"] == Wait(Reason.BACKING_OFF, "", position=3, eta_seconds=15)
        assert {uid: found[uid] for uid in found if uid != "x"} == places(lanes, tenants("a"), full)

    def test_a_pause_that_is_longer_than_the_queue_is_what_it_waits_for(self) -> None:
        alone = {("p", "a"): [BackingOff(waits("x", cost=None), 7.2)]}

        assert places({}, tenants("a"), provider(), alone)["x"] == Wait(Reason.BACKING_OFF, "", 1, 8)

    def test_those_whose_pause_is_longer_are_not_in_its_way(self) -> None:
        paused = [
            BackingOff(waits(uid, since=n, cost=None), left) for n, (uid, left) in enumerate([("x", 90.0), ("y", 5.0)])
        ]

        found = places({}, tenants("a"), provider(), {("p", "a"): paused})

        assert (found["x"].position, found["y"].position) == (1, 1)

    @pytest.mark.parametrize(
        ("key", "eta_seconds"),
        [
            pytest.param(("p", "a"), None, id="a held provider"),
            pytest.param(("", "a"), 8, id="what needs a pod only"),
            pytest.param(("", "full"), None, id="and has none"),
        ],
    )
    def test_where_nobody_can_tell_nothing_is_promised(self, key: LaneKey, eta_seconds: int | None) -> None:
        everyone = tenants("a") | {"full": Tenant("full", free=0, places=2, use={})}

        found = places({}, everyone, provider(held="x"), {key: [BackingOff(waits("x", cost=None), 8.0)]})

        assert (found["x"].position, found["x"].eta_seconds) == (1, eta_seconds)

    def test_a_budget_that_is_used_up_does_not_keep_what_was_set_aside(self) -> None:
        poor = {"a": Tenant("a", budget_micros=0, use={})}
        lanes = {("p", "a"): lane(waits("1", cost=5))}

        found = places(lanes, poor, provider(), {("p", "a"): [BackingOff(waits("x", since=1, cost=None), 8.0)]})

        assert (found["1"].eta_seconds, found["x"].eta_seconds) == (None, 8)

    @settings(max_examples=150, deadline=None)
    @given(
        waiting=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.integers(0, 50)), max_size=12),
        paused=st.lists(
            st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.integers(0, 50), st.floats(0, 600)),
            min_size=1,
            max_size=8,
        ),
        free=st.integers(0, 3),
        tokens=st.floats(0, 5),
        held=st.sampled_from([None, None, None, "x"]),
    )
    def test_whatever_waits(
        self,
        waiting: list[tuple[str, int, int]],
        paused: list[tuple[str, int, int, float]],
        free: int,
        tokens: float,
        held: str | None,
    ) -> None:
        lanes: dict[LaneKey, list[Waiting]] = {}
        for n, (tenant, priority, since) in enumerate(waiting):
            lanes.setdefault(("p", tenant), []).append(waits(f"w{n}", priority=priority, since=since))
        later: dict[LaneKey, list[BackingOff]] = {}
        for n, (tenant, priority, since, left) in enumerate(paused):
            one = waits(f"x{n}", priority=priority, since=since, cost=None)
            later.setdefault(("p", tenant), []).append(BackingOff(one, left))
        lanes = {key: lane(*those) for key, those in lanes.items()}
        world = provider(free=free, places=3, tokens=tokens, held=held)

        found = places(lanes, tenants(*"abc"), world, later)

        left_of = {one.waiting.uid: one.left_seconds for those in later.values() for one in those}
        for uid, left in left_of.items():
            wait = found[uid]
            assert wait.position is not None and wait.position >= 1
            assert (wait.eta_seconds is None) is (held is not None)
            assert wait.eta_seconds is None or wait.eta_seconds >= left
        assert {uid: found[uid] for uid in found if uid not in left_of} == places(lanes, tenants(*"abc"), world)
        # Were all of them to wait now, admission would take them in the same order.
        everyone = {
            key: lane(*lanes.get(key, ()), *(one.waiting for one in later.get(key, ()))) for key in {*lanes, *later}
        }
        order = places(everyone, tenants(*"abc"), world)
        last = max(left_of, key=lambda uid: left_of[uid])
        if list(left_of.values()).count(left_of[last]) == 1:
            assert found[last].position == order[last].position, "all others are there when the longest pause ends"


def _seconds(do: Callable[[], object]) -> float:
    """The quickest of a few, which other load on the machine disturbs least."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        do()
        times.append(time.perf_counter() - began)
    return min(times)


def test_a_pass_costs_what_it_admits_and_places_what_waits() -> None:
    """Ten times as many wait: a pass looks at the heads of as many lanes, and to place them all takes ten times, or so."""

    def passes(waiting: int) -> tuple[float, float]:
        rng = random.Random(7)
        lanes: dict[LaneKey, list[Waiting]] = {
            (f"p{n % 3}", f"t{n % 50}"): lane(*(waits(f"{n}-{i}", since=rng.random()) for i in range(waiting // 150)))
            for n in range(150)
        }
        paused = {
            key: [
                BackingOff(waits(f"{one.uid}-again", since=rng.random(), cost=None), 600 * rng.random())
                for one in those
            ]
            for key, those in lanes.items()
        }
        providers = provider("p0", free=5) | provider("p1", free=5) | provider("p2", free=5)
        everyone = [f"t{n}" for n in range(50)]
        assert len(places(lanes, tenants(*everyone), providers, paused)) == 2 * sum(map(len, lanes.values()))
        return (
            _seconds(lambda: admit(lanes, tenants(*everyone), dict(providers))),
            _seconds(lambda: places(lanes, tenants(*everyone), providers, paused)),
        )

    few, many = passes(600), passes(6000)

    assert many[0] < 4 * few[0]
    assert many[1] < 40 * few[1]


class Simulation:
    """One provider with a few places, fixed service time, decayed use; starts and ends on a fake clock."""

    def __init__(self, places_: int, service_seconds: float, half_life: float = 600.0) -> None:
        self.now = 0.0
        self.places = places_
        self.service = service_seconds
        self.half_life = half_life
        self.lanes: dict[LaneKey, list[Waiting]] = {}
        self.ends: deque[float] = deque()
        self.started: dict[str, float] = {}
        self.use: dict[str, tuple[float, float]] = {}
        self.weights: dict[str, int] = {}

    def put(self, tenant: str, *uids: str, weight: int = 100) -> None:
        self.weights[tenant] = weight
        self.lanes.setdefault(("p", tenant), []).extend(waits(uid, since=self.now) for uid in uids)

    def used(self, tenant: str) -> float:
        value, at = self.use.get(tenant, (0.0, 0.0))
        return float(value * 0.5 ** ((self.now - at) / self.half_life))

    def run(self, until: float) -> None:
        while self.now <= until:
            while self.ends and self.ends[0] <= self.now:
                self.ends.popleft()
            made = admit(
                self.lanes,
                {key[1]: Tenant(key[1], self.weights[key[1]], use={"p": self.used(key[1])}) for key in self.lanes},
                provider(free=self.places - len(self.ends), places=self.places, tokens=1e9),
            )
            for uid in made.admitted:
                for key, waiting in self.lanes.items():
                    if any(one.uid == uid for one in waiting):
                        waiting[:] = [one for one in waiting if one.uid != uid]
                        self.use[key[1]] = (self.used(key[1]) + 1, self.now)
                self.started[uid] = self.now
                self.ends.append(self.now + self.service)
            self.now += 1.0


def test_a_tenant_that_dumps_thousands_delays_anothers_single_render_by_one_service_time_at_most() -> None:
    world = Simulation(places_=4, service_seconds=20.0)
    world.put("crowd", *(f"c{n:04}" for n in range(5000)))
    world.run(300)
    world.put("single", "lonely")

    world.run(world.now + 60)

    assert world.started["lonely"] - 301 <= 20.0


def test_shares_follow_weights_while_both_wait() -> None:
    world = Simulation(places_=10, service_seconds=10.0)
    world.put("heavy", *(f"h{n:03}" for n in range(600)), weight=300)
    world.put("light", *(f"l{n:03}" for n in range(600)), weight=100)

    world.run(500)

    counts = Counter(uid[0] for uid in world.started)
    assert counts["h"] / counts["l"] == pytest.approx(3.0, rel=0.1)
