"""What Prometheus is told: all that the operator promises, with labels that stay few."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from renderfleet_crds.contract import Stage
from renderfleet_operator.cache import Key
from renderfleet_operator.decide.actions import AskAdmission, News, TellProvider
from renderfleet_operator.decide.view import Render
from renderfleet_operator.fleet import Fleet
from renderfleet_operator.metrics import Metrics
from renderfleet_operator.times import rfc3339

from .builders import CREATED, NOW, attempt, body, ended, render, running, waiting
from .test_fleet import make, provider, put, quota

BOUNDED = {"kind", "stage", "category", "phase", "reason", "provider", "pool", "resource", "currency", "le"}
PROMISED = {
    "queue depth": "renderfleet_pool_waiting",
    "oldest age": "renderfleet_pool_waiting_oldest_seconds",
    "wait by reason": "renderfleet_wait_seconds",
    "why they wait now": "renderfleet_waiting",
    "time in each phase": "renderfleet_phase_seconds",
    "attempts": "renderfleet_attempts",
    "ends": "renderfleet_ends",
    "circuit": "renderfleet_provider_circuit_open",
    "tokens": "renderfleet_provider_tokens",
    "in flight": "renderfleet_provider_in_flight",
    "quota use": "renderfleet_quota_use_ratio",
    "costs": "renderfleet_cost",
    "reconcile duration": "renderfleet_reconcile_seconds",
    "queue latency": "renderfleet_queue_wait_seconds",
    "watch age": "renderfleet_watch_age_seconds",
    "archive lag": "renderfleet_archive_lag_seconds",
}


def samples(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """Values by their labels' values."""
    return {
        tuple(one.labels.values()): one.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for one in family.samples
        if one.name == name
    }


def worked(fleet: Fleet, clock: Any) -> Metrics:
    """Metrics of an operator that has seen a render through."""
    metrics = Metrics(fleet, clock)
    metrics.gauges.watch_age_seconds = lambda: {"Job": 1.0}
    metrics.status_written(render(), render(status=running()), NOW)
    closed = attempt(endedAt=rfc3339(NOW))
    metrics.status_written(render(status=running()), render(status=ended(attempts=[closed])), NOW)
    return metrics


@pytest.mark.parametrize("what", PROMISED)
def test_all_that_is_promised_is_told(what: str) -> None:
    fleet, clock = make()
    put(fleet, "one")

    families = {one.name for one in text_string_to_metric_families(worked(fleet, clock).text().decode())}

    assert PROMISED[what] in families


def test_money_is_counted_when_it_is_spent_and_once() -> None:
    metrics = Metrics(*make())
    estimated = {"estimatedMicros": 50_000, "currency": "EUR"}
    begun = render(status=running(cost=estimated))
    paid_in_vain = render(status=running(cost={**estimated, "actualMicros": 40_000}))
    done = render(status=ended(cost={**estimated, "actualMicros": 80_500}))
    metrics.status_written(render(), begun, NOW)
    metrics.status_written(begun, paid_in_vain, NOW)
    metrics.status_written(paid_in_vain, done, NOW)
    metrics.status_written(done, done, NOW)
    metrics.status_written(done, begun, NOW)  # a redrive begins a new account
    metrics.status_written(begun, paid_in_vain, NOW)

    assert samples(metrics, "renderfleet_cost_total") == {("EUR", "AvatarRender", "openai"): pytest.approx(0.1205)}


def test_no_label_names_a_render_a_user_or_a_key() -> None:
    fleet, clock = make()
    put(fleet, "one")
    fleet.run_pass()
    text = worked(fleet, clock).text().decode()

    labels = {
        label for family in text_string_to_metric_families(text) for one in family.samples for label in one.labels
    }

    assert labels <= BOUNDED
    assert "uid-one" not in text
    assert "acme" not in text


def test_a_pools_queue_is_counted_by_what_its_renders_need_next() -> None:
    fleet, clock = make(providers=[provider("did", limits={"inFlight": 0}), provider("openai", limits={"inFlight": 0})])
    put(fleet, "picture", since=NOW - 30)
    put(fleet, "second", since=NOW - 5)
    video = body("VideoRender", waiting(), name="video", uid="v")
    fleet.cache.put_render(video)
    # The vendor is done with it: only a pod is needed to fetch the result.
    fleet.ask(Key("VideoRender", "rf-acme", "video"), "v", AskAdmission(1001, NOW - 7, 0, ()))
    metrics = Metrics(fleet, clock)
    metrics.gauges.pool_of = lambda stage: "gpu" if stage is Stage.GENERATE else "cpu"

    assert samples(metrics, "renderfleet_pool_waiting") == {("gpu",): 2, ("cpu",): 1}
    assert samples(metrics, "renderfleet_pool_waiting_oldest_seconds") == {("gpu",): 30, ("cpu",): 7}


def test_a_pool_nobody_waits_for_is_told_as_zero() -> None:
    # What scales by this metric takes its absence for a failure.
    metrics = Metrics(*make())

    assert samples(metrics, "renderfleet_pool_waiting") == {("image-gen",): 0, ("postprocess",): 0, ("video-gen",): 0}
    assert set(samples(metrics, "renderfleet_pool_waiting_oldest_seconds").values()) == {0}


@pytest.mark.parametrize(
    ("before", "phase", "seconds"),
    [
        pytest.param(render(), "Queued", NOW - CREATED, id="waiting, since it was made"),
        pytest.param(render(status=running()), "Running", 30, id="running, since the attempt began"),
        pytest.param(render("VideoRender", waiting()), "Waiting", 25, id="at the vendor, since it accepted"),
        pytest.param(
            render("VideoRender", running("VideoRender", stage=Stage.FINALIZE)),
            "Finalizing",
            30,
            id="finalizing, since that attempt began",
        ),
        pytest.param(
            render(status={**running("AvatarRender", attempt(category="transient")), "phase": "Retrying"}),
            "Retrying",
            20,
            id="between attempts, since the last one ended",
        ),
        pytest.param(
            render(
                status={
                    **running(),
                    "phase": "Held",
                    "conditions": [{"type": "Stalled", "status": "True", "lastTransitionTime": rfc3339(NOW - 12)}],
                }
            ),
            "Held",
            12,
            id="held, since it stalled",
        ),
    ],
)
def test_time_in_a_phase_is_counted_when_it_is_left(before: Render, phase: str, seconds: float) -> None:
    metrics = Metrics()

    metrics.status_written(before, render(before.kind, ended("Cancelled")), NOW)

    assert samples(metrics, "renderfleet_phase_seconds_sum") == {(before.kind, phase): pytest.approx(seconds, abs=0.01)}


def test_the_rest_at_an_end_is_no_phase_to_be_timed() -> None:
    metrics = Metrics()

    metrics.status_written(render(status=ended("Failed")), render(status={"phase": "Queued"}), NOW)

    assert samples(metrics, "renderfleet_phase_seconds_count") == {}


def test_telling_why_it_waits_ends_no_phase() -> None:
    """It was counted twice else: when it was told, and when it started."""
    metrics = Metrics()

    metrics.status_written(render(), render(status={"phase": "Queued", "reason": "QuotaExhausted"}), NOW)

    assert samples(metrics, "renderfleet_phase_seconds_count") == {}


def test_an_attempt_that_was_taken_back_is_none() -> None:
    """The one before it was counted once more else, each time that the quota refused a Job."""
    metrics = Metrics()
    first = attempt(1, category="transient")
    metrics.status_written(render(status=running()), render(status=running("AvatarRender", first)), NOW)
    fenced = render(status=running("AvatarRender", first, attempt(2)))

    metrics.status_written(fenced, render(status={**running("AvatarRender", first), "phase": "Queued"}), NOW)

    assert samples(metrics, "renderfleet_attempts_total") == {("transient", "AvatarRender", "generate"): 1}


def test_what_a_vendor_made_of_a_job_it_had_accepted_is_counted_too() -> None:
    metrics = Metrics()
    at_vendor = render("VideoRender", waiting())
    failed = attempt(kind="VideoRender", category="outage", charged="false")
    metrics.status_written(at_vendor, render("VideoRender", running("VideoRender", failed, phase="Retrying")), NOW)
    fetched = [*waiting()["attempts"], attempt(kind="VideoRender", stage=Stage.FINALIZE)]
    metrics.status_written(
        at_vendor, render("VideoRender", running("VideoRender", *fetched, stage=Stage.FINALIZE)), NOW
    )
    metrics.status_written(at_vendor, render("VideoRender", {**waiting(), "phase": "Cancelled"}), NOW)

    assert samples(metrics, "renderfleet_attempts_total") == {
        ("outage", "VideoRender", "poll"): 1,
        ("done", "VideoRender", "poll"): 1,
    }


def test_who_waits_outside_of_any_queue_is_counted_by_what_was_told() -> None:
    told = {"phase": "Queued", "reason": "DependencyPending"}
    stray = {"phase": "Queued", "reason": "ProviderUnknown"}
    fleet, clock = make(
        body("VideoRender", told, name="video", uid="v"),
        body(status=stray, name="stray", uid="s", spec={"provider": "anything-a-user-may-type"}),
        body(status=running(), name="runs", uid="r"),
        providers=[provider("did"), provider("openai", hold=True)],
    )
    put(fleet, "stands-in-line")
    fleet.run_pass()

    assert samples(Metrics(fleet, clock), "renderfleet_waiting") == {
        ("did", "DependencyPending"): 1,
        ("none", "ProviderUnknown"): 1,
        ("openai", "ProviderHeld"): 1,
    }


def test_how_full_quotas_are_is_a_distribution() -> None:
    fleet, clock = make(body(status=running()))
    fleet.cache.put_quota(quota(4))
    metrics = Metrics(fleet, clock)

    buckets = samples(metrics, "renderfleet_quota_use_ratio_bucket")

    assert (buckets["0.0",], buckets["0.25",], buckets["+Inf",]) == (0, 1, 1)


def test_a_slowed_provider_shows_it() -> None:
    fleet, clock = make()
    fleet.tell(TellProvider("openai", "t1", News.THROTTLED), None)

    assert samples(Metrics(fleet, clock), "renderfleet_provider_starts_per_second") == {("openai",): 0.5}
