"""`logs`: what a render's runners wrote, stage after stage."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from renderfleet_cli.cluster import ClusterDoor
from renderfleet_cli.door import Target, choose, find_each, has_kubeconfig, opened
from renderfleet_cli.errors import Misused, NotThere
from renderfleet_cli.tables import Cell, text_table
from renderfleet_cli.views import Render
from renderfleet_cli.words import age, moment, seconds_between

_LOOK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class RunnerPod:
    """A pod that works, or worked, for a render."""

    name: str
    stage: str
    attempt: str
    """`run-number`, as in its label."""
    phase: str
    created: str

    @property
    def has_started(self) -> bool:
        """There is a log to read."""
        return self.phase in {"Running", "Succeeded", "Failed"}


def logs(
    target: Target,
    name: str,
    *,
    follow: bool,
    stage: str | None,
    attempt: int | None,
    tail_lines: int | None,
    timestamps: bool,
) -> None:
    """Print the logs of its runner pods, oldest first. Raises NotThere when no pod is left."""
    with opened(_cluster_target(target, name)) as door:
        assert isinstance(door, ClusterDoor)
        (render,) = find_each(door, [name])
        read: set[str] = set()
        for pod in _pods(door, render, follow=follow, stage=stage, attempt=attempt, read=read):
            run, _, number = pod.attempt.rpartition("-")
            which = f"attempt {number}" + (f" of run {run}" if run not in {"", "0"} else "")
            print(f"== stage {pod.stage}, {which}, pod {pod.name}", file=sys.stderr, flush=True)
            for line in door.pod_log(
                render.namespace, pod.name, follow=follow, tail_lines=tail_lines, timestamps=timestamps
            ):
                print(line, flush=follow)
        if not read:
            raise NotThere(
                f"no runner pod of {render.short_ref} is there" + (" any more" if render.attempts else " yet"),
                "pods stay a while after their end; what is known of each attempt:\n" + attempts_table(render)
                if render.attempts
                else "`why` says what it waits for",
            )


def _cluster_target(target: Target, name: str) -> Target:
    """The same fleet by its cluster; over REST we at least learn in which namespace the render is."""
    if choose(target) == "cluster":
        return target
    if not has_kubeconfig():
        raise Misused("logs are in the cluster, and there is no kubeconfig", "set KUBECONFIG, or --kubeconfig FILE")
    with opened(target) as door:
        (render,) = find_each(door, [name])
    return replace(target, via="cluster", namespace=target.namespace or render.namespace)


def _pods(
    door: ClusterDoor, render: Render, *, follow: bool, stage: str | None, attempt: int | None, read: set[str]
) -> Iterator[RunnerPod]:
    """Each pod once, when it has begun to write; with `follow`, also those to come, until the render is over."""
    while True:
        over = True
        if follow:
            now = door.find_again(render)
            over = now is None or now.is_over
        for pod in runner_pods(door.pods(render), stage, attempt):
            if pod.name not in read and pod.has_started:
                read.add(pod.name)
                yield pod
        if over:
            return
        time.sleep(_LOOK_AGAIN_SECONDS)


def runner_pods(bodies: list[dict[str, Any]], stage: str | None, attempt: int | None) -> list[RunnerPod]:
    """Those of this stage and attempt, oldest first."""
    from renderfleet_crds import meta

    found = []
    for body in bodies:
        about = body["metadata"]
        labels = about.get("labels") or {}
        pod = RunnerPod(
            name=about["name"],
            stage=labels.get(meta.STAGE_LABEL, "?"),
            attempt=labels.get(meta.ATTEMPT_LABEL, "?"),
            phase=(body.get("status") or {}).get("phase", ""),
            created=about["creationTimestamp"],
        )
        if stage in {None, pod.stage} and (attempt is None or pod.attempt.rpartition("-")[2] == str(attempt)):
            found.append(pod)
    return sorted(found, key=lambda one: (one.created, one.name))


def attempts_table(render: Render) -> str:
    """What the status keeps of each attempt, longer than its pod lives."""
    rows: list[list[Cell]] = []
    for one in render.attempts:
        took = seconds_between(moment(one.get("startedAt")), moment(one.get("endedAt")))
        rows.append(
            [one["stage"], one["number"], age(took), one.get("category"), one.get("code"), one.get("charged"), one.get("message")]
        )  # fmt: skip
    return text_table(["STAGE", "ATTEMPT", "TOOK", "CATEGORY", "CODE", "CHARGED", "MESSAGE"], rows)
