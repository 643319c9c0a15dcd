"""From the Task's text to the exit code. Whatever happens in between, a result is reported."""

import asyncio
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from renderfleet_crds.contract import (
    AvatarParams,
    ErrorCategory,
    ExitCode,
    StageResult,
    Task,
    VideoFinalizeParams,
    VideoStartParams,
    VoiceParams,
    unpack_task,
)
from renderfleet_providers.errors import VendorError

from .attempt import Attempt, PaidStage, report, run_paid_stage
from .clock import Deadline, Stop
from .errors import StageError, exit_code_of
from .logs import set_up, strike_out
from .record import RunRecord
from .storage import Storage


async def run_task(
    packed_task: str,
    termination_path: str,
    started: float,
    wait_for_other_seconds: float,
    told_early: Sequence[int] = (),
) -> int:
    """Run one stage attempt and report it.

    `started` is the monotonic time of the process's start; `told_early` holds signals that came before we listened.
    """
    log = set_up()
    try:
        task = Task.model_validate_json(unpack_task(packed_task))
    except ValueError as bad:
        errors = bad.errors(include_input=False) if isinstance(bad, ValidationError) else []
        places = ["/".join(str(step) for step in error["loc"]) for error in errors][:5]
        log.error("task not understood", fields=places)
        result = StageResult(
            outcome="broke",
            category=ErrorCategory.INTERNAL,
            code="bad_task",
            message=f"the runner does not understand its task: {', '.join(places) or 'no task'}"[:512],
        )
        _write_termination_message(termination_path, result)
        return ExitCode.BROKE
    log = log.bind(
        kind=task.kind,
        namespace=task.namespace,
        name=task.name,
        uid=task.uid,
        stage=task.stage.value,
        run=task.run,
        attempt=task.attempt,
        trace_id=task.trace_id,
    )
    log.info("runner started", start_seconds=round(time.monotonic() - started, 3))
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.tell)
    if told_early:
        stop.tell()
    deadline = Deadline(started + task.deadline_seconds)
    storage = Storage(task.record.claim_put.startswith("https:"))
    with tempfile.TemporaryDirectory(prefix="renderfleet-", ignore_cleanup_errors=True) as work:
        attempt = Attempt(
            task=task,
            storage=storage,
            record=RunRecord(task.record, storage, deadline),
            work=Path(work),
            deadline=deadline,
            stop=stop,
            log=log,
            wait_for_other_seconds=wait_for_other_seconds,
        )
        try:
            result, code = await _run_stage(attempt)
        except Exception as defect:
            # The message of an unknown exception may hold anything; where it was raised may not.
            frames = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(defect.__traceback__)]
            log.error("runner failed by a defect of its own", error=type(defect).__name__, frames=frames[-8:])
            result = StageResult(
                outcome="broke",
                category=ErrorCategory.INTERNAL,
                code="runner_defect",
                message=f"the runner failed by a defect of its own ({type(defect).__name__})",
                charged=attempt.charged,
            )
            code = ExitCode.BROKE
        await storage.aclose()
    _write_termination_message(termination_path, result)
    log.info(
        "runner ended",
        outcome=result.outcome,
        category=result.category,
        code=result.code,
        charged=result.charged,
        outputs=len(result.outputs),
        exit_code=int(code),
        seconds=round(time.monotonic() - started, 3),
    )
    return code


async def _run_stage(attempt: Attempt) -> tuple[StageResult, ExitCode]:
    params = attempt.task.params
    try:
        if isinstance(params, VideoFinalizeParams):
            from .video import finalize

            return await finalize(attempt, params)
        stage = _paid_stage(attempt, params)
    except (StageError, VendorError) as early:
        result = report(attempt, early)
        return result, exit_code_of(result)
    try:
        return await run_paid_stage(attempt, stage)
    finally:
        await stage.aclose()


def _paid_stage(attempt: Attempt, params: AvatarParams | VoiceParams | VideoStartParams) -> PaidStage[Any]:
    """The stage's code is loaded only now: each brings libraries that the others do not need."""
    match params:
        case AvatarParams():
            from .avatar import AvatarStage

            return AvatarStage(attempt, params)
        case VoiceParams():
            from .voice import VoiceStage

            return VoiceStage(attempt, params)
        case VideoStartParams():
            from .video import VideoStartStage

            return VideoStartStage(attempt, params)


def _write_termination_message(path: str, result: StageResult) -> None:
    """The fast path to the operator. It is only that: without it the run record tells."""
    if result.message is not None:
        result = result.model_copy(update={"message": strike_out(result.message)})
    try:
        Path(path).write_text(result.to_termination_message(), encoding="utf-8")
    except OSError as failed:
        print(f'{{"event": "termination message not written", "error": "{type(failed).__name__}"}}', file=sys.stderr)
