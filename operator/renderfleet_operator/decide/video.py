"""VideoRender: start -> poll -> finalize, and before that the picture and the speech it is made of.

picture    avatarKey, or output `image-<index>` of avatarRef
speech     audioKey, or audioUrl, or output `speech` of voiceRef or of the VoiceJob made from script + voiceId

the named render is      then
not there                wait: it may be applied a moment later
not finished             wait; our own VoiceJob is as urgent as the video, and suspended with it
finished well            go on with its output
finished badly           Failed, DependencyFailed; of our own VoiceJob after a redrive: redrive that first
"""

from collections.abc import Mapping
from typing import Any

from renderfleet_crds import meta
from renderfleet_crds.conditions import Reason
from renderfleet_crds.contract import Stage
from renderfleet_crds.phases import Phase
from renderfleet_operator.children import names

from .actions import CreateVoiceJob, PatchVoiceJob
from .observed import Dependency, Observed, Wait
from .rules import Blocked, Hopeless, Ready, Rules, outputs_of
from .view import Body, Render

PICTURE, SPEECH = "picture", "speech"


def needs(render: Render) -> dict[str, tuple[str, str]]:
    """The renders it needs: by `picture` and `speech`, as (kind, name)."""
    spec = render.spec
    out: dict[str, tuple[str, str]] = {}
    if ref := spec.get("avatarRef"):
        out[PICTURE] = ("AvatarRender", ref["name"])
    if ref := spec.get("voiceRef"):
        out[SPEECH] = ("VoiceJob", ref["name"])
    elif spec.get("script") is not None:
        out[SPEECH] = ("VoiceJob", names.voice_child(render.name, render.uid))
    return out


def _ready(render: Render, seen: Observed) -> Ready | Blocked | Hopeless:
    spec = render.spec
    prefix = meta.media_prefix(render.namespace)
    for key in ("avatarKey", "audioKey"):
        if spec.get(key) and not spec[key].startswith(prefix):
            return Hopeless(Reason.FOREIGN_KEY, f"{key}: {spec[key]} does not belong to this namespace")
    blocked: Blocked | None = None
    found: dict[str, Body] = {}
    for what, (kind, name) in needs(render).items():
        wanted = f"image-{(spec.get('avatarRef') or {}).get('index', 1)}" if what == PICTURE else "speech"
        judged = _judge(render, seen.dependencies.get(what) or Dependency(kind, name), wanted)
        match judged:
            case Hopeless():
                return judged
            case Blocked():
                blocked = judged if blocked is None or judged.first else blocked
            case _:
                found[what] = judged
    if blocked:
        return blocked
    fields: dict[str, Any] = {}
    fields["avatarKey"] = found[PICTURE]["key"] if PICTURE in found else spec.get("avatarKey")
    if SPEECH in found:
        fields["audioKey"] = found[SPEECH]["key"]
        fields["audioSeconds"] = found[SPEECH].get("durationSeconds")
    elif spec.get("audioKey"):
        fields["audioKey"] = spec["audioKey"]
    return Ready({key: value for key, value in fields.items() if value is not None})


def _judge(render: Render, needed: Dependency, wanted: str) -> Blocked | Hopeless | Body:
    """The output called `wanted`, or why there is none."""
    which = f"{needed.kind} {needed.name}"
    ours = render.spec.get("script") is not None and needed.kind == "VoiceJob"
    if needed.body is None:
        first = (CreateVoiceJob(voice_job(render)),) if ours and not render.spec.get("suspend") else ()
        return Blocked(Wait(Reason.DEPENDENCY_PENDING, f"{which} does not exist yet"), first)
    other = Render(dict(needed.body))
    if ours and not is_child(render, other):
        return Hopeless(Reason.NAME_CONFLICT, f"{which} exists already and is not ours; it must be deleted first")
    phase = other.phase
    news = _told_since(render, other) if ours else {}
    if phase is Phase.SUCCEEDED:
        for output in other.status.get("outputs") or ():
            if output["name"] == wanted:
                return dict(output)
        return Hopeless(Reason.DEPENDENCY_FAILED, f"{which} has no output {wanted}")
    if ours and other.spec.get("redrive", 0) < render.run and (phase is None or phase.is_final or phase is Phase.HELD):
        again = PatchVoiceJob(needed.name, {"redrive": render.run, "cancel": False, **news})
        return Blocked(Wait(Reason.DEPENDENCY_PENDING, f"{which} is tried again"), (again,))
    if phase is not None and phase.is_final and not other.wants_new_run:
        why = other.status.get("reason") or phase
        return Hopeless(Reason.DEPENDENCY_FAILED, f"{which} ended as {phase}: {why}")
    tell = (PatchVoiceJob(needed.name, news),) if news else ()
    return Blocked(Wait(Reason.DEPENDENCY_PENDING, f"{which} is {phase or Phase.QUEUED}"), tell)


def _told_since(render: Render, child: Render) -> Body:
    """What the video was told after its VoiceJob was made, and the VoiceJob goes by."""
    news: Body = {}
    if child.priority != render.priority:
        news["priority"] = render.priority
    if bool(child.spec.get("suspend")) != bool(render.spec.get("suspend")):
        news["suspend"] = bool(render.spec.get("suspend"))
    return news


def is_child(render: Render, other: Render) -> bool:
    """The other one was made for this video."""
    return any(owner.get("uid") == render.uid for owner in other.metadata.get("ownerReferences") or ())


def voice_job(render: Render) -> Body:
    """The VoiceJob that speaks this video's script: as urgent and as patient as the video itself."""
    spec = render.spec
    inherited = ("priority", "retryPolicy", "queueDeadlineSeconds", "runDeadlineSeconds", "ttlSecondsAfterFinished")
    annotations = render.metadata.get("annotations") or {}
    metadata: Body = {
        "name": names.voice_child(render.name, render.uid),
        "namespace": render.namespace,
        "labels": {
            meta.MANAGED_BY_LABEL: meta.MANAGED_BY,
            meta.UID_LABEL: render.uid,
            **{key: value for key, value in (render.metadata.get("labels") or {}).items() if key == meta.TENANT_LABEL},
        },
        "finalizers": [meta.FINALIZER],
        "ownerReferences": [names.owner_reference(render.body, blocks=False)],
    }
    if trace := annotations.get(meta.TRACE_ANNOTATION):
        metadata["annotations"] = {meta.TRACE_ANNOTATION: trace}
    return {
        "apiVersion": meta.API_VERSION,
        "kind": "VoiceJob",
        "metadata": metadata,
        "spec": {
            "text": spec["script"],
            "voiceId": spec["voiceId"],
            "provider": spec.get("voiceProvider", "elevenlabs"),
            "redrive": render.run,
            **{key: spec[key] for key in inherited if spec.get(key) is not None},
        },
    }


def _done(_: Render, result: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"outputs": outputs_of(result)}


RULES = Rules(
    ready=_ready,
    share={Stage.START: (2, 10), Stage.POLL: (10, 85), Stage.FINALIZE: (85, 98)},
    done=_done,
)
