"""Conditions: what machines wait for and judge by (kubectl wait, kstatus, Argo CD), and the reasons they carry."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from .parts import Part


class ConditionType(StrEnum):
    """The conditions of a render."""

    SUCCEEDED = "Succeeded"
    """True: media are there. False: they never will be in this run. Unknown: not over yet."""
    FINISHED = "Finished"
    """True at every end, so that one `kubectl wait --for=condition=Finished` serves all outcomes."""
    QUEUED = "Queued"
    ADMITTED = "Admitted"
    PROVIDER_ACCEPTED = "ProviderAccepted"
    MEDIA_STORED = "MediaStored"
    ARCHIVED = "Archived"
    """Only of ends that PostgreSQL has kept for a minute. False: its object stays. True: it does so no more."""
    RECONCILING = "Reconciling"
    """kstatus: True while there is work to do."""
    STALLED = "Stalled"
    """kstatus: True when no further progress will come without a person."""
    READY = "Ready"
    """Of tenants and providers: usable now."""


class Reason(StrEnum):
    """Why: CamelCase words that alerts and scripts may match; each wait has its own."""

    # waits
    ACCEPTED = "Accepted"
    BEHIND_OTHERS = "BehindOthers"
    QUOTA_EXHAUSTED = "QuotaExhausted"
    PROVIDER_THROTTLED = "ProviderThrottled"
    CIRCUIT_OPEN = "CircuitOpen"
    PROVIDER_HELD = "ProviderHeld"
    PROVIDER_UNKNOWN = "ProviderUnknown"
    CREDENTIALS_MISSING = "CredentialsMissing"
    DEPENDENCY_PENDING = "DependencyPending"
    SUSPENDED = "Suspended"
    BUDGET_EXHAUSTED = "BudgetExhausted"
    NAMESPACE_NOT_A_TENANT = "NamespaceNotATenant"
    BACKING_OFF = "BackingOff"
    OUTCOME_UNKNOWN = "OutcomeUnknown"
    NAME_CONFLICT = "NameConflict"
    JOB_REFUSED = "JobRefused"
    # at work
    STARTED = "Started"
    VENDOR_WORKING = "VendorWorking"
    FINALIZING = "Finalizing"
    CANCELLING = "Cancelling"
    REDRIVEN = "Redriven"
    NOT_FINISHED = "NotFinished"
    NOT_STALLED = "NotStalled"
    # ends
    MEDIA_READY = "MediaReady"
    INPUT_REFUSED = "InputRefused"
    MODERATED = "Moderated"
    DEPENDENCY_FAILED = "DependencyFailed"
    FOREIGN_KEY = "ForeignKey"
    ATTEMPTS_EXHAUSTED = "AttemptsExhausted"
    QUEUE_DEADLINE_EXCEEDED = "QueueDeadlineExceeded"
    RUN_DEADLINE_EXCEEDED = "RunDeadlineExceeded"
    CANCELLED_BY_USER = "CancelledByUser"
    NOT_ARCHIVED_YET = "NotArchivedYet"
    ARCHIVED = "Archived"
    # tenants and providers
    READY = "Ready"
    RECONCILE_FAILED = "ReconcileFailed"


class Condition(Part):
    """One observation, in the form of the Kubernetes API conventions."""

    type: Annotated[str, Field(max_length=64)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
    message: Annotated[str, Field(max_length=1024)] = ""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    observed_generation: Annotated[int, Field(ge=0)] = 0


def set_condition(
    conditions: list[dict[str, Any]],
    kind: ConditionType,
    status: Literal["True", "False", "Unknown"] | bool,
    reason: Reason | str,
    *,
    message: str = "",
    generation: int,
    now: str,
) -> list[dict[str, Any]]:
    """A new list in which `kind` says this; its transition time moves only when its status does.

    Plain dicts, since this stands in the operator's hot path. `now` is RFC 3339.
    """
    word = {True: "True", False: "False"}.get(status, status) if isinstance(status, bool) else status
    made = {
        "type": str(kind),
        "status": word,
        "reason": str(reason),
        "message": message[:1024],
        "lastTransitionTime": now,
        "observedGeneration": generation,
    }
    out = []
    replaced = False
    for old in conditions:
        if old["type"] != made["type"]:
            out.append(old)
            continue
        if old["status"] == word:
            made["lastTransitionTime"] = old.get("lastTransitionTime", now)
        out.append(made)
        replaced = True
    if not replaced:
        out.append(made)
    return out


def find_condition(conditions: list[dict[str, Any]], kind: ConditionType) -> dict[str, Any] | None:
    """The condition of that type, or None when nobody has said anything yet."""
    return next((one for one in conditions if one["type"] == str(kind)), None)
