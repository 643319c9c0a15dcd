import re
from datetime import timedelta

from renderfleet_cli.queues import Fleet, pools_table, providers_table, screen, tenants_table
from renderfleet_cli.views import Provider, Quota, Tenant
from renderfleet_crds import meta
from renderfleet_crds.phases import Phase

from .builders import NOW, ago, render

RENDERS = [
    render(phase=Phase.RUNNING, stage="synthesize"),
    render(reason="QuotaExhausted", waiting_since=ago(300)),
    render(reason="QuotaExhausted", waiting_since=ago(20)),
    render(phase=Phase.RETRYING, reason="BackingOff", waiting_since=ago(10)),
    render(kind="VideoRender", namespace="rf-blue", provider="did", phase=Phase.WAITING, stage="poll"),
    render(kind="VideoRender", namespace="rf-blue", provider="did", phase=Phase.HELD, stage="start"),
    render(
        kind="VideoRender", namespace="rf-blue", provider="did", seen_by_operator=False, reason="", waiting_since=ago(1)
    ),
]


def rows(table: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in table.splitlines()[1:]}


def test_tenants_with_their_quota_and_commonest_reason() -> None:
    fleet = Fleet(
        RENDERS,
        tenants=[Tenant("acme", "rf-acme", weight=200), Tenant("idle", "rf-idle")],
        quotas={"rf-acme": Quota(2, 4)},
    )

    shown = rows(tenants_table(fleet, NOW))

    assert list(shown) == ["acme", "blue", "idle"], "the longest queue first, idle tenants too"
    assert shown["acme"] == ["1", "0", "3", "0", "2/4", "200", "5m", "QuotaExhausted", "(2", "of", "3)"]
    assert shown["blue"] == ["0", "1", "1", "1", "-", "-", "1s", "New"]


def test_pools_by_stage_where_jobs_may_not_be_seen() -> None:
    shown = rows(pools_table(Fleet(RENDERS), NOW))

    assert shown["image-gen"][:2] == ["0", "0"]
    assert shown["postprocess"][:2] == ["1", "3"]
    assert shown["video-gen"][:2] == ["0", "1"]


def test_pools_by_their_jobs_where_those_may_be_seen() -> None:
    """A chart may send speech to another pool than the usual one: the Job says which."""
    job = {"metadata": {"labels": {meta.POOL_LABEL: "gpu"}}, "status": {"active": 1}}
    ended = {"metadata": {"labels": {meta.POOL_LABEL: "gpu"}}, "status": {"succeeded": 1}}

    shown = rows(pools_table(Fleet(RENDERS, jobs=[job, ended]), NOW))

    assert shown["gpu"][:2] == ["1", "0"]
    assert shown["postprocess"][:2] == ["0", "3"]


def test_providers_with_circuit_and_limits() -> None:
    providers = [
        Provider(
            "did", circuit="Open", circuit_until=NOW + timedelta(seconds=12), in_flight=3, in_flight_limit=5, tokens=0
        ),
        Provider("elevenlabs", circuit="Closed", hold=True),
        Provider("openai", circuit="Closed"),
    ]

    shown = providers_table(Fleet(RENDERS, providers=providers), NOW)

    assert re.search(r"Open, 12s left +3/5 +0", shown)
    assert "Held by hand" in shown
    assert rows(shown)["openai"][0] == "Closed"


def test_without_rights_there_is_still_a_picture() -> None:
    shown = screen(Fleet(RENDERS), NOW)

    assert [block.split()[0] for block in shown.split("\n\n")] == ["POOL", "TENANT", "PROVIDER"]
