import pytest

from renderfleet_cli.costs import add_up, budgets_table, costs_table, seconds_of
from renderfleet_cli.views import Tenant
from renderfleet_crds.phases import Phase

from .builders import render

TENANTS = {"rf-acme": "acme", "studio": "blue"}
RENDERS = [
    render(phase=Phase.SUCCEEDED, actual_micros=1500, estimated_micros=9999, charged="true"),
    render(phase=Phase.QUEUED, estimated_micros=2000),
    render(phase=Phase.RUNNING, estimated_micros=2000, actual_micros=10),
    render(phase=Phase.HELD, charged="unknown", estimated_micros=5),
    render(phase=Phase.FAILED, estimated_micros=7000),
    render(kind="VideoRender", namespace="studio", phase=Phase.SUCCEEDED, actual_micros=200_000, charged="true"),
    render(kind="VideoRender", namespace="stray", phase=Phase.SUCCEEDED, actual_micros=3, currency="EUR"),
]


def test_sums_by_tenant_and_kind() -> None:
    video, voice, stray = add_up(RENDERS, ["tenant", "kind"], TENANTS)

    assert video.key == ("blue", "VideoRender") and video.actual_micros == 200_000
    assert voice.key == ("acme", "VoiceJob")
    assert (voice.renders, voice.succeeded, voice.under_way) == (5, 1, 3)
    assert voice.actual_micros == 1510
    assert voice.expected_micros == 2005, "what is over, or has been charged already, is expected no more"
    assert voice.unknown == 1
    assert stray.key == ("stray", "VideoRender") and stray.currency == "EUR"


def test_currencies_are_never_added_to_each_other() -> None:
    shown = costs_table(add_up(RENDERS, ["kind"], TENANTS), ["kind"]).splitlines()

    assert shown[0].split() == ["KIND", "RENDERS", "SUCCEEDED", "COST", "EXPECTED", "UNKNOWN"]
    totals = [line for line in shown if line.startswith("total")]
    assert len(totals) == 1, "of one currency there is but one line, which is its own total"
    assert "0.20151 USD" in totals[0]
    assert any("0.000003 EUR" in line for line in shown)


def test_budgets() -> None:
    tenants = [
        Tenant("acme", "rf-acme", spent_micros=1_500_000, budget_micros=10_000_000, budget_month="2026-11"),
        Tenant("blue", "studio"),
    ]

    assert budgets_table(tenants).splitlines()[1].split() == ["acme", "2026-11", "1.50", "USD", "10.00", "USD"]
    assert budgets_table(tenants[1:]) == ""


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("24h", 86_400), ("30d", 2_592_000), ("2w", 1_209_600)])
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "1.5h", "-1h", "1y"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(ValueError, match="not a length of time"):
        seconds_of(text)
