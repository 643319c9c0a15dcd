"""Make the Job that runs one stage attempt. Pure.

One Job is one attempt: it never retries by itself (backoffLimit 0), since attempts are counted by the render.
  exit 10, 30      the Job fails at once
  disruption       the pod is replaced, which is safe: the claim in the run record lets only one of them pay
  anything else    the Job fails, by the backoff limit
A replacement comes only when the old pod is surely gone (podReplacementPolicy Failed).
The pod satisfies the restricted Pod Security profile, has no Kubernetes credentials, and sees a vendor's key only when
its stage calls that vendor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from renderfleet_crds import meta
from renderfleet_crds.contract import (
    TASK_ENV,
    TERMINATION_MESSAGE_PATH,
    VENDOR_KEY_DIR,
    ExitCode,
    Pool,
    Stage,
    pack_task,
)
from renderfleet_operator.decide.view import Body, Render

from . import names
from .task import calls_vendor

RUNNER: Final = "runner"
USER_ID: Final = 10001
KEY_ENTRY: Final = "key"
"""Under which a provider's key lies in its Secret in a tenant's namespace."""
PENDING_SECONDS: Final = 900
"""How long a pod may wait for a node and an image before its attempt is given up."""
_LABEL_LIMIT: Final = 63
_POD_LABELS: Final = (meta.KIND_LABEL, meta.UID_LABEL, meta.STAGE_LABEL, meta.ATTEMPT_LABEL)
"""Of the Job's labels, those that its pod has too. Few: Job and pod are written nine times while a runner lives, and each
label is kept account of at every write."""

DEFAULT_POOLS: Final[Mapping[Stage, Pool]] = {
    Stage.GENERATE: Pool.IMAGE_GEN,
    Stage.SYNTHESIZE: Pool.POSTPROCESS,
    Stage.START: Pool.VIDEO_GEN,
    Stage.FINALIZE: Pool.POSTPROCESS,
}


@dataclass(frozen=True, slots=True)
class Shape:
    """What an administrator decides about runner pods."""

    image: str
    pull_policy: str = "IfNotPresent"
    pools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By pool: nodeSelector, tolerations, resources, priorityClassName, scratchSize."""
    stage_pools: Mapping[str, str] = field(default_factory=dict)
    """Pool by stage, where it is another one than usual."""
    ttl_seconds: int = 900
    """How long a finished Job stays to be looked at; its result is in the run record already."""
    env: Mapping[str, str] = field(default_factory=dict)


def pool_of(stage: Stage, shape: Shape) -> str:
    """Where the stage's pods go."""
    return shape.stage_pools.get(stage.value) or DEFAULT_POOLS[stage].value


def build_job(render: Render, stage: Stage, number: int, *, task: Mapping[str, Any], shape: Shape) -> Body:
    """The Job of one attempt."""
    pool = pool_of(stage, shape)
    settings = shape.pools.get(pool) or {}
    labels = _labels(render, stage, number, pool)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.job_name(
                render.kind, render.name, render.uid, stage=stage.value, run=render.run, attempt=number
            ),
            "namespace": render.namespace,
            "labels": labels,
            "ownerReferences": [names.owner_reference(render.body, blocks=False)],
        },
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "podReplacementPolicy": "Failed",
            "activeDeadlineSeconds": int(task["deadlineSeconds"]) + PENDING_SECONDS,
            "ttlSecondsAfterFinished": shape.ttl_seconds,
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {
                            "containerName": RUNNER,
                            "operator": "In",
                            "values": [ExitCode.REFUSED.value, ExitCode.CLAIM_LOST.value],
                        },
                    },
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {
                "metadata": {"labels": {key: labels[key] for key in _POD_LABELS}},
                "spec": _pod(render, stage, task, shape, settings),
            },
        },
    }


def _pod(render: Render, stage: Stage, task: Mapping[str, Any], shape: Shape, settings: Mapping[str, Any]) -> Body:
    volumes: list[Body] = [{"name": "tmp", "emptyDir": {"sizeLimit": settings.get("scratchSize", "4Gi")}}]
    mounts: list[Body] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108  (a volume of the pod's own)
    if calls_vendor(stage):
        volumes.append({"name": "vendor", "projected": {"defaultMode": 0o440, "sources": _keys(render)}})
        mounts.append({"name": "vendor", "mountPath": VENDOR_KEY_DIR, "readOnly": True})
    container: Body = {
        "name": RUNNER,
        "image": shape.image,
        "imagePullPolicy": shape.pull_policy,
        "env": [
            {"name": TASK_ENV, "value": pack_task(orjson.dumps(task))},
            *({"name": key, "value": value} for key, value in shape.env.items()),
        ],
        "terminationMessagePath": TERMINATION_MESSAGE_PATH,
        "terminationMessagePolicy": "File",
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if settings.get("resources"):
        container["resources"] = settings["resources"]
    pod: Body = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 30,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }
    for key in ("nodeSelector", "tolerations", "priorityClassName", "affinity"):
        if settings.get(key):
            pod[key] = settings[key]
    return pod


def _keys(render: Render) -> list[Body]:
    """Each vendor's key as a file named like its provider."""
    return [
        {"secret": {"name": names.provider_secret(name), "items": [{"key": KEY_ENTRY, "path": name}]}}
        for name in render.providers
    ]


def _labels(render: Render, stage: Stage, number: int, pool: str) -> dict[str, str]:
    """What selects and sorts runners; whose they are, their namespace and their owner say."""
    return {
        meta.KIND_LABEL: render.kind,
        meta.UID_LABEL: render.uid,
        meta.NAME_LABEL: label_value(render.name),
        meta.STAGE_LABEL: stage.value,
        meta.ATTEMPT_LABEL: f"{render.run}-{number}",
        meta.POOL_LABEL: pool,
    }


def is_ours(job: Mapping[str, Any], render: Render, stage: Stage, number: int) -> bool:
    """True for the Job of this very attempt; one that merely has its name belongs to somebody else."""
    about = job["metadata"]
    labels = about.get("labels") or {}
    return (
        any(owner.get("uid") == render.uid for owner in about.get("ownerReferences") or ())
        and labels.get(meta.STAGE_LABEL) == stage.value
        and labels.get(meta.ATTEMPT_LABEL) == f"{render.run}-{number}"
    )


def ended_by(job: Mapping[str, Any]) -> Body | None:
    """The condition that says that a Job has ended."""
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            found: Body = condition
            return found
    return None


def has_no_pod(job: Mapping[str, Any]) -> bool:
    """True when the Job controller has seen the Job and could not make its pod."""
    status = job.get("status") or {}
    uncounted = status.get("uncountedTerminatedPods") or {}
    return bool(
        status.get("startTime")
        and not any(status.get(key) for key in ("active", "ready", "terminating", "succeeded", "failed"))
        and not any(uncounted.values())
    )


def looks_other(job: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """True when a Job tells something else than before that is decided by; most of its news is the controller's own."""
    if job["metadata"]["uid"] != before["metadata"]["uid"]:
        return True
    return any(
        read(job) != read(before) for read in (ended_by, has_no_pod, lambda one: "deletionTimestamp" in one["metadata"])
    )


def label_value(name: str) -> str:
    """A name cut to what a label may hold; for people and selectors, never an identity."""
    return name[:_LABEL_LIMIT].rstrip("-.")
