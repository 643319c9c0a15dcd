"""Which attempt a Job belongs to is read from its task, not from its name."""

import json
from typing import Any

from renderfleet_crds.contract import TASK_ENV, pack_task
from renderfleet_faults.world import attempt_of


def job(name: str, **task: Any) -> dict[str, Any]:
    task = {"uid": "u1", "stage": "generate", "run": 0, "attempt": 1, **task}
    environment = [{"name": "OTHER", "valueFrom": {}}, {"name": TASK_ENV, "value": pack_task(json.dumps(task))}]
    pod = {"spec": {"containers": [{"env": environment}]}}
    return {"metadata": {"name": name}, "spec": {"template": pod}}


def test_two_jobs_of_one_attempt_are_seen_whatever_their_names() -> None:
    assert attempt_of(job("a-1")) == attempt_of(job("a-2"))


def test_the_same_number_in_another_run_or_stage_is_another_attempt() -> None:
    attempts = {attempt_of(one) for one in (job("a"), job("a", run=1), job("a", stage="finalize"), job("a", attempt=2))}

    assert len(attempts) == 4
