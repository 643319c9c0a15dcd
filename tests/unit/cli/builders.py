"""The smallest render that is one; a test names only what it is about."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from renderfleet_cli.views import Render
from renderfleet_crds.phases import Phase

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
UID = "15c21908-9184-41be-a634-9bef702b9441"

_SMALLEST = Render(
    kind="VoiceJob",
    name="greeting",
    namespace="rf-acme",
    id=UID,
    provider="elevenlabs",
    phase=Phase.QUEUED,
    reason="Accepted",
)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def stamp(when: datetime) -> str:
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")


def render(**told: Any) -> Render:
    return replace(_SMALLEST, **told)


def resource(
    kind: str = "VoiceJob",
    name: str = "greeting",
    *,
    spec: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    **about: Any,
) -> dict[str, Any]:
    """A custom resource as the API server gives it."""
    metadata = {
        "name": name,
        "namespace": "rf-acme",
        "uid": UID,
        "resourceVersion": "7",
        "creationTimestamp": stamp(ago(300)),
        **about,
    }
    body: dict[str, Any] = {
        "apiVersion": "renderfleet.dev/v1alpha1",
        "kind": kind,
        "metadata": metadata,
        "spec": {"text": "Welcome aboard.", "voiceId": "v", "provider": "elevenlabs", **(spec or {})},
    }
    if status is not None:
        body["status"] = status
    return body
