"""What Prometheus is told. Base units, bounded labels: kind, provider, reason, pool; never a job, a user or a key.

Gauges are worked out when they are asked for, from the same books that admission decides over.
"""

from collections import Counter as Tally
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from renderfleet_crds.conditions import ConditionType
from renderfleet_crds.contract import Stage
from renderfleet_crds.phases import Phase

from .children.job import DEFAULT_POOLS
from .clock import Clock
from .decide.view import Render
from .fleet import Fleet
from .times import seconds_of

SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LONG = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14_400, 86_400)
SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(slots=True)
class Gauges:
    """Where gauges come from; all optional, so that a test names only what it is about."""

    queue_depth: Callable[[], int] = lambda: 0
    queue_oldest_seconds: Callable[[], float] = lambda: 0.0
    watch_age_seconds: Callable[[], dict[str, float]] = dict
    archive_lag_seconds: Callable[[], float] = lambda: 0.0
    archive_waiting: Callable[[], int] = lambda: 0
    vendor_jobs_watched: Callable[[], int] = lambda: 0
    renders: Callable[[], Iterable[tuple[str, str]]] = tuple
    """(kind, phase) of every render known."""
    pool_of: Callable[[Stage], str] = lambda stage: DEFAULT_POOLS[stage].value
    """Which nodes a stage runs on."""
    events_dropped: Callable[[], int] = lambda: 0


class Metrics:
    """All counters and histograms of one operator."""

    def __init__(self, fleet: Fleet | None = None, clock: Clock | None = None) -> None:
        self.registry = CollectorRegistry()
        self.gauges = Gauges()
        self._fleet = fleet
        self._clock = clock
        self.reconcile_seconds = Histogram(
            "renderfleet_reconcile_seconds", "Time to look at one object once.", buckets=SHORT, registry=self.registry
        )
        self.queue_wait_seconds = Histogram(
            "renderfleet_queue_wait_seconds",
            "How long a key was ready before a worker took it.",
            buckets=SHORT,
            registry=self.registry,
        )
        self.reconcile_failures = Counter(
            "renderfleet_reconcile_failures", "Looks that raised and are tried again.", registry=self.registry
        )
        self.jobs_created = Counter(
            "renderfleet_jobs_created", "Runner Jobs created.", ["stage"], registry=self.registry
        )
        self.attempts = Counter(
            "renderfleet_attempts",
            "Attempts that ended, by kind, stage and error category; `done` for those that worked. What a vendor makes of "
            "a job that it accepted is stage `poll`.",
            ["kind", "stage", "category"],
            registry=self.registry,
        )
        self.ends = Counter(
            "renderfleet_ends",
            "Renders that came to an end, by kind, phase and reason.",
            ["kind", "phase", "reason"],
            registry=self.registry,
        )
        self.cost = Counter(
            "renderfleet_cost",
            "What renders have cost by their providers' price lists, in units of the currency.",
            ["kind", "provider", "currency"],
            registry=self.registry,
        )
        self.phase_seconds = Histogram(
            "renderfleet_phase_seconds",
            "How long renders stayed in a phase.",
            ["kind", "phase"],
            buckets=LONG,
            registry=self.registry,
        )
        self.wait_seconds = Histogram(
            "renderfleet_wait_seconds",
            "How long renders waited for their start, by the last reason that was told.",
            ["kind", "reason"],
            buckets=LONG,
            registry=self.registry,
        )
        self.let_go_unarchived = Counter(
            "renderfleet_let_go_unarchived",
            "Finished renders let go of because the archive did not answer before its deadline.",
            registry=self.registry,
        )
        self.resync_repairs = Counter(
            "renderfleet_resync_repairs",
            "Objects that a list showed newer than any watch had told.",
            ["kind"],
            registry=self.registry,
        )
        self.watch_restarts = Counter(
            "renderfleet_watch_restarts", "Times the watches were begun anew after a failure.", registry=self.registry
        )
        self.admission_seconds = Histogram(
            "renderfleet_admission_seconds", "Time of one admission pass.", buckets=SHORT, registry=self.registry
        )
        self.registry.register(_Live(self))

    def status_written(self, before: Render, after: Render, now: float) -> None:
        """A render's status moved."""
        if (before.phase or Phase.QUEUED) != after.phase:
            self._phase_left(before, now)
        if after.is_finished and not before.is_finished:
            self.ends.labels(after.kind, str(after.phase), str(after.status.get("reason"))).inc()
        if ended := _attempt_ended(before, after):
            self.attempts.labels(after.kind, *ended).inc()
        if (spent := after.paid_micros - before.paid_micros) > 0:
            currency = str(after.status["cost"].get("currency", "USD"))
            self.cost.labels(after.kind, after.provider, currency).inc(spent / 1_000_000)
        if before.started_at is None and after.started_at is not None:
            reason = str(before.status.get("reason") or "none")
            self.wait_seconds.labels(after.kind, reason).observe(max(0.0, now - before.queued_at))

    def _phase_left(self, before: Render, now: float) -> None:
        if not before.is_finished:
            stayed = max(0.0, now - _phase_began(before))
            self.phase_seconds.labels(before.kind, str(before.phase or Phase.QUEUED)).observe(stayed)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)

    def live(self) -> Iterable[Metric]:
        """Gauges, as they are now."""
        gauges = self.gauges
        yield _one("renderfleet_queue_depth", "Keys ready for a worker.", gauges.queue_depth())
        yield _one(
            "renderfleet_queue_oldest_seconds",
            "How long the oldest ready key has been waiting.",
            gauges.queue_oldest_seconds(),
        )
        yield _one(
            "renderfleet_archive_lag_seconds",
            "How long the oldest change has been waiting for PostgreSQL.",
            gauges.archive_lag_seconds(),
        )
        yield _one("renderfleet_archive_waiting", "Renders with a change for PostgreSQL.", gauges.archive_waiting())
        yield _one("renderfleet_vendor_jobs_watched", "Vendor jobs that are polled.", gauges.vendor_jobs_watched())
        dropped = CounterMetricFamily(
            "renderfleet_events_dropped", "Events about renders that came too fast to be posted."
        )
        dropped.add_metric([], gauges.events_dropped())
        yield dropped
        ages = GaugeMetricFamily(
            "renderfleet_watch_age_seconds",
            "Since the last event of a watch, or proof that none was due.",
            labels=["resource"],
        )
        for resource, age in sorted(gauges.watch_age_seconds().items()):
            ages.add_metric([resource], age)
        yield ages
        renders = GaugeMetricFamily("renderfleet_renders", "Renders by kind and phase.", labels=["kind", "phase"])
        for (kind, phase), count in sorted(Tally(gauges.renders()).items()):
            renders.add_metric([kind, phase], count)
        yield renders
        if self._fleet is not None and self._clock is not None:
            yield from _fleet_gauges(self._fleet, self._clock.now())
            yield from _pool_gauges(self._fleet, self._clock.now(), gauges.pool_of)


def _attempt_ended(before: Render, after: Render) -> tuple[str, str] | None:
    """(stage, category) of what this write ended; None when it ended none, or took one back as if it had never been."""
    last = after.attempts[-1] if after.attempts else {}
    if before.phase is Phase.WAITING:  # its start was counted when the vendor accepted
        if after.phase is Phase.FINALIZING:
            return Stage.POLL, "done"
        return (Stage.POLL, str(last["category"])) if "category" in last else None
    opened = before.open_attempt
    if (
        opened is None
        or "endedAt" not in last
        or (opened["stage"], opened["number"]) != (last["stage"], last["number"])
    ):
        return None
    return str(last["stage"]), str(last.get("category") or "done")


def _phase_began(render: Render) -> float:
    """Since when a live render is in its phase (seconds since 1970)."""
    status = render.status
    last = render.attempts[-1] if render.attempts else {}
    match render.phase:
        case Phase.RUNNING | Phase.FINALIZING:
            began = last.get("startedAt")
        case Phase.WAITING:
            began = (status.get("provider") or {}).get("acceptedAt")
        case Phase.HELD:
            held = render.condition(ConditionType.STALLED)
            began = held["lastTransitionTime"] if held else None
        case _:  # sent back into the queue when its last attempt ended, unless it was never started
            began = last.get("endedAt")
    return seconds_of(began) if began else render.queued_at


def _one(name: str, text: str, value: float) -> GaugeMetricFamily:
    made = GaugeMetricFamily(name, text)
    made.add_metric([], value)
    return made


def _fleet_gauges(fleet: Fleet, now: float) -> Iterable[Metric]:
    depth = GaugeMetricFamily(
        "renderfleet_waiting", "Renders that wait, by provider and reason.", labels=["provider", "reason"]
    )
    oldest = GaugeMetricFamily(
        "renderfleet_waiting_oldest_seconds", "How long the longest-waiting render waits.", labels=["provider"]
    )
    stopped = fleet.stopped_by_lane()
    # A name that no provider has is whatever a user typed.
    counts = Tally((name if name in fleet.accounts else "none", why) for name, why in fleet.waiting_outside())
    for lane, count in fleet.waiting_by_lane().items():
        reason = stopped[lane].reason.value if lane in stopped else "BehindOthers"
        counts[lane[0] or "none", reason] += count
    for (provider, reason), count in sorted(counts.items()):
        depth.add_metric([provider, reason], count)
    since: dict[str, float] = {}
    for lane, at in fleet.oldest_since().items():
        since[lane[0] or "none"] = min(at, since.get(lane[0] or "none", now))
    for provider, at in sorted(since.items()):
        oldest.add_metric([provider], max(0.0, now - at))
    yield depth
    yield oldest
    names = ("circuit_open", "held", "in_flight", "places", "tokens", "starts_per_second")
    texts = (
        "1 while the provider's circuit is open, 0.5 half-open, else 0.",
        "1 while the provider is held.",
        "Calls and vendor jobs in flight.",
        "Calls and vendor jobs that may be in flight.",
        "Starts that the provider's rate allows right now.",
        "Starts that are allowed per second: what was set, or less after the vendor's refusals.",
    )
    families = {
        name: GaugeMetricFamily(f"renderfleet_provider_{name}", text, labels=["provider"])
        for name, text in zip(names, texts, strict=True)
    }
    for provider, account in sorted(fleet.accounts.items()):
        seen = account.snapshot(now)
        state = {"Closed": 0.0, "HalfOpen": 0.5, "Open": 1.0}[account.circuit.state]
        for name, value in zip(
            names,
            (
                state,
                float(seen.held is not None),
                account.in_flight + account.tickets,
                seen.places,
                seen.tokens,
                seen.per_second,
            ),
            strict=True,
        ):
            families[name].add_metric([provider], value)
    left = GaugeMetricFamily(
        "renderfleet_provider_credits_remaining",
        "What is left in the account in the vendor's own credits, of vendors that tell.",
        labels=["provider"],
    )
    for provider, account in sorted(fleet.accounts.items()):
        if account.credits_remaining is not None:
            left.add_metric([provider], account.credits_remaining)
    yield from families.values()
    yield left
    yield _shares(fleet)


def _pool_gauges(fleet: Fleet, now: float, pool_of: Callable[[Stage], str]) -> Iterable[Metric]:
    """What waits for nodes of a kind: the numbers to scale a node pool by."""
    depth = GaugeMetricFamily(
        "renderfleet_pool_waiting", "Renders that wait, by the pool their next pod needs.", labels=["pool"]
    )
    oldest = GaugeMetricFamily(
        "renderfleet_pool_waiting_oldest_seconds", "How long the longest-waiting of them waits.", labels=["pool"]
    )
    # A pool that nobody waits for is told, too: a scaler takes a metric that is not there for a failure.
    counts = Tally({pool_of(stage): 0 for stage in DEFAULT_POOLS})
    since: dict[str, float] = {}
    for stage, (count, begun) in fleet.waiting_by_stage().items():
        pool = pool_of(stage)
        counts[pool] += count
        since[pool] = min(begun, since.get(pool, now))
    for pool, count in sorted(counts.items()):
        depth.add_metric([pool], count)
        oldest.add_metric([pool], max(0.0, now - since.get(pool, now)))
    yield depth
    yield oldest


def _shares(fleet: Fleet) -> Metric:
    """How full the tenants' quotas are, as a distribution: tenants are too many to be labels."""
    shares = [share for namespace in fleet.cache.tenant_of if (share := fleet.quota_share(namespace)) is not None]
    buckets: list[tuple[str, float]] = [
        (str(limit), float(sum(share <= limit for share in shares))) for limit in SHARES
    ]
    made = HistogramMetricFamily("renderfleet_quota_use_ratio", "Share of each tenant's pods in use.")
    made.add_metric([], [*buckets, ("+Inf", float(len(shares)))], sum(shares))
    return made


class _Live(Collector):
    """The collector that asks for gauges at each scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """As prometheus_client asks."""
        return self._metrics.live()

    def describe(self) -> Iterable[Metric]:
        """Nothing: the books are not filled yet when it is registered."""
        return ()
