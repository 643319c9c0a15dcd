"""Custom resources as the cluster would show them: the smallest valid ones, changed by what a test is about."""

import uuid
from typing import Any

from renderfleet_crds import meta
from renderfleet_store.mirror import RenderSeen

SPECS: dict[str, dict[str, Any]] = {
    "AvatarRender": {"provider": "openai", "prompt": "a friendly face", "count": 2},
    "VoiceJob": {"provider": "elevenlabs", "text": "Hello", "voiceId": "anna"},
    "VideoRender": {"provider": "did", "avatarKey": "media/rf-acme/avatars/a.png", "audioKey": "media/rf-acme/v.mp3"},
}
MAIN_OUTPUT = {
    "AvatarRender": ("image-1", "image/png", "png"),
    "VoiceJob": ("speech", "audio/mpeg", "mp3"),
    "VideoRender": ("video", "video/mp4", "mp4"),
}


def render(
    kind: str = "VoiceJob",
    *,
    version: int = 1,
    uid: str | None = None,
    namespace: str = "rf-acme",
    created: str = "2026-11-24T10:00:00Z",
    status: dict[str, Any] | None = None,
    spec: dict[str, Any] | None = None,
    labels: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A custom resource."""
    identity = uid or str(uuid.uuid4())
    return {
        "apiVersion": meta.API_VERSION,
        "kind": kind,
        "metadata": {
            "name": f"one-{identity[:8]}",
            "namespace": namespace,
            "uid": identity,
            "resourceVersion": str(version),
            "creationTimestamp": created,
            "labels": labels or {},
        },
        "spec": {**SPECS[kind], **(spec or {})},
        **({"status": status} if status is not None else {}),
    }


def output(kind: str, uid: str, namespace: str = "rf-acme") -> dict[str, Any]:
    """The main file of a render."""
    name, content_type, suffix = MAIN_OUTPUT[kind]
    return {
        "name": name,
        "key": f"media/{namespace}/{uid}/{name}.{suffix}",
        "contentType": content_type,
        "bytes": 1234,
        "sha256": "ab" * 32,
        "durationSeconds": 2.5,
    }


def ended(kind: str = "VoiceJob", phase: str = "Succeeded", *, run: int = 0, **more: Any) -> dict[str, Any]:
    """A custom resource at one of its ends."""
    uid = more.pop("uid", None) or str(uuid.uuid4())
    namespace = more.get("namespace", "rf-acme")
    status = {
        "phase": phase,
        "reason": "MediaReady" if phase == "Succeeded" else "AttemptsExhausted",
        "message": "it is over",
        "progress": 100 if phase == "Succeeded" else 40,
        "run": run,
        "attempt": 1,
        "outputs": [output(kind, uid, namespace)] if phase == "Succeeded" else [],
        "cost": {"actualMicros": 40_000, "currency": "USD"},
        "startedAt": "2026-11-24T10:00:05Z",
        "finishedAt": "2026-11-24T10:01:00Z",
        **more.pop("status", {}),
    }
    return render(kind, uid=uid, status=status, **{"version": 10, **more})


def seen(*bodies: dict[str, Any]) -> list[RenderSeen]:
    """As the operator hands them to the mirror."""
    return [RenderSeen(body) for body in bodies]
