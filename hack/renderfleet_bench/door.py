"""What does the door cost? The API as a process of its own, held by turns against what it stands in front of.

submits  POST /avatars/previews with an Idempotency-Key, against the same object POSTed to the API server
gets     GET /jobs/{id}, waiting jobs and finished ones, against a bare route that selects one row
streams  listeners of one API process: from the operator's write to the event at each of them
memory   of that process, at its peak over all of it

Nobody renders meanwhile: the operator is stopped. Both sides of a pair are asked by the same load generator, and the
API and the bare POSTs by the same account, so that the API server's fair queuing treats them alike.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from renderfleet_bench.children import Child
from renderfleet_bench.fleet import BUCKET, STORAGE_PASSWORD, STORAGE_USER, Fleet, free_port
from renderfleet_bench.load import AVATARS, CONCURRENCY, Renders, in_parallel
from renderfleet_bench.plan import Size
from renderfleet_bench.proc import cost_of, cpu_seconds_of_tree
from renderfleet_bench.stats import Ratio, quantile, ratio_of_medians
from renderfleet_bench.throughput import RENDERS, add
from renderfleet_bench.wire import DONE, OPEN, Answer, Arrivals, Target, Volley, fire, listen
from renderfleet_client.login import load_login
from renderfleet_cluster.say import Trouble, line
from renderfleet_crds import meta
from renderfleet_store.engine import make_engine
from renderfleet_store.mirror import Mirror, RenderSeen

SUBJECT = Renders(tenant="door", provider=RENDERS.provider)
ADMIN_KEY = "admin-of-the-bench-only"
UNLIMITED = "1000000"
"""Requests per second and key: one key stands for thousands of clients here."""
READY_WITHIN_SECONDS = 60.0
WARM_UP_SECONDS = 1.0
LOOKED_AT = 200
"""Jobs that are asked for by turns; every other one is finished and has media."""
OPENED_AT_ONCE = 50
OPEN_WITHIN_SECONDS = 60.0
ARRIVE_WITHIN_SECONDS = 20.0
BETWEEN_CHANGES_SECONDS = 0.3
ON_THE_WAY = ("Running", "Waiting", "Finalizing", "Retrying")
"""Phases that follow each other until the last change, which is the end."""


@dataclass(frozen=True)
class Pairs:
    """Rates of both sides, in the order of measuring."""

    ours: list[Volley] = field(default_factory=list)
    bare: list[Volley] = field(default_factory=list)
    cpu_ours: dict[str, float] = field(default_factory=dict)
    cpu_bare: dict[str, float] = field(default_factory=dict)
    """Processor seconds of all rounds, by process."""

    @property
    def ratio(self) -> Ratio:
        """Our rate over the bare one."""
        return ratio_of_medians([one.per_second for one in self.ours], [one.per_second for one in self.bare])

    def note(self) -> str:
        """Rates and spread, for beside the ratio."""
        ratio = self.ratio
        bare, ours = (quantile([one.per_second for one in side], 0.5) for side in (self.bare, self.ours))
        return (
            f"{ours:.0f}/s against {bare:.0f}/s, {ratio.pairs} pairs:"
            f" {ratio.lowest_pair:.2f} to {ratio.highest_pair:.2f}"
        )

    def cpu_rows(self) -> list[tuple[str, str]]:
        """Milliseconds per request by process: bare, ours."""
        counts = [sum(one.count for one in side) for side in (self.bare, self.ours)]
        bare, ours = (
            {name: 1000 * seconds / count for name, seconds in [*spent.items(), ("all", sum(spent.values()))]}
            for spent, count in zip((self.cpu_bare, self.cpu_ours), counts, strict=True)
        )
        return [
            (name, f"{bare.get(name, 0):.2f} ms, {ours[name]:.2f} ms")
            for name in sorted(ours, key=lambda name: -ours[name])
            if max(bare.get(name, 0), ours[name]) >= 0.005
        ]

    def raw(self) -> dict[str, Any]:
        return {
            "ours": [vars(one) for one in self.ours],
            "bare": [vars(one) for one in self.bare],
            "cpuOurs": self.cpu_ours,
            "cpuBare": self.cpu_bare,
        }


@dataclass(frozen=True)
class Heard:
    """When phase changes reached the listeners, in seconds from before the operator's write."""

    listeners: int
    delays: list[list[float]]
    """By change; each holds one delay per listener."""
    done: list[float]
    """Of the last event of a job's stream, which carries the whole job."""

    @property
    def p99_seconds(self) -> float:
        """Over all changes and listeners."""
        return quantile([delay for change in self.delays for delay in change], 0.99)

    def note(self) -> str:
        every = [delay for change in self.delays for delay in change]
        return (
            f"{len(self.delays)} changes to {self.listeners} listeners: p50 {quantile(every, 0.5):.2f} s,"
            f" worst {max(every):.2f} s; the whole job at its end: worst {max(self.done):.2f} s"
        )


@dataclass(frozen=True)
class Found:
    """All about the door."""

    submits: Pairs
    gets: Pairs
    heard: Heard
    peak_rss_mib: float
    rss_before_streams_mib: float

    def rss_note(self) -> str:
        return f"{self.rss_before_streams_mib:.0f} MiB before the {self.heard.listeners} listeners came"

    def raw(self) -> dict[str, Any]:
        return {
            "submits": self.submits.raw(),
            "gets": self.gets.raw(),
            "heard": {"delays": self.heard.delays, "done": self.heard.done},
            "rssMib": {"peak": self.peak_rss_mib, "beforeStreams": self.rss_before_streams_mib},
        }


@dataclass(frozen=True, slots=True)
class Made:
    """A job that the API accepted."""

    id: str
    name: str

    @staticmethod
    def of(answer: Answer) -> Made:
        told = json.loads(answer.body)
        return Made(told["id"], told["name"])


@dataclass(frozen=True)
class Door:
    """The API and what it is held against."""

    fleet: Fleet
    api: Child
    bare: Child
    to_api: Target
    """With a key of the tenant."""
    to_bare: Target
    to_cluster: Target
    """The API server, as the API itself knows it."""
    mirror: Mirror
    """The operator's way into the database."""

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time so far of everything that takes part, by name."""
        pids = {**self.fleet.plane.pids(), **self.fleet.pids, "api": self.api.pid, "bare route": self.bare.pid}
        own = cost_of(os.getpid()).cpu_seconds
        return {"bench": own, **{name: cpu_seconds_of_tree(pid) for name, pid in pids.items()}}


async def measure(fleet: Fleet, size: Size) -> Found:
    """All of it, in about `4 * pairs * seconds` plus a quarter of a minute. The operator is not running afterwards."""
    await fleet.add_tenant(SUBJECT.tenant)
    await fleet.stop_operator()
    async with running(fleet) as door:
        line(f"door: submits against bare POSTs, {size.pairs} pairs of {size.seconds:g} s each")
        made: list[Made] = []
        submits = await _submits(door, size, made)
        line(f"door: GETs against a bare route, {size.pairs} pairs of {size.seconds:g} s each")
        await _report(door, made[::2], ended())
        gets = await _gets(door, size, [one.id for one in made])
        before = door.api.cost().rss_mib
        line(f"door: {size.changes} phase changes to {size.listeners} listeners")
        heard = await _streams(door, size)
        return Found(submits, gets, heard, door.api.cost().peak_rss_mib, before)


@asynccontextmanager
async def running(fleet: Fleet) -> AsyncIterator[Door]:
    """The API process and the bare route, ready, and a key; gone when the context ends."""
    kubeconfig = await fleet.plane.identity("api")
    async with AsyncExitStack() as stack:
        targets, children = [], []
        for name, module in (("api", "renderfleet_api"), ("bare-route", "renderfleet_bench.bare")):
            port = free_port()
            environment = {**_environment(fleet, str(kubeconfig)), "RENDERFLEET_API_PORT": str(port)}
            child = Child(name, [sys.executable, "-m", module], fleet.logs / f"{name}.log", environment)
            stack.callback(child.stop)
            children.append(child)
            targets.append(Target("127.0.0.1", port))
        for child, target in zip(children, targets, strict=True):
            await _until_ready(child, target)
        to_api, to_bare = targets
        key = await _key(to_api)
        engine = make_engine(fleet.database_url, pooled=True)
        stack.push_async_callback(engine.dispose)
        yield Door(
            fleet=fleet,
            api=children[0],
            bare=children[1],
            to_api=Target(to_api.host, to_api.port, {"Authorization": f"Bearer {key}"}),
            to_bare=to_bare,
            to_cluster=_cluster_target(str(kubeconfig)),
            mirror=Mirror(engine),
        )


def _environment(fleet: Fleet, kubeconfig: str) -> dict[str, str]:
    return {
        "RENDERFLEET_DATABASE_URL": fleet.database_url,
        "RENDERFLEET_KEY_SECRET": "of the bench only",
        "RENDERFLEET_ADMIN_KEY": ADMIN_KEY,
        "RENDERFLEET_KUBECONFIG": kubeconfig,
        "RENDERFLEET_API_HOST": "127.0.0.1",
        "RENDERFLEET_S3_ENDPOINT": fleet.storage_url,
        "RENDERFLEET_S3_BUCKET": BUCKET,
        "RENDERFLEET_S3_ACCESS_KEY_ID": STORAGE_USER,
        "RENDERFLEET_S3_SECRET_ACCESS_KEY": STORAGE_PASSWORD,
        "RENDERFLEET_RATE_PER_SECOND": UNLIMITED,
        "RENDERFLEET_RATE_BURST": UNLIMITED,
    }


async def _until_ready(child: Child, target: Target) -> None:
    while True:
        child.check()
        try:
            if (await target.ask(target.request("GET", "/readyz"))).status == 200:
                return
        except OSError:
            pass
        if time.monotonic() - child.started_at > READY_WITHIN_SECONDS:
            raise Trouble(f"{child.name} is not ready after {READY_WITHIN_SECONDS:.0f} s", f"its log is {child.log}")
        await asyncio.sleep(0.1)


async def _key(to_api: Target) -> str:
    """A key of the tenant, as an administrator makes one."""
    body = json.dumps({"name": "bench", "scopes": ["read", "write"]}).encode()
    path = f"/admin/tenants/{SUBJECT.tenant}/keys"
    answer = await to_api.ask(to_api.request("POST", path, body, Authorization=f"Bearer {ADMIN_KEY}"))
    if answer.status != 201:
        raise Trouble(f"no key: {answer.status} {answer.body!r}", "see api.log in out/bench")
    return str(json.loads(answer.body)["key"])


def _cluster_target(kubeconfig: str) -> Target:
    login = load_login(kubeconfig)
    address = urlsplit(login.server)
    tls = login.ssl_context() if address.scheme == "https" else None
    return Target(address.hostname or "", address.port or 443, {"Authorization": f"Bearer {login.token()}"}, tls)


async def _alternate(
    door: Door, size: Size, bare: Callable[[float], Awaitable[Volley]], ours: Callable[[float], Awaitable[Volley]]
) -> Pairs:
    """Pairs of volleys, bare first; a short one of each before that nobody counts."""
    found = Pairs()
    for side in (bare, ours):
        await side(WARM_UP_SECONDS)
    for _ in range(size.pairs):
        for side, volleys, spent in ((bare, found.bare, found.cpu_bare), (ours, found.ours, found.cpu_ours)):
            before = door.cpu_seconds()
            volleys.append(await side(size.seconds))
            add(spent, before, door.cpu_seconds())
        line(f"{found.ours[-1].per_second:.0f}/s against {found.bare[-1].per_second:.0f}/s")
    return found


async def _submits(door: Door, size: Size, made: list[Made]) -> Pairs:
    """`made` gets the first jobs that the API made."""

    def note(answer: Answer) -> None:
        if len(made) < LOOKED_AT:
            made.append(Made.of(answer))

    posts, submits = bare_posts(door.to_cluster), api_submits(door.to_api)

    async def bare(seconds: float) -> Volley:
        return await fire(door.to_cluster, posts, seconds=seconds, concurrency=CONCURRENCY, wanted=201)

    async def ours(seconds: float) -> Volley:
        return await fire(door.to_api, submits, seconds=seconds, concurrency=CONCURRENCY, wanted=202, see=note)

    return await _alternate(door, size, bare, ours)


def bare_posts(target: Target) -> Iterator[bytes]:
    """The objects that the API would make, as requests to the API server; without end."""
    query = "fieldManager=renderfleet-bench&fieldValidation=Strict"
    path = f"{AVATARS.path(SUBJECT.namespace)}?{query}"
    for number in itertools.count():
        yield target.request("POST", path, json.dumps(SUBJECT.body(f"bare-{number}")).encode())


def api_submits(target: Target, keys: str = "submit") -> Iterator[bytes]:
    """The same renders asked for at the door, each with an Idempotency-Key of its own; without end."""
    body = json.dumps(SUBJECT.body("")["spec"]).encode()
    for number in itertools.count():
        yield target.request("POST", "/avatars/previews", body, Idempotency_Key=f"{keys}-{number}")


async def _report(door: Door, jobs: Sequence[Made], status: dict[str, Any]) -> None:
    """What the operator does when a phase changes: the status, then the mirror."""
    seen: list[RenderSeen] = []

    async def write(name: str) -> None:
        patched = await door.fleet.plane.cluster.patch(
            AVATARS, name, {"status": status}, SUBJECT.namespace, subresource="status"
        )
        seen.append(RenderSeen(patched))

    await in_parallel(write, [one.name for one in jobs])
    stored = await door.mirror.record(seen)
    if len(stored) != len(jobs):
        raise Trouble(f"PostgreSQL has {len(stored)} of {len(jobs)} jobs", "is a column missing?")


def ended(**more: Any) -> dict[str, Any]:
    """The status of a succeeded render: a picture and its thumbnail, one attempt."""
    files = {"image-1": 1024, "thumbnail-1": 256}
    return {
        "phase": "Succeeded",
        "progress": 100,
        "attempt": 1,
        "attempts": [{"number": 1, "stage": "generate", "charged": "true"}],
        "cost": {"estimatedMicros": 42_000, "actualMicros": 42_000, "currency": "USD"},
        "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:00:01Z",
        "outputs": [
            {
                "name": name,
                "key": f"{meta.media_prefix(SUBJECT.namespace)}bench/{name}.png",
                "contentType": "image/png",
                "bytes": side**2,
                "sha256": "ab" * 32,
                "widthPx": side,
                "heightPx": side,
            }
            for name, side in files.items()
        ],
        **more,
    }


async def _gets(door: Door, size: Size, ids: Sequence[str]) -> Pairs:
    rows = itertools.cycle([door.to_bare.request("GET", f"/rows/{one}") for one in ids])
    jobs = itertools.cycle([door.to_api.request("GET", f"/jobs/{one}") for one in ids])

    async def bare(seconds: float) -> Volley:
        return await fire(door.to_bare, rows, seconds=seconds, concurrency=CONCURRENCY, wanted=200)

    async def ours(seconds: float) -> Volley:
        return await fire(door.to_api, jobs, seconds=seconds, concurrency=CONCURRENCY, wanted=200)

    return await _alternate(door, size, bare, ours)


async def _streams(door: Door, size: Size) -> Heard:
    """Half of the listeners follow one job, the other half all that its tenant has."""
    submit = next(api_submits(door.to_api, "streams"))
    job = Made.of(await door.to_api.ask(submit))
    paths = (f"/jobs/{job.id}/events", "/events")
    requests = itertools.cycle([door.to_api.request("GET", path, Accept="text/event-stream") for path in paths])
    arrivals = Arrivals()
    transports: list[asyncio.BaseTransport] = []

    async def open_one(_: str) -> None:
        transports.append(await listen(door.to_api, next(requests), arrivals))

    began = time.monotonic()
    try:
        await in_parallel(open_one, [""] * size.listeners, OPENED_AT_ONCE)
        await arrivals.until_all_have(OPEN, size.listeners, OPEN_WITHIN_SECONDS)
        line(f"{size.listeners} streams opened in {time.monotonic() - began:.1f} s")
        delays: list[list[float]] = []
        for number, status in enumerate(changes(size.changes)):
            await asyncio.sleep(BETWEEN_CHANGES_SECONDS)
            mark = f"mark-{number}"
            began = time.monotonic()
            await _report(door, [job], {**status, "message": mark})
            await arrivals.until_all_have(mark, size.listeners, ARRIVE_WITHIN_SECONDS)
            delays.append(arrivals.delays(mark, began))
        await arrivals.until_all_have(DONE, (size.listeners + 1) // 2, ARRIVE_WITHIN_SECONDS)
        return Heard(size.listeners, delays, arrivals.delays(DONE, began))
    finally:
        for transport in transports:
            transport.close()


def changes(count: int) -> list[dict[str, Any]]:
    """Statuses, each in another phase than the one before; the last is the end."""
    on_the_way = itertools.cycle(ON_THE_WAY)
    return [*({"phase": next(on_the_way), "progress": 50} for _ in range(count - 1)), ended()]
