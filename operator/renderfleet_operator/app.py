"""Put the parts together and run them: `Operator` is the whole program, also for tests.

start     probes -> lease -> list everything -> serve the queue and watch
stop      on SIGTERM or `stop`: watches end, running work ends, the archive is flushed, the lease is given back
lost      the lease was not renewed, or another one has it: as a stop, but work in hand is dropped where it is
failure   a part that dies ends the process, except the watches: those are begun anew, as an error line in a stream is no
          reason to forget everything
"""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from renderfleet_client.cluster import Cluster
from renderfleet_client.errors import ApiError
from renderfleet_store.engine import StoreUnavailable, make_engine
from renderfleet_store.media import MediaStore, StorageSettings
from renderfleet_store.mirror import Mirror

from . import handlers, health
from .archive import Archive
from .cache import Cache, Key
from .callbacks import Callbacks
from .children.job import Shape, pool_of
from .clock import Clock, SystemClock
from .decide.observed import Policy
from .events import Events
from .execute import Executor
from .fleet import Fleet
from .http import callback_door, probes
from .intake import ADMISSION, PLACES, Intake
from .lease import Lease, identity_of_process
from .metrics import Metrics
from .observe import Observer
from .providers import Providers
from .queue import WorkQueue
from .reconcile import Reconciler, ReportBudget
from .record import RunRecords
from .secrets import VendorKeys
from .settings import OperatorSettings
from .tenants import Tenants
from .vendors import VendorDesk, VendorWatch
from .watches import Watches

log = structlog.get_logger(__name__)

SHUTDOWN_SECONDS = 10.0
SPENDING_SECONDS = 10.0
"""How far a tenant's told spending may lag; what is decided by is always up to date."""
RESTARTS_MOST = 10
RESTARTS_WINDOW_SECONDS = 300.0


def shape_of(settings: OperatorSettings) -> Shape:
    """What the settings say about runner pods."""
    return Shape(
        image=settings.runner_image,
        pull_policy=settings.runner_image_pull_policy,
        pools={pool.value: one.to_wire() for pool, one in settings.pools.items()},
        stage_pools={stage.value: pool.value for stage, pool in settings.stage_pools.items()},
        ttl_seconds=settings.job_ttl_seconds,
        env=settings.runner_env,
    )


def callbacks_of(settings: OperatorSettings) -> Callbacks | None:
    """What the settings say about vendors' callbacks; None when there shall be none."""
    if settings.callback_url is None or settings.callback_secret is None:
        return None
    return Callbacks(settings.callback_url, settings.callback_secret.get_secret_value().encode())


def policy_of(settings: OperatorSettings) -> Policy:
    """What the settings say about decisions."""
    return Policy(
        ttl_succeeded_seconds=settings.ttl_succeeded_seconds,
        ttl_failed_seconds=settings.ttl_failed_seconds,
        ttl_cancelled_seconds=settings.ttl_cancelled_seconds,
        archive_deadline_seconds=settings.archive_deadline_seconds,
        pod_patience_seconds=settings.pod_patience_seconds,
    )


class Operator:
    """The operator, ready to run once. Make it inside the event loop that runs it."""

    def __init__(
        self,
        settings: OperatorSettings,
        cluster: Cluster,
        media: MediaStore,
        engine: AsyncEngine,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self.cluster = cluster
        self.engine = engine
        self.clock = clock or SystemClock()
        self.stop = asyncio.Event()
        self.is_listed = False
        self.cache = Cache()
        self.fleet = Fleet(self.cache, self.clock, settings.fair_half_life_seconds)
        self.metrics = Metrics(self.fleet, self.clock)
        self.queue = WorkQueue(self._work, self.clock, settings.workers)
        self.archive = Archive(Mirror(engine), self.clock)
        self.keys = VendorKeys(cluster, self.cache, self.clock, settings.system_namespace)
        self.desk = VendorDesk(self.cache, self.keys)
        self.vendor_watch = VendorWatch(self.desk, self.clock, moved=self._look_again)
        self.records = RunRecords(media, self.clock)
        self.events = Events(cluster, self.clock)
        self.lease = Lease(
            cluster,
            self.clock,
            settings.system_namespace,
            settings.lease_name,
            settings.lease_seconds,
            settings.identity or identity_of_process(),
        )
        budget = ReportBudget(self.clock, self.queue, settings.wait_reports_per_second)
        self.observer = Observer(
            cluster=cluster,
            cache=self.cache,
            fleet=self.fleet,
            archive=self.archive,
            records=self.records,
            desk=self.desk,
            watch=self.vendor_watch,
            clock=self.clock,
            policy=policy_of(settings),
            may_report=budget.allows,
        )
        self.callbacks = callbacks_of(settings)
        self.executor = Executor(
            cluster=cluster,
            cache=self.cache,
            fleet=self.fleet,
            queue=self.queue,
            archive=self.archive,
            keys=self.keys,
            media=media,
            desk=self.desk,
            watch=self.vendor_watch,
            events=self.events,
            metrics=self.metrics,
            clock=self.clock,
            shape=shape_of(settings),
            callbacks=self.callbacks,
            forget=self._forget,
        )
        self.tenants = Tenants(cluster, self.cache, self.fleet, self.clock, namespace_made=self.keys.forget_copies)
        self.providers = Providers(cluster, self.cache, self.fleet, self.keys, self.desk, self.clock)
        self.reconciler = Reconciler(
            cache=self.cache,
            fleet=self.fleet,
            queue=self.queue,
            observer=self.observer,
            executor=self.executor,
            archive=self.archive,
            tenants=self.tenants,
            providers=self.providers,
            budget=budget,
            metrics=self.metrics,
            clock=self.clock,
        )
        self.intake = Intake(
            cache=self.cache,
            fleet=self.fleet,
            queue=self.queue,
            archive=self.archive,
            metrics=self.metrics,
            clock=self.clock,
            dependents=self.observer.dependents,
            forget_render=self._forget,
        )
        self.probes = probes(self.metrics, self.why_ill, self.why_not_ready)
        self.callback_door = callback_door(self._hear)
        self._wire()

    def _hear(self, uid: str, code: str) -> bool:
        """A callback: look at the vendor's job, if somebody waits for it; False when the address is none of ours."""
        if self.callbacks is None or not self.callbacks.is_ours(uid, code):
            return False
        self.vendor_watch.look_now(uid)
        return True

    def _wire(self) -> None:
        """Who tells whom."""
        self.cache.on_render = self.intake.render_changed
        self.fleet.wake = lambda: self.queue.put(ADMISSION)
        self.fleet.provider_moved = lambda name: self.queue.put(Key("RenderProvider", "", name), after=0.5)
        self.fleet.tenant_moved = lambda name: self.queue.put(Key("RenderTenant", "", name), after=SPENDING_SECONDS)
        self.archive.stored = self.queue.put
        self.vendor_watch.tell = lambda news: self.fleet.tell(news, self.keys.version(news.provider))
        self.queue.watcher.waited = self.metrics.queue_wait_seconds.observe
        self.queue.watcher.worked = self.metrics.reconcile_seconds.observe
        self.queue.watcher.failed = self.metrics.reconcile_failures.inc
        gauges = self.metrics.gauges
        gauges.queue_depth = lambda: len(self.queue)
        gauges.queue_oldest_seconds = self.queue.oldest_seconds
        gauges.watch_age_seconds = self.intake.ages
        gauges.archive_lag_seconds = self.archive.lag_seconds
        gauges.archive_waiting = lambda: len(self.archive)
        gauges.vendor_jobs_watched = lambda: len(self.vendor_watch)
        gauges.renders = self.cache.kinds_and_phases
        gauges.pool_of = lambda stage: pool_of(stage, self.executor.shape)
        gauges.events_dropped = lambda: self.events.dropped

    async def _work(self, key: Any) -> None:
        await self.reconciler(key)

    def _look_again(self, key: Key) -> None:
        self.queue.put(key, urgent=True)

    def _forget(self, uid: str) -> None:
        self.vendor_watch.forget(uid)
        self.observer.forget(uid)

    # Health

    def why_ill(self) -> str | None:
        """What stands still, or None."""
        return health.why_ill(
            is_listed=self.is_listed,
            oldest_seconds=self.queue.oldest_seconds(),
            idle_seconds=self.clock.monotonic() - self.queue.beat,
            watch_ages=self.intake.ages(),
            resync_seconds=self.settings.resync_seconds,
        )

    def why_not_ready(self) -> str | None:
        """What is still missing, or None."""
        return health.why_not_ready(leads=self.lease.is_held, is_listed=self.is_listed)

    # Life

    async def run(self) -> None:
        """Run until stopped. Raises LostLease, and whatever ended a part that must not end."""
        await self.probes.start(self.settings.http_host, self.settings.http_port)
        if self.callbacks is not None:
            await self.callback_door.start(self.settings.http_host, self.settings.callback_port)
        try:
            if not await self._unless_stopped(self.lease.acquire()):
                return
            keeping = asyncio.create_task(self.lease.keep(), name="lease")
            try:
                if await self._unless_stopped(self._list_first(), keeping):
                    await self._serve(keeping)
            finally:
                keeping.cancel()
                await self.lease.release()
        finally:
            await self.close()

    async def _unless_stopped(self, doing: Awaitable[None], *keeping: asyncio.Task[None]) -> bool:
        """Do it, unless a stop comes first; True when it was done. Raises LostLease when it is lost meanwhile."""
        task = asyncio.ensure_future(doing)
        stopping = asyncio.create_task(self.stop.wait())
        await asyncio.wait({task, stopping, *keeping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not task.done():
            task.cancel()
        for one in keeping:
            if one.done():
                one.result()
        if task.done():
            task.result()
            return True
        return False

    async def _list_first(self) -> None:
        """Know everything before deciding anything."""
        pause = 0.2
        while True:
            try:
                await self.intake.list_all(self.cluster)
                break
            except ApiError as failed:
                log.warning("listing failed", error=str(failed)[:300], again_in=pause)
                await asyncio.sleep(pause)
                pause = min(5.0, pause * 2)
        self.fleet.ready()
        versions = (self.cache.version(key) for key in self.cache.render_keys())
        self.archive.compare({known[0] for known in versions if known is not None})
        self.is_listed = True
        self.queue.put(PLACES, after=1.0)
        log.info("ready", renders=len(self.cache), tenants=len(self.cache.tenants), providers=len(self.cache.providers))

    async def _serve(self, keeping: asyncio.Task[None]) -> None:
        parts = [
            keeping,
            asyncio.create_task(self.queue.run(), name="queue"),
            asyncio.create_task(self.archive.run(), name="archive"),
            asyncio.create_task(self.vendor_watch.run(), name="vendor-watch"),
            asyncio.create_task(self.events.run(), name="events"),
            asyncio.create_task(self._resync(), name="resync"),
            asyncio.create_task(self._watch(), name="watch"),
            asyncio.create_task(Watches(self.cluster, self.intake, self.metrics).run(), name="watches"),
        ]
        stopping = asyncio.create_task(self.stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait({*parts, stopping}, return_when=asyncio.FIRST_COMPLETED)
            self.stop.set()
            for task in done:
                task.result()
        finally:
            self.stop.set()
            await self._wind_down([part for part in parts if part is not keeping], leads=not keeping.done())
            stopping.cancel()

    async def _wind_down(self, parts: list[asyncio.Task[None]], *, leads: bool) -> None:
        """Let work in hand end, then stop the parts and store what is left to store.

        Without the lease nothing is let end: the next one may have begun, and it knows what to make of half-done work.
        """
        if leads:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SHUTDOWN_SECONDS / 2):
                    await self.queue.drain()
        for part in parts:
            part.cancel()
        await asyncio.wait(parts, timeout=SHUTDOWN_SECONDS / 2)
        with contextlib.suppress(TimeoutError, StoreUnavailable):
            async with asyncio.timeout(SHUTDOWN_SECONDS / 4):
                await self.archive.flush()

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self.settings.resync_seconds)
            try:
                await self.intake.list_all(self.cluster)
            except ApiError as failed:
                log.warning("resync failed", error=str(failed)[:300])
                continue
            for key, _ in self.cache.live():
                self.queue.put(key)
            self.queue.put(ADMISSION)

    async def _watch(self) -> None:
        """Keep watching; a watch that ends in an error is begun anew at once, unless that does not help."""
        ended: list[float] = []
        while not self.stop.is_set():
            try:
                await handlers.WatchThread(self.intake, self.cluster.login).run()
            except Exception as failed:
                now = self.clock.monotonic()
                ended = [*(at for at in ended if now - at < RESTARTS_WINDOW_SECONDS), now]
                self.metrics.watch_restarts.inc()
                log.warning("the watches ended", error=f"{type(failed).__name__}: {failed}"[:300], times=len(ended))
                if len(ended) > RESTARTS_MOST:
                    raise
                await asyncio.sleep(min(5.0, 0.2 * 2 ** len(ended)))

    async def close(self) -> None:
        """Close connections."""
        await self.probes.stop()
        await self.callback_door.stop()
        await self.desk.close()
        await self.records.close()
        await self.cluster.close()
        await self.engine.dispose()


async def run(settings: OperatorSettings, kubeconfig: str | None = None) -> None:
    """Run the operator of this process. Raises LoginError, LostLease and others: the process is to end."""
    media = MediaStore(StorageSettings())
    engine = make_engine(settings.database_url.get_secret_value(), pooled=True)
    cluster = await Cluster.connect(kubeconfig, field_manager="renderfleet-operator")
    operator = Operator(settings, cluster, media, engine)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, operator.stop.set)
    await operator.run()
