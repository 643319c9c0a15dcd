"""All that a decision may know, read once before it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from renderfleet_crds.conditions import Reason
from renderfleet_crds.contract import Charged

from .actions import Answer


class Runner(Enum):
    """What became of the open attempt."""

    NONE = auto()
    """No attempt is open."""
    ABSENT = auto()
    """Fenced in the status, but its Job does not exist and nobody holds its claim: it may be created."""
    STARTING = auto()
    """The Job is there, a pod is not."""
    WORKING = auto()
    STOPPING = auto()
    """The Job is being deleted; its pod may still be paying."""
    ENDED = auto()
    """It reported; `result` says what."""
    ADOPTED = auto()
    """It is gone, but the vendor had accepted: `vendor_job_id`."""
    LOST = auto()
    """It is gone and cannot have paid: its claim is ours now."""
    UNKNOWN = auto()
    """It is gone with the claim taken: the call may have happened, and nobody can be asked."""
    FOREIGN = auto()
    """The Job's name belongs to somebody else's object."""


@dataclass(frozen=True, slots=True)
class RunnerSeen:
    """The open attempt's runner."""

    state: Runner
    result: Mapping[str, Any] | None = None
    """A StageResult in its JSON form."""
    cost_micros: int | None = None
    vendor_job_id: str | None = None
    charged: Charged = Charged.UNKNOWN
    detail: str = ""
    """Why it ended without a result: OOMKilled, Evicted, DeadlineExceeded …"""
    code: str = ""
    since: float = 0.0
    """When its Job was created (seconds since 1970)."""
    script: str | None = None
    """What it had written before it ended, whatever became of speaking it: that much is paid."""


NO_RUNNER = RunnerSeen(Runner.NONE)


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a render may not start yet."""

    reason: Reason
    message: str
    position: int | None = None
    eta_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Dependency:
    """Another render that this one needs."""

    kind: str
    name: str
    body: Mapping[str, Any] | None = None
    """None while there is no such object."""


@dataclass(frozen=True, slots=True)
class VendorLook:
    """The last look at the vendor's job."""

    state: str
    """working, done or failed."""
    at: float
    vendor_status: str = ""
    progress: int | None = None
    result_url: str | None = None
    cost_micros: int | None = None
    category: str | None = None
    code: str | None = None
    message: str | None = None
    retry_limit: int | None = None
    """How many more attempts the failure is worth; None: as many as the render's own policy allows."""
    charged: Charged = Charged.NO
    job_id: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """Settings that decide."""

    ttl_succeeded_seconds: float = 7 * 86_400
    ttl_failed_seconds: float = 30 * 86_400
    ttl_cancelled_seconds: float = 86_400
    archive_deadline_seconds: float = 7 * 86_400
    pod_patience_seconds: float = 5
    """A Job without a pod for longer than this is taken back, so that the render waits in our queue."""
    report_wait_after_seconds: float = 1.0
    """A wait shorter than this is not worth a write."""
    report_wait_every_seconds: float = 15.0
    progress_every_seconds: float = 15.0


@dataclass(frozen=True, slots=True)
class Observed:
    """The world around one render."""

    now: float
    """Seconds since 1970."""
    chance: float = 0.5
    """In [0, 1), drawn for this attempt; the same one however often it is asked for."""
    runner: RunnerSeen = NO_RUNNER
    provider: Mapping[str, Any] | None = None
    """Spec of the RenderProvider, None when there is none of that name."""
    missing_provider: str | None = None
    is_tenant: bool = True
    admitted: bool = False
    wait: Wait | None = None
    may_report: bool = True
    """False when the write budget for reports of waiting and progress is used up just now."""
    dependencies: Mapping[str, Dependency] = field(default_factory=dict)
    look: VendorLook | None = None
    discarded: Mapping[str, Answer] = field(default_factory=dict)
    """By the vendor's id of a job: what the vendor answered when it was told that nobody waits for it."""
    archived: bool = False
    archive_late: str | None = None
    """Why its end is not in the archive yet; None while that takes no longer than it may."""
    estimate_micros: int | None = None
    expected_stage_seconds: float = 20.0
    policy: Policy = Policy()
