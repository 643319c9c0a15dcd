"""Fixed names: the same render, stage, run and attempt always give the same name, so doing a step twice is harmless.

The UID is in the hash: an object that is deleted and made again under its old name gets new children.
"""

import hashlib
import re
from typing import Any

from renderfleet_crds import meta

_HASH_CHARACTERS = 16
_SAFE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LIMIT = 63
"""Of a Job's name: it becomes a label of its pods."""


def _hash(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:_HASH_CHARACTERS]


def job_name(kind: str, name: str, uid: str, *, stage: str, run: int, attempt: int) -> str:
    """Name of one attempt's Job: readable in front, unique by the hash at its end."""
    tail = f"-{stage}-{_hash(kind, uid, stage, run, attempt)}"
    return _front(name, _LIMIT - len(tail)) + tail


def voice_child(video: str, uid: str) -> str:
    """Name of the VoiceJob that a VideoRender owns."""
    tail = f"-voice-{_hash('VideoRender', uid)[:10]}"
    return _front(video, _LIMIT - len(tail)) + tail


def provider_secret(provider: str) -> str:
    """Name of a provider's key in a tenant's namespace."""
    name = f"renderfleet-provider-{provider}"
    return name if len(name) <= 253 else f"{name[:230]}-{_hash(provider)}"


def label_safe(name: str) -> bool:
    """True for what the API server takes as a label value and as an object's name."""
    return _SAFE.fullmatch(name) is not None


def _front(name: str, room: int) -> str:
    """As much of a name as fits, fit to begin a label value."""
    return name.replace(".", "-")[:room].rstrip("-") or "render"


def owner_reference(body: dict[str, Any], *, blocks: bool) -> dict[str, Any]:
    """Says that `body` owns an object, which goes when it goes."""
    return {
        "apiVersion": body.get("apiVersion") or meta.API_VERSION,
        "kind": body["kind"],
        "name": body["metadata"]["name"],
        "uid": body["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": blocks,
    }
