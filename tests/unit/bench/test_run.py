from dataclasses import replace
from pathlib import Path

import pytest

from renderfleet_bench.__main__ import leaves
from renderfleet_bench.plan import FULL, PARTS, QUICK, rest_after
from renderfleet_bench.run import client_flags
from renderfleet_cluster.shape import ControllerFlags, Options, Shape


def shape(flags: ControllerFlags) -> Shape:
    options = Options(control_plane_only=True, controller_flags=flags)
    return Shape(name="bench", ordinal=9, state=Path("/nowhere"), options=options)


def test_says_which_client_limits_the_controllers_ran_with():
    assert client_flags(shape(ControllerFlags.TUNED)) == (
        "kube-controller-manager: --kube-api-qps=1000 --kube-api-burst=1000 --concurrent-job-syncs=20; "
        "kube-scheduler: --kube-api-qps=1000 --kube-api-burst=1000"
    )
    assert client_flags(shape(ControllerFlags.DEFAULT)) == (
        "kube-controller-manager: Kubernetes defaults; kube-scheduler: Kubernetes defaults"
    )


@pytest.mark.parametrize("plan", [FULL, QUICK], ids=lambda plan: plan.name)
def test_all_parts_fit_on_an_idle_machine(plan):
    assert sum(plan.usual_seconds(part) for part in plan.parts) < plan.limit_seconds


def test_on_a_slow_machine_the_rest_takes_longer():
    assert rest_after(FULL, "fairness", 20.0) == 2 * rest_after(FULL, "fairness", None)
    assert rest_after(FULL, "fairness", 80.0) == rest_after(FULL, "fairness", None), (
        "faster than usual promises nothing"
    )
    assert rest_after(FULL, PARTS[-1], 20.0) == 0


def test_what_is_not_asked_for_takes_no_time():
    some = replace(FULL, parts=("throughput-500", "overhead"))

    assert rest_after(some, "throughput-500", None) == FULL.usual_seconds("overhead")


def test_every_error_of_a_group_is_told():
    first, second, third = ValueError("a"), ValueError("b"), ValueError("c")

    assert leaves(ExceptionGroup("", [first, ExceptionGroup("", [second, third])])) == [first, second, third]
    assert leaves(first) == [first]
