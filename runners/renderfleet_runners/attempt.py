"""The one path of every paid stage: claim, pay, note, deliver, report; and what to do at each place it can break off.

the record has a result           -> report it as ours
stopped before the claim          -> Disrupted, nothing written: a replacement pod starts from the beginning
the claim is ours                 -> pay; the answer is noted at once, then stored until the deadline
stopped while the vendor works    -> wait for the answer as long as the grace allows, then say "unknown"
stopped while storing             -> the same, then say "paid and not stored"
the claim is another's            -> wait for its result; else find the vendor's answer; else say "unknown"
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from renderfleet_crds.contract import (
    AcceptedRecord,
    Charged,
    ClaimRecord,
    ErrorCategory,
    ExitCode,
    InputFile,
    Output,
    OutputSlot,
    StageResult,
    Task,
)
from renderfleet_providers.errors import OutcomeUnknown, VendorError

from .clock import Deadline, Stop
from .errors import (
    BadInput,
    Disrupted,
    OwnFault,
    StageError,
    exit_code_of,
    result_of_stage_error,
    result_of_vendor_error,
)
from .record import RunRecord
from .storage import Storage, sha256_of, size_of

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

A = TypeVar("A")
T = TypeVar("T")

REPORT_RESERVE_SECONDS = 5.0
"""Kept back from the deadline and from the grace to write the record and the termination message."""
LAST_RESERVE_SECONDS = 1.0
"""The part of it that is for the termination message alone."""
CLAIM_SECONDS = 15.0
"""Longest try to write the claim. It is not given up half-way when stopped, so it must fit into the grace."""
NOTE_SECONDS = 10.0
"""Longest try to write accepted.json before going on: storing the answer itself matters more."""
SHORTEST_CALL_SECONDS = 5.0
"""With less time than this left, nothing is claimed: the call would only be cut off and its outcome be unknown."""
LOOK_AGAIN_SECONDS = 1.0


@dataclass
class Attempt:
    """What one stage works with."""

    task: Task
    storage: Storage
    record: RunRecord
    work: Path
    """A folder of its own."""
    deadline: Deadline
    """By then the report must be written."""
    stop: Stop
    log: "FilteringBoundLogger"
    wait_for_other_seconds: float
    """How long the claim's holder is given to finish before its answer is looked for at the vendor."""
    charged: Charged = Charged.NO
    """What is known about money so far."""
    partial: dict[str, Any] = field(default_factory=dict)
    """Fields of the result that are worth handing back even when the stage breaks: usage, script, vendor ids."""

    @property
    def is_another(self) -> bool:
        """Whether others went before it, so that something of its order may be paid already."""
        return self.task.attempt > 1 or self.task.run > 0

    def slot(self, name: str) -> OutputSlot | None:
        """Where an output of this name may go."""
        return next((slot for slot in self.task.outputs if slot.name == name), None)

    def input(self, name: str) -> InputFile:
        """The input of this name. Raises OwnFault: the operator forgot it."""
        found = next((file for file in self.task.inputs if file.name == name), None)
        if found is None:
            raise OwnFault("input_not_given", f"the task names no input {name!r}")
        return found

    def has_input(self, name: str) -> bool:
        """Whether there is an input of this name."""
        return any(file.name == name for file in self.task.inputs)

    def call_seconds(self, configured: float) -> float:
        """Time for a vendor call: as configured, but leaving enough of the deadline to report."""
        left = self.deadline.earlier(REPORT_RESERVE_SECONDS).seconds_left()
        if left <= 0:
            raise StageTimeout()
        return min(configured, left)

    async def store(self, slot: OutputSlot, file: Path, **facts: Any) -> Output:
        """Store one output. Raises OwnFault, the size of the file included: the slot's limit is ours, not the user's."""
        size = size_of(file)
        if size > slot.max_bytes:
            raise OwnFault("output_too_large", f"{slot.name} has {size} bytes, its place holds {slot.max_bytes}")
        await self.storage.put_file(slot.put_url, slot.content_type, file, self.deadline)
        digest = await asyncio.to_thread(sha256_of, file)
        return Output(name=slot.name, key=slot.key, content_type=slot.content_type, bytes=size, sha256=digest, **facts)

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """Do free work; give it up at once when the pod is being ended. Raises Disrupted."""
        doing = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self.stop.wait())
        try:
            await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                return doing.result()
            raise Disrupted
        finally:
            await _end(stopping)
            await _end(doing)


class StageTimeout(StageError):
    """The attempt's time is over."""

    category = ErrorCategory.TRANSIENT

    def __init__(self) -> None:
        super().__init__("deadline_exceeded", "the attempt's time was over before it could finish")


class PaidStage(ABC, Generic[A]):
    """A stage with one paid answer of type A."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt

    @abstractmethod
    async def prepare(self) -> None:
        """Everything that can fail for free. Raises StageError or VendorError."""

    @abstractmethod
    async def call(self) -> A:
        """Paid. Must call `answered` as soon as an answer is known. Raises StageError or VendorError."""

    @abstractmethod
    async def find(self, claim: ClaimRecord | None, accepted: AcceptedRecord | None) -> A | None:
        """The answer to another process's call, or None when the vendor cannot tell. Free."""

    @abstractmethod
    async def deliver(self, answer: A) -> StageResult:
        """Check and store what was paid for. Raises StageError."""

    async def aclose(self) -> None:
        """Let go of connections."""

    async def answered(self, accepted: AcceptedRecord) -> None:
        """Note that money was spent. A record that cannot be written does not stop the delivery."""
        self.attempt.charged = Charged.YES
        try:
            await self.attempt.record.accept(accepted, self.attempt.deadline.within(NOTE_SECONDS))
        except OwnFault as fault:
            self.attempt.log.warning("accepted record not written", code=fault.code)


async def run_paid_stage(attempt: Attempt, stage: PaidStage[Any]) -> tuple[StageResult, ExitCode]:
    """Run the stage to its report. Never raises for what a vendor, storage or a user can cause."""
    try:
        known = await attempt.unless_stopped(attempt.record.read_result())
        if known is not None:
            attempt.log.info("result found in the record")
            return known, exit_code_of(known)
        await attempt.unless_stopped(before(attempt.deadline, stage.prepare()))
        if attempt.deadline.earlier(REPORT_RESERVE_SECONDS).seconds_left() < SHORTEST_CALL_SECONDS:
            raise StageTimeout
        mine = await attempt.record.claim(attempt.deadline.within(CLAIM_SECONDS))
    except (StageError, VendorError) as early:
        # Before the claim nothing was paid, and the record belongs to whoever gets the claim.
        result = report(attempt, early)
        return result, exit_code_of(result)
    if not mine:
        return await _after_a_lost_claim(attempt, stage)
    attempt.log.info("claim won", holder=attempt.record.holder)
    result = await _pay_and_deliver(attempt, stage)
    return await _finish(attempt, result)


async def _pay_and_deliver(attempt: Attempt, stage: PaidStage[A]) -> StageResult:
    try:
        if attempt.stop.is_told:
            raise Disrupted
        try:
            answer = await _see_through(attempt, stage.call(), REPORT_RESERVE_SECONDS)
        except TimeIsUp as up:
            raise AnswerNotAwaited(up.code) from up
        attempt.charged = Charged.YES
        return await _see_through(attempt, stage.deliver(answer), REPORT_RESERVE_SECONDS)
    except (StageError, VendorError) as failed:
        return report(attempt, failed)
    except BaseException:
        if attempt.charged is Charged.NO:
            attempt.charged = Charged.UNKNOWN  # a defect of ours may have struck after the vendor was paid
        raise


async def _see_through(attempt: Attempt, work: Coroutine[Any, Any, T], reserve_seconds: float) -> T:
    """Finish work that is worth money, even when stopped, as long as deadline and grace allow. Raises TimeIsUp."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(attempt.stop.wait())
    enough = attempt.deadline.earlier(reserve_seconds)
    try:
        if not attempt.stop.is_told:
            await asyncio.wait({working, stopping}, timeout=enough.seconds_left(), return_when=asyncio.FIRST_COMPLETED)
        if not working.done() and attempt.stop.is_told:
            grace = attempt.stop.deadline(attempt.task.grace_seconds).earlier(reserve_seconds)
            attempt.log.warning("stopped; finishing what is paid for", seconds=round(grace.seconds_left(), 1))
            await asyncio.wait({working}, timeout=min(enough.seconds_left(), grace.seconds_left()))
        if working.done():
            return working.result()
        raise TimeIsUp("stopped" if attempt.stop.is_told else "deadline_exceeded")
    finally:
        await _end(stopping)
        await _end(working)


class TimeIsUp(OwnFault):
    """What was paid for could not be stored in time."""

    def __init__(self, code: str) -> None:
        super().__init__(code, "the runner had to end before what was paid for was stored")


class AnswerNotAwaited(StageError):
    """We had to go before the vendor answered."""

    category = ErrorCategory.UNKNOWN_OUTCOME
    retry_limit = OutcomeUnknown.usual_retry_limit

    def __init__(self, code: str) -> None:
        super().__init__(code, "the runner had to end before the vendor answered; the call may have been charged")


async def _after_a_lost_claim(attempt: Attempt, stage: PaidStage[A]) -> tuple[StageResult, ExitCode]:
    attempt.log.info("claim held by another process")
    try:
        patience = attempt.deadline.earlier(REPORT_RESERVE_SECONDS).within(attempt.wait_for_other_seconds)
        accepted = None
        while patience.seconds_left() > 0 and not attempt.stop.is_told:
            result = await attempt.record.read_result()
            if result is not None:
                return result, exit_code_of(result)
            accepted = await attempt.record.read_accepted()
            if accepted is not None and accepted.vendor_job_id is not None:
                break  # the job's id is all there is to wait for
            with suppress(TimeoutError):
                await asyncio.wait_for(attempt.stop.wait(), min(LOOK_AGAIN_SECONDS, patience.seconds_left()))
        if accepted is not None:
            attempt.charged = Charged.YES
            attempt.partial = {"script": accepted.script} if accepted.script else {}
        answer = await before(attempt.deadline, stage.find(await attempt.record.read_claim(), accepted))
        if answer is not None:
            attempt.log.info("the other process's answer was found at the vendor")
            attempt.charged = Charged.YES
            found = await before(attempt.deadline, stage.deliver(answer))
            return await _finish(attempt, found)
    except (StageError, VendorError) as failed:
        attempt.log.warning("looking for the other process's answer failed", code=failed.code)
    unknown = StageResult(
        outcome="broke",
        category=ErrorCategory.UNKNOWN_OUTCOME,
        code="claim_lost",
        message="another process made this attempt's paid call and its outcome is not known",
        retry_limit=OutcomeUnknown.usual_retry_limit,
        charged=Charged.YES if attempt.charged is Charged.YES else Charged.UNKNOWN,
    )
    return unknown.model_copy(update=attempt.partial), ExitCode.CLAIM_LOST


async def _finish(attempt: Attempt, result: StageResult) -> tuple[StageResult, ExitCode]:
    try:
        counted = await _see_through(attempt, attempt.record.finish(result), LAST_RESERVE_SECONDS)
    except OwnFault as fault:
        attempt.log.error("result record not written", code=fault.code)
        counted = result
    if counted.outcome != "done" and result.outcome == "done":
        counted = result  # another writer gave up earlier; what is stored is stored
    return counted, exit_code_of(counted)


def report(attempt: Attempt, error: StageError | VendorError) -> StageResult:
    """The result of an attempt that ended by `error`, with what it had by then."""
    if isinstance(error, VendorError):
        result = result_of_vendor_error(error, attempt.charged)
    else:
        charged = attempt.charged
        if isinstance(error, AnswerNotAwaited) and charged is Charged.NO:
            charged = Charged.UNKNOWN
        result = result_of_stage_error(error, charged)
    return result.model_copy(update=attempt.partial)


async def before(deadline: Deadline, work: Awaitable[T]) -> T:
    """Do `work` by then. Raises StageTimeout."""
    try:
        async with asyncio.timeout(deadline.seconds_left()):
            return await work
    except TimeoutError as late:
        raise StageTimeout from late


async def _end(task: "asyncio.Future[Any]") -> None:
    """Cancel and wait, so that nothing runs on behind our back."""
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


def cannot(what: str) -> BadInput:
    """The render names a provider that has no such ability."""
    return BadInput("wrong_provider", f"the chosen provider cannot {what}; choose another in the spec")
