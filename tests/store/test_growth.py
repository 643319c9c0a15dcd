"""What a full archive weighs, and that no question to it reads the whole of it.

The figures in docs/concepts/retention.md: RENDERFLEET_GROWTH_COPIES=50 .venv/bin/python -m pytest -s tests/store/test_growth.py
"""

import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tests.support.renders import ended, seen

from renderfleet_store import jobs, prune
from renderfleet_store.engine import transaction
from renderfleet_store.mirror import Mirror, absent

RENDERS = 1000
"""Recorded as the operator does it; copies of their rows make up the rest."""
COPIES = int(os.environ.get("RENDERFLEET_GROWTH_COPIES", "20"))
PLANNED = 50_000_000
TENANTS = 20
TABLES = ("jobs", "job_ends", "job_events", "outbox", "usage", "voice_assets", "videos")

Ask = Callable[[AsyncConnection], Awaitable[Any]]


CONDITIONS = (
    "Succeeded",
    "Finished",
    "Queued",
    "Admitted",
    "ProviderAccepted",
    "MediaStored",
    "Archived",
    "Reconciling",
)
STATUS: dict[str, Any] = {
    "observedGeneration": 1,
    "queuedAt": "2026-11-24T10:00:00Z",
    "conditions": [
        {
            "type": kind,
            "status": "True",
            "reason": "MediaReady",
            "message": "all media are stored",
            "lastTransitionTime": "2026-11-24T10:01:00Z",
            "observedGeneration": 1,
        }
        for kind in CONDITIONS
    ],
    "attempts": [
        {
            "stage": "generate",
            "run": 0,
            "attempt": 1,
            "job": "one-generate-8090d5b3ad757b3a",
            "startedAt": "2026-11-24T10:00:05Z",
            "finishedAt": "2026-11-24T10:00:50Z",
            "charged": "true",
        }
    ],
}
"""As long as the operator's own."""


async def fill(engine: AsyncEngine, mirror: Mirror) -> int:
    """An archive of several tenants, a month old at most; how many jobs there are."""
    now = datetime.now(UTC)
    bodies = []
    for number in range(RENDERS):
        kind = ("AvatarRender", "VoiceJob", "VideoRender")[number % 3]
        bodies.append(
            ended(
                kind,
                "DeadLettered" if number % 100 == 0 else "Succeeded",
                namespace=f"rf-tenant{number % TENANTS}",
                created=(now - timedelta(minutes=43 * number)).strftime("%Y-%m-%dT%H:%M:%SZ"),
                status=STATUS,
                labels={"campaign": f"c{number % 50}", "app": "shop"},
                spec={"prompt": "A friendly harbour guide in a blue jacket. " * 8} if kind == "AvatarRender" else {},
            )
        )
    await mirror.record(seen(*bodies))
    async with transaction(engine, limit_seconds=300) as connection:
        for table in TABLES:
            await connection.execute(text(_copy_of(table)), {"copies": COPIES})
        # The few that are under way.
        await connection.execute(
            text("UPDATE jobs SET phase = 'Queued', finished_at = NULL WHERE uid IN (SELECT uid FROM jobs LIMIT 50)")
        )
    async with engine.connect() as connection:
        autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await autocommit.execute(text("VACUUM ANALYZE"))
    return RENDERS * (COPIES + 1)


def _copy_of(table: str) -> str:
    """Each row again with other ids of the same length, at other times of the same month."""
    own = {
        "uid": "md5(uid || n)::uuid::text",
        "id": "'evt_' || md5(id || n)",
        "created_at": "created_at - make_interval(secs => n * 13)",
    }
    columns = {
        "jobs": "uid kind namespace name provider phase reason message stage progress run attempt queue_position"
        " client_reference trace_id labels spec status resource_version created_at started_at finished_at deleted_at"
        " updated_at phase_before looks_new",
        "job_ends": "uid run namespace phase finished_at recorded_at",
        "job_events": "namespace uid type data created_at",
        "outbox": "id namespace uid type data created_at",
        "usage": "uid run namespace kind provider phase micros currency finished_at",
        "voice_assets": "uid namespace key content_type bytes sha256 duration_seconds loudness_lufs voice_id script created_at",
        "videos": "uid namespace key content_type bytes sha256 duration_seconds width_px height_px poster_key created_at",
    }[table].split()
    made = ", ".join(own.get(name, name) for name in columns)
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT {made} FROM {table}, generate_series(1, :copies) AS n"


async def plan_of(engine: AsyncEngine, ask: Ask) -> str:
    """How PostgreSQL goes about what `ask` asks, in its own words."""
    said: list[tuple[str, Any]] = []

    def hear(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        said.append((statement, parameters))

    event.listen(engine.sync_engine, "before_cursor_execute", hear)
    try:
        async with transaction(engine) as connection:
            await ask(connection)
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", hear)
    plans = []
    async with transaction(engine) as connection:
        for statement, parameters in said:
            if statement.lstrip().startswith(("SELECT", "DELETE")):
                explained = await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
                plans.append("\n".join(explained.scalars()))
    return "\n".join(plans)


WEEK = timedelta(days=7)
QUESTIONS: dict[str, Ask] = {
    "a tenant's jobs": lambda c: jobs.page(c, jobs.JobFilter(namespace="rf-tenant3"), limit=51),
    "of a kind": lambda c: jobs.page(c, jobs.JobFilter(namespace="rf-tenant3", kind="VoiceJob"), limit=51),
    "in a phase": lambda c: jobs.page(c, jobs.JobFilter(namespace="rf-tenant3", phases=["DeadLettered"]), limit=51),
    "with a label": lambda c: jobs.page(c, jobs.JobFilter(namespace="rf-tenant3", labels={"campaign": "c3"}), limit=51),
    "dead letters of all": lambda c: jobs.oldest(c, jobs.JobFilter(phases=["DeadLettered"]), limit=100),
    "recordings": lambda c: jobs.voice_page(c, "rf-tenant3", limit=51),
    "videos": lambda c: jobs.video_page(c, "rf-tenant3", limit=51),
    "events behind a number": lambda c: jobs.events_of_namespace(c, "rf-tenant3", 100),
    "the latest event": lambda c: jobs.latest_event(c, "rf-tenant3"),
    "whether events are forgotten": lambda c: jobs.is_forgotten(c, 5),
    "what is under way": lambda c: jobs.counts(c, None),
    "what a tenant has under way": lambda c: jobs.counts(c, "rf-tenant3"),
    "what is no longer there": lambda c: absent(c, ["one"], datetime.now(UTC)),
    "what is too old": lambda c: prune.prune(c, events=WEEK, idempotency=WEEK, outbox=WEEK),
}


@pytest.fixture
async def full(engine: AsyncEngine, mirror: Mirror) -> AsyncEngine:
    count = await fill(engine, mirror)
    await _print_sizes(engine, count)
    return engine


async def _print_sizes(engine: AsyncEngine, count: int) -> None:
    print(f"\n{count} jobs; bytes per row, and GB for {PLANNED // 1_000_000} million jobs")
    print(f"{'table':14}{'rows':>9}{'row':>7}{'indexes':>9}{'GB':>8}")
    total = 0.0
    async with transaction(engine) as connection:
        for table in TABLES:
            sizes = text(
                f"SELECT count(*), pg_table_size('{table}'), pg_indexes_size('{table}') FROM {table}"  # the names are ours
            )
            rows, heap, indexes = (await connection.execute(sizes)).one()
            gigabytes = (heap + indexes) / count * PLANNED / 1e9
            total += gigabytes
            print(f"{table:14}{rows:>9}{heap / rows:>7.0f}{indexes / rows:>9.0f}{gigabytes:>8.1f}")
        print(f"{'together':14}{'':25}{total:>8.1f}")
        each = text(
            "SELECT indexrelname, pg_relation_size(indexrelid) FROM pg_stat_user_indexes WHERE relname = 'jobs' ORDER BY 2 DESC"
        )
        for name, size in await connection.execute(each):
            print(f"  {name:30}{size / count:>9.0f} bytes per job")


async def test_no_question_reads_the_whole_archive(full: AsyncEngine) -> None:
    plans = {about: await plan_of(full, ask) for about, ask in QUESTIONS.items()}

    for about in ("what is under way", "what a tenant has under way"):
        assert "ix_jobs_under_way" in plans[about]
    assert {
        about: plan for about, plan in plans.items() if "Seq Scan" in plan.replace("Seq Scan on idempotency", "")
    } == {}
