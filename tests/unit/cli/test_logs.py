from typing import Any

import pytest

from renderfleet_cli.commands.logs import attempts_table, runner_pods
from renderfleet_crds import meta

from .builders import ago, render, stamp


def pod(stage: str, attempt: str, age_seconds: float, phase: str = "Succeeded") -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"{stage}-{attempt}",
            "labels": {meta.STAGE_LABEL: stage, meta.ATTEMPT_LABEL: attempt},
            "creationTimestamp": stamp(ago(age_seconds)),
        },
        "status": {"phase": phase},
    }


PODS = [
    pod("finalize", "1-1", 10, "Pending"),
    pod("start", "0-1", 300),
    pod("start", "1-12", 60),
    pod("start", "1-2", 200),
]


@pytest.mark.parametrize(
    ("stage", "attempt", "names"),
    [
        (None, None, ["start-0-1", "start-1-2", "start-1-12", "finalize-1-1"]),
        ("start", None, ["start-0-1", "start-1-2", "start-1-12"]),
        ("start", 2, ["start-1-2"]),
        (None, 1, ["start-0-1", "finalize-1-1"]),
        ("generate", None, []),
    ],
)
def test_pods_of_a_stage_and_an_attempt_oldest_first(stage: str | None, attempt: int | None, names: list[str]) -> None:
    assert [one.name for one in runner_pods(PODS, stage, attempt)] == names


def test_a_pod_that_waits_has_no_log_yet() -> None:
    assert [one.has_started for one in runner_pods(PODS, None, None)] == [True, True, True, False]


def test_what_is_known_of_attempts_outlives_their_pods() -> None:
    attempts = (
        {"stage": "start", "number": 1, "startedAt": stamp(ago(90)), "endedAt": stamp(ago(60)), "category": "outage",
         "code": "503", "message": "overloaded", "charged": "unknown"},
        {"stage": "start", "number": 2, "startedAt": stamp(ago(30))},
    )  # fmt: skip

    assert attempts_table(render(attempts=attempts)).splitlines() == [
        "STAGE   ATTEMPT   TOOK   CATEGORY   CODE   CHARGED   MESSAGE",
        "start         1   30s    outage      503   unknown   overloaded",
        "start         2   -      -             -   -         -",
    ]
