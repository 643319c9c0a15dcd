import json

import pytest

from renderfleet_bench.report import BARS, Bar, Report, Verdict, by_count, columns

KEYS = [
    "ratio_500", "ratio_500_same_job", "ratio_ceiling", "requests_cpu_ms_per_render", "ratio_5000", "ratio_default_flags",
    "overhead_p50_s", "operator_writes_per_render", "operator_rss_mib", "operator_cpu_ms_per_render", "restart_ready_s",
    "restart_writes_finished", "eta_error_p50", "fairness", "submit_ratio", "get_ratio", "sse_p99_s", "api_rss_mib",
]  # fmt: skip


def test_the_last_line_has_every_key_and_null_for_what_was_not_measured():
    report = Report("quick", numbers={"ratio_500": 0.712345})

    said = json.loads(report.last_line())

    assert list(said) == KEYS
    assert said["ratio_500"] == 0.7123
    assert said["ratio_5000"] is None


@pytest.mark.parametrize(
    ("bar", "value", "expected"),
    [
        pytest.param(Bar("k", "", at_least=0.7), 0.7, Verdict.PASSED, id="on the bar is over it"),
        pytest.param(Bar("k", "", at_least=0.7), 0.699, Verdict.MISSED, id="just below"),
        pytest.param(Bar("k", "", at_most=4), 4.01, Verdict.MISSED, id="just above a limit"),
        pytest.param(Bar("k", "", at_most=0), 0, Verdict.PASSED, id="zero where zero is wanted"),
        pytest.param(Bar("k", "", at_least=0.7), None, Verdict.NOT_MEASURED, id="nothing passes nothing"),
        pytest.param(Bar("k", ""), 3.0, Verdict.NO_BAR, id="a number for comparing only"),
    ],
)
def test_bars(bar, value, expected):
    assert bar.verdict(value) is expected


def test_the_table_ends_with_the_bars_that_were_missed_and_those_nobody_can_speak_of():
    report = Report("full", numbers={"ratio_500": 0.5, "restart_writes_finished": 3, "operator_rss_mib": 150.0})

    text = report.text()

    assert "bars passed: 1; missed: ratio_500, restart_writes_finished; not measured: ratio_5000, " in text
    assert all(bar.what in text for bar in BARS)


def test_a_run_without_any_number_passes_nothing_and_has_failed():
    empty = Report("quick")

    assert empty.conclusion().startswith("bars passed: 0; missed: none; not measured: ratio_500, ")
    assert empty.has_failed
    assert not Report("quick", numbers={"ratio_500": 0.1}).has_failed, "a missed bar is a result"


def test_the_file_holds_what_the_table_and_the_last_line_say():
    report = Report("full", numbers={"ratio_500": 0.8}, raw={"rounds": [1, 2]})

    content = json.loads(json.dumps(report.content()))

    assert content["numbers"]["ratio_500"] == 0.8
    assert content["verdicts"]["ratio_500"] == "pass"
    assert content["raw"] == {"rounds": [1, 2]}


def test_counts_come_largest_first_and_per_render():
    assert by_count({"a": 5, "b": 10}, 5) == [("b", "10 (2.00 per render)"), ("a", "5 (1.00 per render)")]


def test_columns_are_aligned():
    assert columns([("a", "bbb"), ("cc", "d")]) == "a   bbb\ncc  d"
