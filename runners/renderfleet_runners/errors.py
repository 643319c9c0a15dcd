"""What can end a stage besides the vendor's own errors, and how each end is reported.

StageError
├── BadInput        user        a picture, recording or setting that can never work
├── BrokenMedia     outage      the vendor was paid and sent something unusable
├── OwnFault        internal    our storage, our tools, our defect
├── LinkExpired     transient   a link we were given no longer works
└── Disrupted       disrupted   ended from outside before anything was paid
"""

from typing import TYPE_CHECKING, ClassVar

from renderfleet_crds.contract import Charged, ErrorCategory, ExitCode, StageResult

if TYPE_CHECKING:
    from renderfleet_providers.errors import VendorError

REFUSING = (ErrorCategory.USER, ErrorCategory.MODERATION)


class StageError(Exception):
    """The stage cannot go on; the subclass says who must act."""

    category: ClassVar[ErrorCategory] = ErrorCategory.INTERNAL
    retry_limit: int | None = None

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class BadInput(StageError):
    """The input can never work."""

    category = ErrorCategory.USER


class BrokenMedia(StageError):
    """What the vendor made cannot be used. One more try may cost as much again, so it is all it gets."""

    category = ErrorCategory.OUTAGE
    retry_limit = 1


class OwnFault(StageError):
    """Our side failed."""


class LinkExpired(StageError):
    """The operator has to fetch a fresh link."""

    category = ErrorCategory.TRANSIENT


class Disrupted(StageError):
    """The pod is being ended."""

    category = ErrorCategory.DISRUPTED

    def __init__(self) -> None:
        super().__init__("disrupted", "the runner was stopped from outside before anything was paid")


def result_of_stage_error(error: StageError, charged: Charged) -> StageResult:
    """How a StageError is handed back."""
    return StageResult(
        outcome="refused" if error.category in REFUSING else "broke",
        category=error.category,
        code=error.code,
        message=error.message[:512],
        retry_limit=error.retry_limit,
        charged=charged,
    )


def result_of_vendor_error(error: "VendorError", charged_before: Charged) -> StageResult:
    """How a VendorError is handed back; money spent before the failing call counts."""
    charged = Charged.YES if charged_before is Charged.YES else error.charged
    return StageResult(
        outcome="refused" if error.category in REFUSING else "broke",
        category=error.category,
        code=error.code,
        message=error.message[:512],
        retry_after_seconds=error.retry_after_seconds,
        retry_limit=error.retry_limit,
        charged=charged,
        request_id=error.request_id,
        learned=error.learned,
    )


def exit_code_of(result: StageResult) -> ExitCode:
    """The number the Job's podFailurePolicy reads."""
    return {"done": ExitCode.DONE, "refused": ExitCode.REFUSED, "broke": ExitCode.BROKE}[result.outcome]
