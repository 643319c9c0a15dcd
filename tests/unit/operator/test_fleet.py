"""The books of admission: what is taken, what is given, and that a restart finds it again."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from renderfleet_crds import meta
from renderfleet_crds.conditions import Reason
from renderfleet_operator.accounts import account_of
from renderfleet_operator.cache import Cache, Key
from renderfleet_operator.decide.actions import AskAdmission, News, TellProvider, WriteStatus
from renderfleet_operator.decide.lifecycle import decide
from renderfleet_operator.decide.observed import Wait
from renderfleet_operator.decide.view import Render
from renderfleet_operator.fleet import REFUSED_SECONDS, Fleet
from renderfleet_operator.times import rfc3339

from .builders import NOW, attempt, body, ended, running, seen, waiting


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


def provider(
    name: str = "openai", status: dict[str, Any] | None = None, version: int = 1, **spec: Any
) -> dict[str, Any]:
    limits = {"inFlight": 2, "perMinute": 60, "burst": 10}
    about = {"name": name, "resourceVersion": str(version), "generation": 1}
    return {"metadata": about, "spec": {"vendor": name, "limits": limits, **spec}, "status": status or {}}


def quota(hard: int, used: int = 0, version: int = 1) -> dict[str, Any]:
    about = {"name": meta.QUOTA_NAME, "namespace": "rf-acme", "resourceVersion": str(version)}
    return {"metadata": about, "spec": {"hard": {"pods": str(hard)}}, "status": {"used": {"pods": str(used)}}}


TENANT: dict[str, Any] = {"metadata": {"name": "acme", "resourceVersion": "1", "uid": "t"}, "spec": {"weight": 100}}


def make(*bodies: dict[str, Any], providers: list[dict[str, Any]] | None = None, **tenant: Any) -> tuple[Fleet, Clock]:
    """A fleet that has listed all this."""
    clock = Clock()
    cache = Cache()
    fleet = Fleet(cache, clock)
    cache.on_render = fleet.render_changed
    cache.put_tenant({**TENANT, "spec": {**TENANT["spec"], **tenant}, "metadata": dict(TENANT["metadata"])})
    for one in providers or [provider()]:
        cache.put_provider(one)
        fleet.provider_seen(one)
    for one in bodies:
        cache.put_render(one)
    fleet.ready()
    return fleet, clock


def put(fleet: Fleet, name: str, **ask: Any) -> str:
    """A render that waits."""
    uid = f"uid-{name}"
    one = body(name=name, uid=uid)
    fleet.cache.put_render(one)
    given = {"priority": 100, "since": NOW, "cost_micros": 0, "providers": ("openai",), **ask}
    fleet.ask(Key("AvatarRender", "rf-acme", name), uid, AskAdmission(**given))
    return uid


def test_who_is_let_in_holds_a_ticket_that_counts() -> None:
    fleet, _ = make()
    uids = [put(fleet, f"r{n}") for n in range(3)]

    keys, _ = fleet.run_pass()

    assert [key.name for key in keys] == ["r0", "r1"]
    assert [fleet.has_ticket(uid) for uid in uids] == [True, True, False]
    assert fleet.run_pass()[0] == []
    wait = fleet.wait_of(uids[2])
    assert wait is not None
    assert wait.reason is Reason.BEHIND_OTHERS


def test_a_ticket_becomes_the_render_itself_and_its_end_frees_the_place() -> None:
    fleet, _ = make()
    uid = put(fleet, "r0")
    fleet.run_pass()
    # Perhaps the watch tells of the fence before the API server answers for it, or the answer never comes.
    fleet.cache.put_render(body(name="r0", uid=uid, status=running(), version=6))
    account = fleet.accounts["openai"]
    assert (account.in_flight, account.tickets) == (1, 0)

    fleet.cache.put_render(body(name="r0", uid=uid, status=ended(), version=7))

    assert fleet.accounts["openai"].in_flight == 0
    assert fleet.pods_in_use() == {}


class TestBackingOff:
    """Who pauses before another try takes nobody's place, but knows its own."""

    def pausing(self) -> tuple[Fleet, Clock, str]:
        fleet, clock = make()
        for n in range(3):
            put(fleet, f"r{n}")
        return fleet, clock, put(fleet, "again", since=NOW - 50, cost_micros=None, not_before=NOW + 30)

    @pytest.mark.parametrize(
        ("told", "left", "is_news"),
        [
            pytest.param({}, 30, True, id="told nothing yet"),
            pytest.param({"position": 1, "etaSeconds": 30}, 30, False, id="told just that"),
            pytest.param({"position": 1, "etaSeconds": 60}, 30, True, id="told of another time"),
            pytest.param({}, 3, False, id="not worth it any more"),
        ],
    )
    def test_who_has_nothing_to_be_told_takes_no_write_from_those_who_have(
        self, told: dict[str, Any], left: int, is_news: bool
    ) -> None:
        fleet, _ = make()
        uid = put(fleet, "again", cost_micros=None, not_before=NOW + left)
        status = running(
            "AvatarRender", attempt(1, category="transient"), phase="Retrying", reason="BackingOff", queue=told
        )
        fleet.cache.put_render(body(name="again", uid=uid, status=status, version=6))

        assert bool(fleet.run_places()) is is_news

    def test_it_is_let_in_by_nobody_and_counts_nowhere(self) -> None:
        fleet, _, _ = self.pausing()

        keys, _ = fleet.run_pass()

        assert [key.name for key in keys] == ["r0", "r1"]
        assert fleet.waiting_for("openai") == 1
        assert fleet.oldest_since() == {("openai", "rf-acme"): NOW}

    def test_it_is_told_its_place_and_when_it_may_start(self) -> None:
        fleet, clock, uid = self.pausing()
        assert fleet.wait_of(uid) is None
        clock.time += 10

        assert Key("AvatarRender", "rf-acme", "again") in fleet.run_places()

        assert fleet.wait_of(uid) == Wait(Reason.BACKING_OFF, "", 1, 20)

    def test_it_waits_as_any_other_once_its_pause_is_over(self) -> None:
        fleet, _, uid = self.pausing()
        fleet.run_places()

        put(fleet, "again", since=NOW - 50, cost_micros=None)

        assert fleet.wait_of(uid) is None, "what was told of the pause is no news of the wait"
        assert [key.name for key in fleet.run_pass()[0]] == ["again", "r0"]

    def test_who_leaves_is_reckoned_with_no_more(self) -> None:
        fleet, _, uid = self.pausing()

        fleet.leave(uid)

        assert "again" not in {key.name for key in fleet.run_places()}

    def test_a_place_in_line_and_a_ticket_are_given_back(self) -> None:
        fleet, _, _ = self.pausing()
        fleet.run_pass()

        for name in ("r0", "r2"):
            put(fleet, name, not_before=NOW + 30)

        assert not fleet.has_ticket("uid-r0")
        assert fleet.waiting_for("openai") == 0

    def test_also_where_nobody_waits(self) -> None:
        fleet, _ = make()
        uid = put(fleet, "again", cost_micros=None, not_before=NOW + 30)

        fleet.run_places()

        assert fleet.wait_of(uid) == Wait(Reason.BACKING_OFF, "", 1, 30)


def test_a_start_that_the_quota_took_back_says_nothing_of_how_long_a_render_takes() -> None:
    """All in line would be told that their turn comes at once, the more often the quota refuses."""
    fleet, _ = make(body(status=running()))
    fleet.accounts["openai"].service_seconds = 20.0

    fleet.cache.put_render(body(status={"phase": "Queued", "reason": "QuotaExhausted"}, version=6))

    assert fleet.accounts["openai"].in_flight == 0
    assert fleet.accounts["openai"].service_seconds == 20.0


@pytest.mark.parametrize("reason", ["QuotaExhausted", "JobRefused"])
def test_a_start_whose_job_was_refused_gives_its_token_back(reason: str) -> None:
    fleet, _ = make(providers=[provider(limits={"inFlight": 1, "perMinute": 1, "burst": 1})])
    uid = put(fleet, "r0")
    fleet.run_pass()
    fleet.cache.put_render(body(name="r0", uid=uid, status=running(), version=6))
    assert fleet.accounts["openai"].tokens < 1

    fleet.cache.put_render(body(name="r0", uid=uid, status={"phase": "Queued", "reason": reason}, version=7))

    assert fleet.accounts["openai"].tokens == pytest.approx(1)


def test_a_ticket_that_is_not_used_comes_back() -> None:
    fleet, clock = make()
    uid = put(fleet, "r0")
    fleet.run_pass()
    clock.time += 61

    fleet.run_pass()

    assert not fleet.has_ticket(uid)
    assert fleet.accounts["openai"].tickets == 0


def _refuse(fleet: Fleet, uid: str) -> None:
    """Its fence is written, its Job is refused, it is taken back; as the executor does it."""
    key = fleet.cache.key_of(uid)
    assert key is not None
    version = fleet.cache.version(key)
    assert version is not None
    fleet.cache.put_render(body(name=key.name, uid=uid, status=running(), version=version[1] + 1))
    fleet.job_refused(Render(body(name=key.name, uid=uid, status=running())), "policy says no")
    queued = {"phase": "Queued", "reason": "JobRefused"}
    fleet.cache.put_render(body(name=key.name, uid=uid, status=queued, version=version[1] + 2))


def test_one_refused_job_may_have_itself_to_blame() -> None:
    fleet, _ = make(providers=[provider(limits={"inFlight": 1, "perMinute": 600, "burst": 9})])
    first, second = put(fleet, "r0"), put(fleet, "r1")
    fleet.run_pass()

    _refuse(fleet, first)
    fleet.run_pass()

    assert fleet.has_ticket(second)


def test_a_lane_whose_jobs_are_refused_rests_and_then_one_finds_out() -> None:
    fleet, clock = make(providers=[provider(limits={"inFlight": 2, "perMinute": 600, "burst": 9}), provider("did")])
    uids = [put(fleet, f"r{n}") for n in range(5)]
    other = put(fleet, "elsewhere", providers=("did",))
    assert len(fleet.run_pass()[0]) == 3
    for uid in uids[:2]:
        _refuse(fleet, uid)

    keys, again_in = fleet.run_pass()

    assert (keys, again_in) == ([], REFUSED_SECONDS)
    assert fleet.has_ticket(other), "another lane's matter"
    fleet.run_places()
    told = fleet.wait_of(uids[3])
    assert told is not None
    assert (told.reason, told.message, told.position) == (Reason.JOB_REFUSED, "policy says no", 2)

    clock.time += REFUSED_SECONDS
    keys, again_in = fleet.run_pass()
    assert [key.name for key in keys] == ["r2"], "one is enough to find out"
    assert again_in == REFUSED_SECONDS
    assert fleet.run_pass()[0] == []

    fleet.cache.put_render(body(name="r2", uid=uids[2], status=running(), version=9))
    fleet.job_made(Render(body(name="r2", uid=uids[2], status=running())))
    assert [key.name for key in fleet.run_pass()[0]] == ["r3"]


def test_a_vendor_at_work_holds_its_place_but_no_pod() -> None:
    fleet, _ = make(body("VideoRender", waiting()), providers=[provider("did")])

    assert fleet.accounts["did"].in_flight == 1
    assert fleet.pods_in_use() == {}


@pytest.mark.parametrize(
    ("hard", "used", "let_in"),
    [
        pytest.param(1, 0, 1, id="as many as the quota says"),
        pytest.param(0, 0, 0, id="a quota of none"),
        pytest.param(2, 1, 1, id="strangers' pods count"),
    ],
)
def test_the_quota_is_the_tenants_concurrency(hard: int, used: int, let_in: int) -> None:
    fleet, _ = make(providers=[provider(limits={"inFlight": 9, "perMinute": 600, "burst": 9})])
    fleet.cache.put_quota(quota(hard, used))
    for n in range(3):
        put(fleet, f"r{n}")

    assert len(fleet.run_pass()[0]) == let_in


def test_a_pod_that_has_just_ended_is_no_stranger_though_the_quota_still_counts_it() -> None:
    fleet, clock = make(body(status=running()))
    fleet.cache.put_quota(quota(1, used=1))
    fleet.cache.put_render(body(status=ended(), version=6))
    put(fleet, "next")
    assert len(fleet.run_pass()[0]) == 1

    clock.time += 11
    put(fleet, "later")
    assert fleet.run_pass()[0] == []


def test_an_attempt_that_got_no_pod_explains_no_pod_in_the_quota() -> None:
    fleet, clock = make(body(status=running()), body(name="before", uid="u0", status=running()))
    fleet.cache.put_quota(quota(1, used=1))
    fleet.cache.put_render(body(name="before", uid="u0", status=ended(), version=6))
    clock.time += 5
    back = {"phase": "Queued", "reason": Reason.QUOTA_EXHAUSTED.value, "observedGeneration": 1}
    fleet.cache.put_render(body(status=back, version=6))

    put(fleet, "next")

    assert fleet.run_pass()[0] == []


def test_a_circuit_counts_the_probes_of_those_who_ask_its_vendor_second() -> None:
    half_open = {"circuit": "HalfOpen", "circuitOpened": 1}
    fleet, _ = make(providers=[provider("elevenlabs"), provider("openai", status=half_open)])
    for number in range(2):
        put(fleet, f"v{number}", providers=("elevenlabs", "openai"))

    assert [key.name for key in fleet.run_pass()[0]] == ["v0"]

    spec = {"text": None, "prompt": "about boats", "scriptProvider": "openai"}
    fleet.cache.put_render(body("VoiceJob", running("VoiceJob"), name="v0", uid="uid-v0", version=6, spec=spec))
    assert fleet.run_pass()[0] == []
    fleet.cache.put_render(body("VoiceJob", ended("Failed"), name="v0", uid="uid-v0", version=7, spec=spec))

    assert [key.name for key in fleet.run_pass()[0]] == ["v1"]


class TestRestart:
    """What a new process knows is what the old one knew."""

    def test_places_that_are_taken_stay_taken(self) -> None:
        fleet, _ = make(*(body(name=f"r{n}", uid=f"u{n}", status=running()) for n in range(2)))
        put(fleet, "next")

        assert fleet.run_pass()[0] == []

    def test_tokens_that_were_given_are_not_given_again(self) -> None:
        limits = {"inFlight": 50, "perMinute": 6, "burst": 3}
        lately = [
            body(name=f"r{n}", uid=f"u{n}", status=ended(attempts=[attempt(startedAt=rfc3339(NOW - 2))]))
            for n in range(3)
        ]

        fleet, _ = make(*lately, providers=[provider(limits=limits)])

        put(fleet, "next")
        assert fleet.run_pass()[0] == []

    def test_an_open_circuit_stays_open_and_a_probe_at_a_time_goes_through(self) -> None:
        status = {"circuit": "Open", "circuitUntil": rfc3339(NOW + 5), "circuitOpened": 1}
        fleet, clock = make(providers=[provider(status=status)])
        for n in range(50):
            put(fleet, f"r{n}")
        assert fleet.run_pass()[0] == []

        clock.time += 6

        assert len(fleet.run_pass()[0]) == 1
        assert fleet.run_pass()[0] == []

    def test_failures_of_the_window_count_on(self) -> None:
        settings = {"minCalls": 4, "failurePercent": 50, "windowSeconds": 60}
        before, _ = make(providers=[provider(breaker=settings)])
        for number, news in enumerate([News.ANSWERED, News.BROKEN, News.BROKEN]):
            before.tell(TellProvider("openai", f"t{number}", news, "down"), None)
        told = before.accounts["openai"].status(NOW, 0)
        assert (told["windowCalls"], told["windowFailures"]) == (3, 2)

        after, _ = make(providers=[provider(status=told, breaker=settings)])
        after.tell(TellProvider("openai", "t9", News.BROKEN, "down"), None)

        assert after.accounts["openai"].circuit.state == "Open"

    def test_failures_of_a_window_that_is_over_do_not(self) -> None:
        settings = {"minCalls": 4, "failurePercent": 50, "windowSeconds": 60}
        long_ago = rfc3339(NOW - 61)
        told = {"windowCalls": 90, "windowFailures": 40, "lastErrorAt": long_ago, "lastSuccessAt": long_ago}

        fleet, _ = make(providers=[provider(status=told, breaker=settings)])
        fleet.tell(TellProvider("openai", "t9", News.BROKEN, "down"), None)

        assert fleet.accounts["openai"].circuit.state == "Closed"

    def test_limits_that_were_learned_and_a_pause_are_still_known(self) -> None:
        before, _ = make()
        learn(before, "t1", maxConcurrent=1, maxPerMinute=20)
        before.tell(TellProvider("openai", "t2", News.THROTTLED, retry_after_seconds=300), None)
        told = before.accounts["openai"].status(NOW + 60, 0)

        after, _ = make(providers=[provider(status=told)])

        account = after.accounts["openai"]
        assert account.places() == 1
        assert account.per_minute(NOW + 60) == pytest.approx(11)
        assert account.snapshot(NOW + 60).paused_for == pytest.approx(240)

    def test_a_hold_stays_until_the_spec_is_edited(self) -> None:
        status = {"held": True, "heldReason": "bad key", "observedGeneration": 1}
        assert account_of(provider(status=status), NOW).held == "bad key"

        edited = provider(status=status)
        edited["metadata"]["generation"] = 2

        assert account_of(edited, NOW).held is None

    def test_use_is_remembered_for_fairness(self) -> None:
        crowd = [body(name=f"r{n}", uid=f"u{n}", status=ended(attempts=[attempt()])) for n in range(5)]

        fleet, _ = make(*crowd)

        assert fleet._used(("openai", "rf-acme")) == pytest.approx(5.0, rel=0.05)

    def test_money_that_was_spent_is_counted_once(self) -> None:
        finished = rfc3339(NOW - 10)
        spent: dict[str, Any] = {"cost": {"actualMicros": 70}}
        clock_month = finished[:7]
        one = body(status=ended(**spent))
        fleet, _ = make(one)
        assert fleet.spent("rf-acme").micros == 70

        told = {"budgetMonth": clock_month, "spentMicros": 70, "spentThrough": finished}
        again = Fleet(Cache(), Clock())
        again.cache.on_render = again.render_changed
        again.cache.put_tenant({**TENANT, "metadata": dict(TENANT["metadata"]), "status": told})
        again.cache.put_render(body(status=ended(**spent)))
        again.ready()

        assert again.spent("rf-acme").micros == 70

    @pytest.mark.parametrize("names", [("early", "late"), ("late", "early")])
    def test_money_is_counted_in_whatever_order_it_is_listed(self, names: tuple[str, str]) -> None:
        told_through = rfc3339(NOW - 30)
        ends = {"early": (rfc3339(NOW - 20), 70), "late": (rfc3339(NOW - 10), 50)}
        told = {"budgetMonth": told_through[:7], "spentMicros": 5, "spentThrough": told_through}
        again = Fleet(Cache(), Clock())
        again.cache.on_render = again.render_changed
        again.cache.put_tenant({**TENANT, "metadata": dict(TENANT["metadata"]), "status": told})

        for name in names:
            at, micros = ends[name]
            status = ended(cost={"actualMicros": micros}, finishedAt=at)
            again.cache.put_render(body(name=name, uid=name, status=status))
        again.ready()

        assert again.spent("rf-acme").micros == 5 + 70 + 50
        assert not again.spent("rf-acme").tell(rfc3339(NOW))
        assert again.spent("rf-acme").told_through == ends["late"][0]

    def test_money_of_an_end_that_is_stored_after_a_later_one_is_counted(self) -> None:
        """Its write was on its way when the operator that had told of the later one died."""
        fleet, clock = make(
            body(name="late", uid="late", status=ended(cost={"actualMicros": 50}, finishedAt=rfc3339(NOW)))
        )
        spent = fleet.spent("rf-acme")
        assert spent.micros == 50
        assert spent.tell(rfc3339(NOW - 3)), "there is more to tell later"
        told = {"budgetMonth": spent.month, "spentMicros": spent.told_micros, "spentThrough": spent.told_through}

        again = Fleet(Cache(), clock)
        again.cache.on_render = again.render_changed
        again.cache.put_tenant({**TENANT, "metadata": dict(TENANT["metadata"]), "status": told})
        for name, at, micros in (("late", NOW, 50), ("early", NOW - 1, 70)):
            status = ended(cost={"actualMicros": micros}, finishedAt=rfc3339(at))
            again.cache.put_render(body(name=name, uid=name, status=status))
        again.ready()

        assert again.spent("rf-acme").micros == 120


def test_a_budget_is_reserved_at_the_start_and_settled_at_the_end() -> None:
    fleet, _ = make(monthlyBudgetMicros=100, providers=[provider(limits={"inFlight": 9, "perMinute": 600, "burst": 9})])
    first = put(fleet, "r0", cost_micros=60)
    second = put(fleet, "r1", cost_micros=60)
    assert [key.name for key in fleet.run_pass()[0]] == ["r0"]
    wait = fleet.wait_of(second)
    assert wait is not None
    assert wait.reason is Reason.BUDGET_EXHAUSTED

    fleet.cache.put_render(body(name="r0", uid=first, status=running(cost={"estimatedMicros": 60}), version=6))
    assert fleet.run_pass()[0] == []
    cheap = ended(cost={"estimatedMicros": 60, "actualMicros": 20})
    fleet.cache.put_render(body(name="r0", uid=first, status=cheap, version=7))

    assert [key.name for key in fleet.run_pass()[0]] == ["r1"]


def test_what_a_live_render_has_cost_already_is_not_free_until_its_end() -> None:
    """A video is billed when its vendor is done with it, and ends when its file has been fetched."""
    fleet, _ = make(monthlyBudgetMicros=100, providers=[provider(limits={"inFlight": 9, "perMinute": 600, "burst": 9})])
    first, _ = put(fleet, "r0", cost_micros=60), put(fleet, "r1", cost_micros=60)
    fleet.run_pass()

    billed = running(cost={"estimatedMicros": 60, "actualMicros": 60})
    fleet.cache.put_render(body(name="r0", uid=first, status=billed, version=6))

    assert fleet.run_pass()[0] == []


def test_a_render_that_is_tried_again_needs_its_budget_once() -> None:
    fleet, _ = make(monthlyBudgetMicros=100, providers=[provider(limits={"inFlight": 9, "perMinute": 600, "burst": 9})])
    first = put(fleet, "r0", cost_micros=100)
    assert len(fleet.run_pass()[0]) == 1
    again = running("AvatarRender", attempt(category="throttled"), cost={"estimatedMicros": 100}, phase="Queued")
    one = body(name="r0", uid=first, status=again, version=6)
    fleet.cache.put_render(one)
    fleet.return_ticket(first)

    [ask] = [one for one in decide(Render(one), seen(estimate_micros=100)) if isinstance(one, AskAdmission)]
    fleet.ask(Key("AvatarRender", "rf-acme", "r0"), first, ask)

    assert [key.name for key in fleet.run_pass()[0]] == ["r0"]


def test_another_try_after_one_that_was_paid_needs_its_own_share_of_the_budget() -> None:
    limits = {"inFlight": 9, "perMinute": 600, "burst": 9}
    paid = {"estimatedMicros": 60, "actualMicros": 60}
    failed = running("AvatarRender", attempt(category="transient", endedAt=rfc3339(NOW)), cost=paid, phase="Retrying")
    for budget, let_in in ((119, []), (120, ["r0"])):
        fleet, _ = make(monthlyBudgetMicros=budget, providers=[provider(limits=limits)])
        one = body(name="r0", uid="u0", status=failed)
        fleet.cache.put_render(one)

        [ask] = [one for one in decide(Render(one), seen(estimate_micros=60)) if isinstance(one, AskAdmission)]
        fleet.ask(Key("AvatarRender", "rf-acme", "r0"), "u0", ask)

        assert [key.name for key in fleet.run_pass()[0]] == let_in, f"of {budget}"


_MICROS = st.integers(0, 1000)
_BETWEEN = st.sampled_from(["Retrying", "Queued"])


@given(
    estimate=_MICROS,
    tries=st.lists(st.tuples(st.booleans(), _BETWEEN, st.booleans()), min_size=1, max_size=5),
    ends=st.booleans(),
)
def test_what_is_set_aside_is_what_was_paid_and_what_a_try_may_cost(
    estimate: int, tries: list[tuple[bool, str, bool]], ends: bool
) -> None:
    """Never twice, at every step, and a new operator that only sees statuses comes to the same sum."""
    fleet, _ = make(providers=[provider(limits={"inFlight": 9, "perMinute": 600, "burst": 99})])
    key, version, paid = Key("AvatarRender", "rf-acme", "r0"), 1, 0
    one = body(name="r0", uid="u0", version=version)

    def moved(phase: str) -> None:
        nonlocal one, version
        version += 1
        status = running(cost={"estimatedMicros": estimate, "actualMicros": paid}, phase=phase)
        if phase not in ("Running", "Waiting"):
            status["attempts"] = [attempt(category="transient", endedAt=rfc3339(NOW))]
        one = body(name="r0", uid="u0", status=status, version=version)
        fleet.cache.put_render(one)

    def set_aside() -> int:
        tickets = sum(ticket.cost_micros or 0 for ticket in fleet._tickets.values())
        return fleet._reserved.get("rf-acme", 0) + tickets

    fleet.cache.put_render(one)
    for has_vendor_job, between, was_paid in tries:
        [ask] = [do for do in decide(Render(one), seen(estimate_micros=estimate)) if isinstance(do, AskAdmission)]
        fleet.ask(key, "u0", ask)
        fleet.run_pass()
        assert fleet.has_ticket("u0")
        assert set_aside() == paid + estimate, "admitted"
        moved("Running")
        assert set_aside() == paid + estimate, "at work"
        if has_vendor_job:
            moved("Waiting")
            assert set_aside() == paid + estimate, "at its vendor"
        paid += estimate if was_paid else 0
        moved(between)
        assert set_aside() == max(paid, estimate), "between two tries"
        anew, _ = make(one)
        assert anew._reserved.get("rf-acme", 0) == set_aside(), "after a restart"
    if ends:
        fleet.cache.put_render(
            body(name="r0", uid="u0", status=ended("DeadLettered", cost={"actualMicros": paid}), version=99)
        )
        assert fleet.spent("rf-acme").micros == paid
    else:
        fleet.cache.remove_render(key, "u0")
    assert set_aside() == 0


@pytest.mark.parametrize("end", ["Cancelled", "Failed", None])
def test_a_budget_that_was_reserved_is_released_when_nothing_was_spent(end: str | None) -> None:
    fleet, _ = make(monthlyBudgetMicros=100, providers=[provider(limits={"inFlight": 9, "perMinute": 600, "burst": 9})])
    first, _ = put(fleet, "r0", cost_micros=60), put(fleet, "r1", cost_micros=60)
    assert [key.name for key in fleet.run_pass()[0]] == ["r0"]
    fleet.cache.put_render(body(name="r0", uid=first, status=running(cost={"estimatedMicros": 60}), version=6))

    if end is None:
        fleet.cache.remove_render(Key("AvatarRender", "rf-acme", "r0"), first)
    else:
        nothing = ended(end, cost={"estimatedMicros": 60, "actualMicros": 0})
        fleet.cache.put_render(body(name="r0", uid=first, status=nothing, version=7))

    assert [key.name for key in fleet.run_pass()[0]] == ["r1"]
    assert fleet.spent("rf-acme").micros == 0


@pytest.mark.parametrize("phase", ["Held", "Queued", "Retrying"])
def test_a_reservation_that_is_given_back_by_what_did_not_run_lets_others_in(phase: str) -> None:
    fleet, _ = make(monthlyBudgetMicros=100)
    begun = running("AvatarRender", attempt(category="throttled"), cost={"estimatedMicros": 100}, phase=phase)
    fleet.cache.put_render(body(name="r0", uid="u0", status=begun, version=6))
    put(fleet, "r1", cost_micros=60)
    assert fleet.run_pass()[0] == []
    woken: list[bool] = []
    fleet.wake = lambda: woken.append(True)

    fleet.cache.put_render(body(name="r0", uid="u0", status=ended("Cancelled"), version=7))

    assert woken
    assert [key.name for key in fleet.run_pass()[0]] == ["r1"]


def test_a_run_that_was_paid_for_is_not_paid_for_again_with_the_next_one() -> None:
    fleet, _ = make(monthlyBudgetMicros=1000)
    first = body(status=ended("DeadLettered", cost={"estimatedMicros": 60, "actualMicros": 70, "currency": "USD"}))
    fleet.cache.put_render(first)
    assert fleet.spent("rf-acme").micros == 70

    redriven = body(status=first["status"], spec={"redrive": 1}, version=6)
    [write] = [one for one in decide(Render(redriven), seen(archived=True)) if isinstance(one, WriteStatus)]
    fleet.cache.put_render(
        {**redriven, "status": write.status, "metadata": {**redriven["metadata"], "resourceVersion": "7"}}
    )
    cost = {**(write.status.get("cost") or {})}
    cost["actualMicros"] = cost.get("actualMicros", 0) + 50
    fleet.cache.put_render(body(status=ended(cost=cost, run=1, finishedAt=rfc3339(NOW)), version=8))

    assert fleet.spent("rf-acme").micros == 120


def test_what_was_paid_before_a_person_had_to_decide_is_paid_for_in_the_run_that_goes_on() -> None:
    """A hold is no end: nobody has counted what it cost."""
    held = running("AvatarRender", attempt(category="unknown_outcome"), phase="Held", cost={"actualMicros": 70})

    [write] = [
        one for one in decide(Render(body(status=held, spec={"redrive": 1})), seen()) if isinstance(one, WriteStatus)
    ]

    assert write.status["cost"] == {"actualMicros": 70}


def test_news_counts_once_per_attempt() -> None:
    fleet, _ = make()
    news = TellProvider("openai", "t1", News.THROTTLED, retry_after_seconds=30)

    fleet.tell(news, None)
    fleet.tell(news, None)

    account = fleet.accounts["openai"]
    assert account.paused_until == NOW + 30
    assert account.per_minute(NOW) == 30


def test_jobs_that_a_vendor_accepts_and_then_fails_open_its_circuit() -> None:
    """D-ID takes a talk within a second and fails it a minute later, with the same attempt still under way."""
    fleet, _ = make(providers=[provider(breaker={"minCalls": 5, "failurePercent": 90})])
    account = fleet.accounts["openai"]
    for number in range(5):
        fleet.tell(TellProvider("openai", f"t{number}", News.ANSWERED), None)
    for number in range(4):
        fleet.tell(TellProvider("openai", f"t{number}", News.BROKEN, "it broke"), None)
        fleet.tell(TellProvider("openai", f"t{number}", News.BROKEN, "it broke"), None)
    assert account.circuit.state == "Closed", "four of five calls failed"

    fleet.tell(TellProvider("openai", "t4", News.BROKEN, "it broke"), None)

    assert account.circuit.state == "Open"


def test_a_job_that_was_accepted_and_then_could_not_be_paid_holds_its_vendor() -> None:
    fleet, _ = make()

    fleet.tell(TellProvider("openai", "t1", News.ANSWERED), None)
    fleet.tell(TellProvider("openai", "t1", News.HELD, "no credits"), None)

    assert fleet.accounts["openai"].held == "no credits"


def test_a_rate_that_was_learned_grows_back() -> None:
    fleet, _ = make()
    fleet.tell(TellProvider("openai", "t1", News.THROTTLED), None)
    account = fleet.accounts["openai"]

    assert account.per_minute(NOW + 120) == pytest.approx(36)
    assert account.per_minute(NOW + 3600) == 60


def learn(fleet: Fleet, token: str, **learned: int) -> None:
    fleet.tell(TellProvider("openai", token, News.ANSWERED, learned=learned), None)


def test_places_are_learned_from_the_vendors_headers() -> None:
    fleet, _ = make()
    learn(fleet, "t1", maxConcurrent=1)
    assert fleet.accounts["openai"].places() == 1

    learn(fleet, "t2", maxConcurrent=15)
    assert fleet.accounts["openai"].places() == 2


def test_a_rate_is_learned_from_the_vendors_headers() -> None:
    fleet, _ = make()
    learn(fleet, "t1", maxPerMinute=20)
    assert fleet.accounts["openai"].per_minute(NOW) == 20

    learn(fleet, "t2", maxPerMinute=500)
    assert fleet.accounts["openai"].per_minute(NOW) == 60


def test_a_refusal_halves_what_the_headers_allow_and_it_grows_back_no_further() -> None:
    fleet, _ = make()
    learn(fleet, "t1", maxPerMinute=20)
    fleet.tell(TellProvider("openai", "t2", News.THROTTLED), None)
    account = fleet.accounts["openai"]

    assert account.per_minute(NOW) == 10
    assert account.per_minute(NOW + 60) == pytest.approx(11)
    assert account.per_minute(NOW + 86_400) == 20


def test_many_refusals_at_once_are_one_lesson() -> None:
    fleet, _ = make()
    for number in range(10):
        fleet.tell(TellProvider("openai", f"t{number}", News.THROTTLED), None)

    assert fleet.accounts["openai"].per_minute(NOW) == 30


def test_a_window_without_a_failure_is_not_worth_a_word() -> None:
    fleet, _ = make()
    fleet.tell(TellProvider("openai", "t1", News.ANSWERED), None)

    assert not {"windowCalls", "windowFailures"} & set(fleet.accounts["openai"].status(NOW, 0))


def test_what_was_learned_is_shown_only_while_it_matters() -> None:
    fleet, _ = make()
    shown = ("learnedInFlight", "learnedPerMinute", "slowedPerMinute", "slowedAt", "pausedUntil")
    account = fleet.accounts["openai"]
    learn(fleet, "t1", maxConcurrent=100, maxPerMinute=5000)
    assert not any(name in account.status(NOW, 0) for name in shown)

    learn(fleet, "t2", maxConcurrent=1, maxPerMinute=20)
    fleet.tell(TellProvider("openai", "t3", News.THROTTLED, retry_after_seconds=30), None)

    assert {name: account.status(NOW, 0).get(name) for name in shown} == {
        "learnedInFlight": 1,
        "learnedPerMinute": 20,
        "slowedPerMinute": 10,
        "slowedAt": rfc3339(NOW),
        "pausedUntil": rfc3339(NOW + 30),
    }
    assert "pausedUntil" not in account.status(NOW + 31, 0)
    assert "slowedPerMinute" not in account.status(NOW + 3600, 0)
