"""Who leads, and that it stops before another one may: a lease is lost when it cannot be renewed, not when somebody says so."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Any

import pytest
from pydantic import SecretStr

from renderfleet_client.cluster import Listing, WatchEvent
from renderfleet_client.errors import NotFound, Unavailable
from renderfleet_operator import handlers
from renderfleet_operator.app import Operator
from renderfleet_operator.clock import SystemClock
from renderfleet_operator.errors import LostLease
from renderfleet_operator.lease import Lease
from renderfleet_operator.settings import OperatorSettings
from renderfleet_store.engine import make_engine

Body = dict[str, Any]
SECONDS = 2
"""Of a lease; others may take it so long after its last renewal."""


class Cluster:
    """Keeps one Lease, and nothing else."""

    def __init__(self) -> None:
        self.lease: Body | None = None
        self.hangs = False
        self.fails = False
        self.lists: asyncio.Event | None = None
        """Set: a list is answered. None: at once."""

    async def _answer(self) -> None:
        if self.hangs:
            await asyncio.sleep(60)
        if self.fails:
            raise Unavailable(503, "", "away")

    async def get(self, *_: Any) -> Body:
        await self._answer()
        if self.lease is None:
            raise NotFound(404)
        return self.lease

    async def create(self, _: Any, body: Body, __: Any) -> Body:
        await self._answer()
        self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": "1"}}
        return self.lease

    async def patch(self, *_: Any, **__: Any) -> Body:
        await self._answer()
        assert self.lease is not None
        return self.lease

    def taken(self) -> None:
        """By another one."""
        assert self.lease is not None
        self.lease = {**self.lease, "spec": {**self.lease["spec"], "holderIdentity": "another"}}

    async def pages(self, *_: Any, **__: Any) -> AsyncIterator[Listing]:
        if self.lists is not None:
            await self.lists.wait()
        yield Listing([], "1")

    async def watch(self, *_: Any, **__: Any) -> AsyncIterator[WatchEvent]:
        await asyncio.sleep(60)
        yield WatchEvent("BOOKMARK", {})

    async def close(self) -> None:
        pass


async def held(cluster: Cluster) -> Lease:
    given: Any = cluster
    lease = Lease(given, SystemClock(), "system", "operator", SECONDS)
    await lease.acquire()
    return lease


@pytest.mark.parametrize("trouble", ["hangs", "fails"])
async def test_a_lease_that_cannot_be_renewed_is_given_up_before_others_may_take_it(trouble: str) -> None:
    cluster = Cluster()
    lease = await held(cluster)
    began = time.monotonic()
    setattr(cluster, trouble, True)

    with pytest.raises(LostLease):
        async with asyncio.timeout(3 * SECONDS):
            await lease.keep()

    assert time.monotonic() - began < SECONDS
    assert not lease.is_held


async def test_a_short_trouble_costs_nothing() -> None:
    cluster = Cluster()
    lease = await held(cluster)
    keeping = asyncio.create_task(lease.keep())
    cluster.fails = True
    await asyncio.sleep(0.5 * SECONDS)
    cluster.fails = False
    await asyncio.sleep(1.2 * SECONDS)

    assert not keeping.done()
    keeping.cancel()


def operator(cluster: Cluster) -> Operator:
    settings = OperatorSettings(
        system_namespace="system",
        runner_image="runner",
        database_url=SecretStr("postgresql+psycopg://nobody@127.0.0.1:1/none"),
        http_port=0,
        http_host="127.0.0.1",
    )
    given: Any = cluster
    nothing: Any = None
    made = Operator(settings, given, nothing, make_engine(settings.database_url.get_secret_value(), pooled=True))
    made.lease.seconds = SECONDS
    return made


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.01)


async def test_a_lease_that_is_lost_while_listing_ends_the_process() -> None:
    cluster = Cluster()
    cluster.lists = asyncio.Event()
    one = operator(cluster)
    running = asyncio.create_task(one.run())
    await until(lambda: one.lease.is_held)
    cluster.taken()

    with pytest.raises(LostLease):
        async with asyncio.timeout(3 * SECONDS):
            await running


async def test_with_the_lease_goes_the_work_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop lets it end; but another one may be at the same work by now."""

    async def watch(_: Any) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(handlers.WatchThread, "run", watch)
    cluster = Cluster()
    one = operator(cluster)
    one.cluster.login = None  # type: ignore[assignment]
    done: list[Hashable] = []

    async def work(key: Hashable) -> None:
        if key == "render":
            await asyncio.sleep(1.5 * SECONDS)
            done.append(key)

    one.queue.work = work
    running = asyncio.create_task(one.run())
    await until(lambda: one.is_listed)
    one.queue.put("render")
    cluster.taken()

    with pytest.raises(LostLease):
        async with asyncio.timeout(10):
            await running
    assert done == []
