"""PostgreSQL is stopped while many renders finish: they go on, nothing is lost, and each end is told of exactly once.

Ten minutes instead of seconds: RENDERFLEET_OUTAGE_SECONDS=600 .venv/bin/python -m pytest tests/cluster/operator/test_archive_outage.py
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.node import Ended, PodRun, broke, succeed
from tests.support.postgres import Postgres

from renderfleet_client.errors import QuotaNotReady
from renderfleet_client.resources import Resource
from renderfleet_crds.conditions import ConditionType, find_condition
from renderfleet_crds.kinds import BY_KIND
from renderfleet_operator import archive
from renderfleet_operator.app import Operator
from renderfleet_store.engine import make_engine, transaction
from renderfleet_store.tables import deliveries, job_ends, job_events, jobs, outbox, usage, webhook_endpoints

from .conftest import TENANTS, Body, Fleet, eventually

OUTAGE_SECONDS = float(os.environ.get("RENDERFLEET_OUTAGE_SECONDS", "5"))
CATCH_UP_SECONDS = 60
"""The operator asks every 15 s at most whether PostgreSQL is back; a write of all rows takes a few more."""
REFUSED_EVERY = 10
KNOWN_BEFORE = 10
"""So many rows are there, unfinished, when PostgreSQL stops."""


async def _works_or_is_refused(pod: PodRun) -> Ended:
    number = int(pod.task["name"].removeprefix("r"))
    return broke("user", charged="false") if number % REFUSED_EVERY == 0 else await succeed(pod)


def _gauge(operator: Operator, name: str) -> float:
    for family in text_string_to_metric_families(operator.metrics.text().decode()):
        for sample in family.samples:
            if sample.name == name:
                return float(sample.value)
    raise AssertionError(f"the operator does not tell {name}")


async def _renders(fleet: Fleet) -> dict[str, Body]:
    """All renders of the tenant by UID."""
    found = {}
    for kind in ("VoiceJob", "AvatarRender"):
        for body in (await fleet.cluster.list(Resource.of(BY_KIND[kind]), fleet.namespace)).items:
            found[body["metadata"]["uid"]] = body
    return found


def _archived(body: Body) -> str | None:
    """What its condition says of the archive, if it has one."""
    found = find_condition((body.get("status") or {}).get("conditions") or [], ConditionType.ARCHIVED)
    return f"{found['status']} {found['reason']}" if found else None


def _is_over(body: Body) -> bool:
    return (body.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    made = make_engine(database, pooled=True)
    yield made
    await made.dispose()


async def _rows(engine: AsyncEngine, *columns: Any, of: str) -> list[Any]:
    async with transaction(engine) as connection:
        table = columns[0].table
        return list(await connection.execute(select(*columns).where(table.c.namespace == of)))


@pytest.mark.parametrize(
    ("renders", "operator_dies"),
    [pytest.param(200, False, id="200 renders"), pytest.param(30, True, id="and the operator dies meanwhile")],
)
async def test_nothing_is_lost_while_postgresql_is_stopped(
    fleet: Fleet,
    postgres: Postgres,
    engine: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
    renders: int,
    operator_dies: bool,
) -> None:
    monkeypatch.setattr(archive, "LATE_SECONDS", 2.0)
    gate = asyncio.Event()

    async def work(pod: PodRun) -> Ended:
        await gate.wait()
        return await _works_or_is_refused(pod)

    async def submit(number: int) -> None:
        while True:
            try:
                await fleet.apply("VoiceJob" if number % 2 else "AvatarRender", f"r{number}")
                return
            except QuotaNotReady:  # two changes of the quota's count at once: every client asks again
                await asyncio.sleep(0.05)

    fleet.node.program = work
    await fleet.cluster.patch(TENANTS, fleet.tenant, {"spec": {"concurrency": 20}})
    operator = await fleet.start()
    async with transaction(engine) as connection:
        endpoint = {"id": "we_1", "namespace": fleet.namespace, "url": "https://a.example/", "types": [], "secrets": []}
        await connection.execute(insert(webhook_endpoints).values(endpoint))
    for number in range(KNOWN_BEFORE):
        await submit(number)

    async def known() -> bool:
        return len(await _rows(engine, jobs.c.uid, of=fleet.namespace)) == KNOWN_BEFORE

    await eventually(known, 30)

    postgres.stop()
    stopped_at = time.monotonic()
    try:
        gate.set()
        for number in range(KNOWN_BEFORE, renders):
            await submit(number)
            await asyncio.sleep(OUTAGE_SECONDS / renders)
        if operator_dies:
            await fleet.kill()
            operator = await fleet.start()

        async def all_over() -> bool:
            found = await _renders(fleet)
            return len(found) == renders and all(map(_is_over, found.values()))

        await eventually(all_over, 60 + renders)
        over_after = time.monotonic() - stopped_at
        await asyncio.sleep(max(2.0, OUTAGE_SECONDS - over_after))
        # What people look at by night: how much is not archived yet, and since when.
        # Renders that earlier tests left in the same cluster may be told of, too.
        assert _gauge(operator, "renderfleet_archive_waiting") >= renders
        since = time.monotonic() - stopped_at if not operator_dies else 1.0
        assert _gauge(operator, "renderfleet_archive_lag_seconds") >= min(since, OUTAGE_SECONDS) * 0.8
        held = await _renders(fleet)
        assert all(body["metadata"].get("finalizers") for body in held.values())
        assert _gauge(operator, "renderfleet_let_go_unarchived_total") == 0

        async def some_are_told() -> bool:
            return "False NotArchivedYet" in map(_archived, (await _renders(fleet)).values())

        await eventually(some_are_told, 20)
    finally:
        outage = time.monotonic() - stopped_at
        postgres.start()
    started_at = time.monotonic()

    async def all_let_go() -> bool:
        return not any(body["metadata"].get("finalizers") for body in (await _renders(fleet)).values())

    await eventually(all_let_go, CATCH_UP_SECONDS)
    print(
        f"{renders} renders over {over_after:.1f} s into an outage of {outage:.1f} s; "
        f"all archived and let go of {time.monotonic() - started_at:.1f} s after its end"
    )
    await eventually(lambda: _is_quiet(operator), 15)
    assert _gauge(operator, "renderfleet_archive_lag_seconds") == 0
    told = [_archived(body) for body in (await _renders(fleet)).values()]
    assert {*told} <= {"True Archived", None} and "True Archived" in told
    await _assert_equal(engine, fleet.namespace, await _renders(fleet))


async def _is_quiet(operator: Operator) -> bool:
    return _gauge(operator, "renderfleet_archive_waiting") == 0


async def _assert_equal(engine: AsyncEngine, namespace: str, renders: dict[str, Body]) -> None:
    """The mirror says what the objects say; each end has one row of each kind, with one delivery under way."""
    mirrored = await _rows(engine, *(jobs.c[name] for name in ("uid", "spec", "status", "phase", "name")), of=namespace)
    assert {row.uid: (row.name, row.phase, row.spec, row.status) for row in mirrored} == {
        uid: (body["metadata"]["name"], body["status"]["phase"], body["spec"], body["status"])
        for uid, body in renders.items()
    }
    phases = {uid: body["status"]["phase"] for uid, body in renders.items()}
    assert set(phases.values()) == {"Succeeded", "Failed"}

    ends = await _rows(engine, job_ends.c.uid, job_ends.c.phase, job_ends.c.run, of=namespace)
    assert sorted(ends) == sorted((uid, phase, 0) for uid, phase in phases.items())
    told = await _rows(engine, outbox.c.uid, outbox.c.type, of=namespace)
    assert sorted(told) == sorted((uid, f"render.{phase.lower()}") for uid, phase in phases.items())
    spent = await _rows(engine, usage.c.uid, of=namespace)
    assert sorted(row.uid for row in spent) == sorted(phases)
    events = await _rows(engine, job_events.c.uid, job_events.c.type, of=namespace)
    assert sorted(row.uid for row in events if row.type == "end") == sorted(phases)
    async with transaction(engine) as connection:
        assert await connection.scalar(select(func.count()).select_from(deliveries)) == len(phases)


async def test_a_run_that_is_redriven_while_postgresql_is_stopped_is_on_the_bill(
    fleet: Fleet, postgres: Postgres, engine: AsyncEngine
) -> None:
    """Nothing but its status tells what it cost, and the next run begins a new one."""
    ends = iter([broke("moderation", charged="true")])

    async def work(pod: PodRun) -> Ended:
        return next(ends, None) or await succeed(pod)

    fleet.node.program = work
    await fleet.start()
    postgres.stop()
    try:
        await fleet.apply("AvatarRender", "face")
        await fleet.until("AvatarRender", "face", "Failed")
        await fleet.edit("AvatarRender", "face", redrive=1)
        await asyncio.sleep(2)
    finally:
        postgres.start()
    await fleet.until("AvatarRender", "face", "Succeeded")

    async def all_billed() -> bool:
        return sorted(await _rows(engine, usage.c.run, usage.c.phase, of=fleet.namespace)) == [
            (0, "Failed"),
            (1, "Succeeded"),
        ]

    await eventually(all_billed, CATCH_UP_SECONDS)
