"""From a custom resource to a row, and from a row to what is told about it. Pure.

A resource that the operator has not looked at yet has no status: it is shown as Queued.
"""

import re
from typing import Any

import orjson

from renderfleet_crds import meta
from renderfleet_crds.phases import Phase

Document = dict[str, Any]

_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_BAD_INPUT = frozenset({"user", "moderation"})
VISIBLE = ("phase", "reason", "message", "stage", "progress", "attempt", "run", "queue_position")
"""A change in one of these columns is an event; any other is not worth waking a listener for."""

PRIMARY_OUTPUT = {"AvatarRender": "image-1", "VoiceJob": "speech", "VideoRender": "video"}
"""The output that a job's resultUrl leads to."""


def to_json(value: Any) -> str:
    """JSON that PostgreSQL accepts as jsonb: U+0000, which it cannot hold and Kubernetes can, becomes U+FFFD."""
    return _NUL.sub(rb"\1\\ufffd", orjson.dumps(value)).decode()


def row_of(body: Document) -> Document:
    """The `jobs` row of one custom resource, with JSON values for `jsonb_to_recordset`."""
    about, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    annotations = about.get("annotations") or {}
    phase = status.get("phase") or Phase.QUEUED.value
    return {
        "uid": about["uid"],
        "kind": body["kind"],
        "namespace": about["namespace"],
        "name": about["name"],
        "provider": spec.get("provider") or "",
        "phase": phase,
        "reason": status.get("reason"),
        "message": status.get("message"),
        "stage": status.get("stage"),
        "progress": status.get("progress") or 0,
        "run": status.get("run") or 0,
        "attempt": status.get("attempt") or 0,
        "queue_position": (status.get("queue") or {}).get("position"),
        "client_reference": spec.get("clientReference"),
        "trace_id": status.get("traceId") or trace_id_of(annotations.get(meta.TRACE_ANNOTATION)),
        "labels": about.get("labels") or {},
        "spec": spec,
        "status": status,
        "resource_version": int(about["resourceVersion"]),
        "created_at": about["creationTimestamp"],
        "started_at": status.get("startedAt"),
        "finished_at": status.get("finishedAt") if Phase(phase).is_final else None,
    }


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace id within a W3C traceparent, or None when there is none."""
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else None


def snapshot(row: Document) -> Document:
    """The job as events and webhooks tell of it: small, and without links, since those expire."""
    told = {
        "id": row["uid"],
        "kind": row["kind"],
        "namespace": row["namespace"],
        "name": row["name"],
        "status": row["phase"],
        "reason": row["reason"],
        "message": row["message"],
        "stage": row["stage"],
        "progress": row["progress"],
        "attempts": row["attempt"],
        "run": row["run"],
        "clientReference": row["client_reference"],
        "queue": row["status"].get("queue") if not Phase(row["phase"]).is_final else None,
        "error": error_of(row),
    }
    return {key: value for key, value in told.items() if value is not None}


def error_of(row: Document) -> Document | None:
    """What went wrong, while or because something did: `{code, category, message, retryable, charged}`.

    `charged` speaks of the whole run: true when any attempt cost money, unknown when one may have.
    """
    phase = Phase(row["phase"])
    attempts: list[Document] = row["status"].get("attempts") or []
    failed = next((one for one in reversed(attempts) if one.get("category")), None)
    if phase in {Phase.RETRYING, Phase.HELD} and failed is None:
        return None
    if phase not in {Phase.FAILED, Phase.DEAD_LETTERED, Phase.CANCELLED, Phase.ABORTED, Phase.RETRYING, Phase.HELD}:
        return None
    failed = failed if failed and phase not in {Phase.CANCELLED, Phase.ABORTED} else {}
    category = failed.get("category")
    return {
        "code": failed.get("code") or row["reason"] or phase.value,
        "category": category,
        "message": row["message"] or failed.get("message") or "",
        "retryable": category not in _BAD_INPUT,
        "charged": charged_of(attempts),
    }


def charged_of(attempts: list[Document]) -> str:
    """`true` when an attempt cost money, else `unknown` when one may have, else `false`."""
    said = {one.get("charged", "false") for one in attempts}
    return "true" if "true" in said else "unknown" if "unknown" in said else "false"


def output_named(row: Document, name: str) -> Document | None:
    """One of the stored files, by what it is within the render."""
    outputs: list[Document] = row["status"].get("outputs") or []
    return next((one for one in outputs if one.get("name") == name), None)


def event_type(phase: Phase) -> str:
    """What a webhook calls it: `render.succeeded`, `render.dead_lettered` …"""
    return "render." + re.sub(r"(?<!^)(?=[A-Z])", "_", phase.value).lower()
