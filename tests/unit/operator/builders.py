"""The smallest world around a render; a test names only what it is about."""

from typing import Any

from renderfleet_crds import meta
from renderfleet_crds.contract import Stage
from renderfleet_crds.kinds import BY_KIND
from renderfleet_operator.children import names
from renderfleet_operator.decide.observed import Observed, Runner, RunnerSeen
from renderfleet_operator.decide.view import Render
from renderfleet_operator.times import rfc3339

CREATED = 1_800_000_000.0
NOW = CREATED + 100
UID = "0f8fad5b-d9cb-469f-a165-70867728950e"

_SPECS: dict[str, dict[str, Any]] = {
    "AvatarRender": {"provider": "openai", "prompt": "a friendly guide", "count": 2},
    "VoiceJob": {"provider": "elevenlabs", "text": "Hello", "voiceId": "anna"},
    "VideoRender": {"provider": "did", "avatarKey": "media/rf-acme/a.png", "audioKey": "media/rf-acme/a.mp3"},
}


def body(
    kind: str = "AvatarRender",
    status: dict[str, Any] | None = None,
    *,
    spec: dict[str, Any] | None = None,
    finalizer: bool = True,
    deleting: bool = False,
    name: str = "one",
    uid: str = UID,
    version: int = 5,
    **metadata: Any,
) -> dict[str, Any]:
    """A render as the API server would show it."""
    about: dict[str, Any] = {
        "name": name,
        "namespace": "rf-acme",
        "uid": uid,
        "resourceVersion": str(version),
        "generation": 1,
        "creationTimestamp": rfc3339(CREATED),
        **metadata,
    }
    if finalizer:
        about["finalizers"] = [meta.FINALIZER]
    if deleting:
        about["deletionTimestamp"] = rfc3339(NOW)
    made = {"apiVersion": meta.API_VERSION, "kind": kind, "metadata": about, "spec": {**_SPECS[kind], **(spec or {})}}
    return {**made, "status": status} if status is not None else made


def render(kind: str = "AvatarRender", status: dict[str, Any] | None = None, **more: Any) -> Render:
    """As `body`, as decisions see it."""
    return Render(body(kind, status, **more))


def attempt(number: int = 1, stage: Stage | None = None, *, kind: str = "AvatarRender", **more: Any) -> dict[str, Any]:
    """An attempt that is open, unless `category` or `endedAt` say otherwise."""
    which = stage or BY_KIND[kind].stages[0]
    made = {
        "run": 0,
        "number": number,
        "stage": which.value,
        "jobName": names.job_name(kind, "one", UID, stage=which.value, run=0, attempt=number),
        "startedAt": rfc3339(NOW - 30),
    }
    if "category" in more:
        made["endedAt"] = rfc3339(NOW - 20)
    return {**made, **more}


def running(
    kind: str = "AvatarRender", *attempts: dict[str, Any], stage: Stage | None = None, **more: Any
) -> dict[str, Any]:
    """Status of a render whose last attempt is open."""
    which = stage or BY_KIND[kind].stages[0]
    made = list(attempts) or [attempt(kind=kind, stage=which)]
    return {
        "phase": "Finalizing" if which is Stage.FINALIZE else "Running",
        "stage": which.value,
        "attempt": made[-1]["number"],
        "attempts": made,
        "run": 0,
        "startedAt": rfc3339(NOW - 30),
        "queuedAt": rfc3339(CREATED),
        "observedGeneration": 1,
        **more,
    }


def waiting(**more: Any) -> dict[str, Any]:
    """Status of a video whose vendor works."""
    made = running("VideoRender", attempt(kind="VideoRender", endedAt=rfc3339(NOW - 25), charged="true"))
    provider = {"name": "did", "jobId": "tlk_1", "acceptedAt": rfc3339(NOW - 25), "status": "created"}
    return {**made, "phase": "Waiting", "stage": "poll", "provider": provider, "progress": 10, **more}


def ended(phase: str = "Succeeded", **more: Any) -> dict[str, Any]:
    """Status at an end."""
    return {"phase": phase, "reason": "x", "run": 0, "finishedAt": rfc3339(NOW - 10), "observedGeneration": 1, **more}


def seen(runner: RunnerSeen | Runner | None = None, **more: Any) -> Observed:
    """The world: a known tenant and provider, and nothing else."""
    if isinstance(runner, Runner):
        runner = RunnerSeen(runner)
    given: dict[str, Any] = {"now": NOW, "provider": {"onUnknownOutcome": "hold"}, **more}
    if runner is not None:
        given["runner"] = runner
    return Observed(**given)


def done(**result: Any) -> RunnerSeen:
    """A runner that did its work."""
    made = {"outcome": "done", "charged": "true", **result}
    return RunnerSeen(Runner.ENDED, result=made, vendor_job_id=made.get("vendorJobId"))


def broke(category: str, **result: Any) -> RunnerSeen:
    """A runner that failed."""
    return RunnerSeen(
        Runner.ENDED, result={"outcome": "broke", "category": category, "code": "c", "message": "m", **result}
    )
