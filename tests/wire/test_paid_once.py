"""Whatever kills, doubles or disturbs a runner: no call is billed twice, and no outcome is guessed.

A point is a place where the process dies by SIGKILL. What a second process of the same attempt then says is the proof.
"""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.wire import Bench, Ended, wait_until

from renderfleet_crds.contract import Charged, ErrorCategory, ExitCode, Task, Vendor, VideoStartParams

Files = tuple[Path, Path]
OPERATION = {
    "generate": ("openai", "images.generations"),
    "synthesize": ("elevenlabs", "text-to-speech"),
    "start": ("did", "talks.create"),
}
STAGES = list(OPERATION)


@pytest.fixture
def make(bench: Bench, talk_files: Files) -> Callable[[str], Task]:
    """A task of each paid stage."""

    def task(stage: str) -> Task:
        match stage:
            case "generate":
                return bench.avatar(count=1)
            case "synthesize":
                return bench.voice()
            case _:
                return bench.video_start(*talk_files)

    return task


IN_A_HURRY = {"RENDERFLEET_WAIT_FOR_OTHER_SECONDS": "1"}
"""For a second process that shall not wait a whole minute for the first, which is dead."""


@pytest.mark.parametrize("stage", STAGES)
async def test_two_processes_of_one_attempt_pay_once(bench: Bench, make: Callable[[str], Task], stage: str) -> None:
    task = make(stage)
    both = [bench.start(task), bench.start(task)]
    ended = await asyncio.gather(*(asyncio.to_thread(runner.wait) for runner in both))
    assert [one.exit_code for one in ended] == [ExitCode.DONE, ExitCode.DONE], [one.logs for one in ended]
    assert ended[0].result == ended[1].result, "the loser reports the winner's result as its own"
    assert len(bench.standin.billed()) == 1


@pytest.mark.parametrize("stage", STAGES)
async def test_a_finished_attempt_is_not_done_again(bench: Bench, make: Callable[[str], Task], stage: str) -> None:
    task = make(stage)
    first, second = bench.run(task), bench.run(task)
    assert first.exit_code is second.exit_code is ExitCode.DONE
    assert first.result == second.result
    assert len(bench.standin.billed()) == 1


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("point", ["before_bill", "after_bill"])
async def test_killed_during_the_paid_call(bench: Bench, make: Callable[[str], Task], stage: str, point: str) -> None:
    task = make(stage)
    bench.standin.hold(*OPERATION[stage], point)
    first = bench.start(task)
    await bench.until_waiting()
    first.kill()
    bench.standin.release()
    assert bench.record(task, "claim") is not None
    assert bench.record(task, "accepted") is None
    await asyncio.sleep(1.0)  # what was billed becomes visible at the vendor

    second = bench.run(task, **IN_A_HURRY)

    billed = len(bench.standin.billed(OPERATION[stage][0]))
    assert billed <= 1
    assert len(bench.standin.calls(*OPERATION[stage])) == 1, "nobody calls a second time under one claim"
    if billed and stage != "generate":
        # These vendors can be asked: the lost answer is found and used.
        assert second.exit_code is ExitCode.DONE, second.logs
        assert second.result is not None
        assert second.result.charged is Charged.YES
    else:
        assert_unknown(second, Charged.UNKNOWN)


@pytest.mark.parametrize("stage", STAGES)
async def test_killed_between_the_answer_and_the_result(bench: Bench, make: Callable[[str], Task], stage: str) -> None:
    """Accepted is written, the result is not: storage stands still at just that moment."""
    task = make(stage)
    broken = task.model_copy(
        update={
            "outputs": [slot.model_copy(update={"put_url": BLACK_HOLE}) for slot in task.outputs],
            "record": task.record.model_copy(update={"result_put": BLACK_HOLE}),
        }
    )
    first = bench.start(broken)
    await asyncio.to_thread(wait_until, lambda: bench.record(task, "accepted") is not None, "the accepted record", 90)
    first.kill()

    second = bench.run(task, **IN_A_HURRY)

    assert len(bench.standin.billed(OPERATION[stage][0])) == 1
    assert len(bench.standin.calls(*OPERATION[stage])) == 1
    if stage == "generate":
        assert_unknown(second, Charged.YES)
    else:
        assert second.exit_code is ExitCode.DONE, second.logs


async def test_killed_between_script_and_speech(bench: Bench) -> None:
    """The script is in the record, so its speech can be looked for; there is none, and nobody orders it again."""
    task = bench.voice(prompt="a tour of the harbour")
    bench.standin.hold("elevenlabs", "text-to-speech", "before_bill")
    first = bench.start(task)
    await bench.until_waiting()
    first.kill()
    bench.standin.release()
    accepted = bench.record(task, "accepted")
    assert accepted is not None
    assert accepted["script"]

    second = bench.run(task, **IN_A_HURRY)

    assert len(bench.standin.billed("openai")) == 1
    assert len(bench.standin.billed("elevenlabs")) <= 1
    if bench.standin.billed("elevenlabs"):
        assert second.exit_code is ExitCode.DONE
    else:
        assert_unknown(second, Charged.YES)
    assert second.result is not None
    assert second.result.script == accepted["script"], "what was paid for is handed on"


def next_attempt(bench: Bench, task: Task) -> Task:
    """The same order with a record of its own, as the operator makes it after a failure."""
    return task.model_copy(update={"attempt": task.attempt + 1, "record": bench.voice().record})


THREE_PARTS = "The first sentence stands here. The second one follows it. A third one ends it all."


def test_parts_that_were_paid_for_are_not_paid_for_again(bench: Bench) -> None:
    """The account ran dry in the middle; the vendor still has what was spoken by then."""
    access = bench.provider(Vendor.ELEVENLABS, options={"maxCharacters": "40"})
    task = bench.voice(text=THREE_PARTS, provider=access)
    bench.standin.fault("elevenlabs", "text-to-speech", "401_quota_exceeded", skip=2)
    broken = bench.run(task)
    assert broken.result is not None
    assert (broken.result.category, broken.result.charged) == (ErrorCategory.MONEY, Charged.YES)

    done = bench.run(next_attempt(bench, task))

    assert done.exit_code is ExitCode.DONE, done.logs
    assert done.result is not None
    billed = bench.standin.billed("elevenlabs")
    assert len(billed) == 3
    assert done.result.usage == {"characters": sum(bill["units"] for bill in billed)}


def test_a_speech_that_turned_up_late_is_not_ordered_again(bench: Bench) -> None:
    task = bench.voice()
    bench.standin.fault("elevenlabs", "text-to-speech", "reset_after_bill")
    bench.standin.fault("elevenlabs", "history", "503_maintenance", times=3)
    unknown = bench.run(task)
    assert unknown.result is not None
    assert unknown.result.category is ErrorCategory.UNKNOWN_OUTCOME

    done = bench.run(next_attempt(bench, task))

    assert done.exit_code is ExitCode.DONE, done.logs
    assert len(bench.standin.billed("elevenlabs")) == 1


def test_a_talk_that_turned_up_late_is_not_ordered_again(bench: Bench, talk_files: Files) -> None:
    task = bench.video_start(*talk_files)
    bench.standin.fault("did", "talks.create", "reset_after_bill")
    bench.standin.fault("did", "talks.list", "500_internal_server", times=2)
    unknown = bench.run(task)
    assert unknown.result is not None
    assert unknown.result.category is ErrorCategory.UNKNOWN_OUTCOME
    again = VideoStartParams(correlation=f"{task.uid}/0-2")

    done = bench.run(next_attempt(bench, task).model_copy(update={"params": again}))

    assert done.exit_code is ExitCode.DONE, done.logs
    assert done.result is not None
    [bill] = bench.standin.billed("did")
    assert done.result.vendor_job_id == bill["resource"]


def test_a_talk_that_failed_is_ordered_again(bench: Bench, talk_files: Files) -> None:
    task = bench.video_start(*talk_files)
    bench.standin.fault("did", "talks.create", "job_unknown_error")
    first = bench.run(task)
    wait_until(lambda: not bench.standin.billed("did"), "the credits' return")
    again = VideoStartParams(correlation=f"{task.uid}/0-2")

    second = bench.run(next_attempt(bench, task).model_copy(update={"params": again}))

    assert first.result is not None
    assert second.result is not None
    assert second.exit_code is ExitCode.DONE, second.logs
    assert second.result.vendor_job_id != first.result.vendor_job_id


@pytest.mark.parametrize("fault", ["200_silent_audio", "200_short_audio", "200_empty_audio"])
def test_a_speech_that_is_of_no_use_is_not_used_again(bench: Bench, fault: str) -> None:
    task = bench.voice(text="Welcome to the harbour. Please mind the step and hold on to the rail on your left.")
    bench.standin.fault("elevenlabs", "text-to-speech", fault)
    codes = [bench.run(one).exit_code for one in (task, next_attempt(bench, task))]
    assert codes == [ExitCode.BROKE, ExitCode.DONE]
    assert len(bench.standin.billed("elevenlabs")) == 2


@pytest.mark.parametrize("stage", STAGES)
async def test_killed_before_the_claim(bench: Bench, make: Callable[[str], Task], stage: str) -> None:
    """Nothing is written and nothing billed, so a second process simply does it."""
    task = make(stage)
    stuck = task.model_copy(update={"record": task.record.model_copy(update={"claim_put": BLACK_HOLE})})
    first = bench.start(stuck)
    await asyncio.to_thread(first.until_it_logs, "runner started")
    await asyncio.sleep(0.5)
    first.kill()
    assert bench.record(task, "claim") is None
    assert bench.standin.billed() == []
    assert bench.run(task).exit_code is ExitCode.DONE
    assert len(bench.standin.billed()) == 1


@pytest.mark.parametrize("stage", STAGES)
async def test_stopped_before_the_claim(bench: Bench, make: Callable[[str], Task], stage: str) -> None:
    task = make(stage)
    stuck = task.model_copy(update={"record": task.record.model_copy(update={"result_get": BLACK_HOLE})})
    first = bench.start(stuck)
    await asyncio.to_thread(first.until_it_logs, "runner started")
    first.process.send_signal(signal.SIGTERM)
    ended = await asyncio.to_thread(first.wait)
    assert ended.exit_code is ExitCode.BROKE
    assert ended.result is not None
    assert ended.result.category is ErrorCategory.DISRUPTED
    assert ended.result.charged is Charged.NO
    assert bench.record(task, "result") is None, "a replacement pod shall start from the beginning"
    assert bench.standin.billed() == []
    assert bench.run(task).exit_code is ExitCode.DONE


async def test_stopped_while_it_still_loads(bench: Bench) -> None:
    """SIGTERM before anything listens for it: the first process of a container would not even die of it."""
    task = bench.voice()
    runner = bench.start(task)
    await asyncio.sleep(0.15)
    runner.process.send_signal(signal.SIGTERM)
    ended = await asyncio.to_thread(runner.wait)
    assert bench.standin.billed() == []
    assert ended.code in (ExitCode.BROKE, -signal.SIGTERM)  # the latter when it had not even begun
    assert bench.run(task).exit_code is ExitCode.DONE


@pytest.mark.parametrize("stage", STAGES)
async def test_stopped_while_the_vendor_works_waits_for_the_answer(
    bench: Bench, make: Callable[[str], Task], stage: str
) -> None:
    task = make(stage)
    bench.standin.hold(*OPERATION[stage], "after_bill")
    runner = bench.start(task)
    await bench.until_waiting()
    runner.process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.5)
    bench.standin.release()
    ended = await asyncio.to_thread(runner.wait)
    assert ended.exit_code is ExitCode.DONE, ended.logs
    assert bench.record(task, "result") is not None
    assert len(bench.standin.billed()) == 1


@pytest.mark.parametrize("stage", STAGES)
async def test_stopped_while_the_vendor_does_not_answer_says_so(
    bench: Bench, make: Callable[[str], Task], stage: str
) -> None:
    task = make(stage).model_copy(update={"grace_seconds": 6})
    bench.standin.hold(*OPERATION[stage], "after_bill")
    runner = bench.start(task)
    await bench.until_waiting()
    runner.process.send_signal(signal.SIGTERM)
    ended = await asyncio.to_thread(runner.wait, 5)
    assert ended.exit_code is ExitCode.BROKE
    assert ended.result is not None
    assert ended.result.category is ErrorCategory.UNKNOWN_OUTCOME
    assert ended.result.charged is Charged.UNKNOWN
    assert bench.record(task, "result") is not None


@pytest.mark.parametrize("stage", STAGES)
async def test_the_deadline_ends_a_call_that_hangs(bench: Bench, make: Callable[[str], Task], stage: str) -> None:
    task = make(stage).model_copy(update={"deadline_seconds": 25})
    bench.standin.hold(*OPERATION[stage], "after_bill")
    ended = await asyncio.to_thread(bench.start(task).wait, 60)
    assert ended.exit_code is ExitCode.BROKE
    assert ended.result is not None
    assert ended.result.category is ErrorCategory.UNKNOWN_OUTCOME
    assert ended.result.charged is Charged.UNKNOWN
    bench.standin.release()
    assert len(bench.standin.calls(*OPERATION[stage])) == 1


async def test_the_key_is_nowhere(bench: Bench, make: Callable[[str], Task]) -> None:
    """Neither key nor prompt nor a signature in logs, termination message and record, on good days and bad."""
    endings: list[tuple[Task, Ended]] = []
    for stage in STAGES:
        for fault in (None, "reset_before_send", "huge_body"):
            bench.standin.reset()
            if fault:
                bench.standin.fault(*OPERATION[stage], fault)
            task = make(stage).model_copy(update={"deadline_seconds": 20})
            endings.append((task, bench.run(task)))
    bench.standin.reset()
    bench.standin.fault("openai", "images.generations", "401_invalid_api_key")
    wrong = bench.avatar(count=1, prompt="a secret wish 8d1f")
    endings.append((wrong, bench.run(wrong)))
    secrets = [key for pair in ("sk-standin", "el-standin", "did-user:did-pass") for key in (pair, *pair.split(":"))]
    for task, ended in endings:
        told = ended.logs + ended.termination_message
        told += str([bench.record(task, name) for name in ("claim", "accepted", "result")])
        for secret in [*secrets, "a secret wish", "a friendly guide", "Welcome to the harbour", "X-Amz-Signature"]:
            assert secret not in told, (task.stage, secret)
    assert len(endings) == 10


async def test_a_missing_key_is_the_administrators_business(bench: Bench) -> None:
    access = bench.provider(Vendor.OPENAI, key_file=str(bench.folder / "not-there"))
    ended = bench.run(bench.avatar(provider=access))
    assert ended.exit_code is ExitCode.BROKE
    assert ended.result is not None
    assert ended.result.category is ErrorCategory.CREDENTIAL
    assert ended.result.code == "key_missing"


BLACK_HOLE = "http://127.0.0.1:9/nowhere"
"""Nobody listens there; storage is tried again and again."""


def assert_unknown(ended: Ended, charged: Charged) -> None:
    assert ended.exit_code is ExitCode.CLAIM_LOST, ended.logs
    assert ended.result is not None
    assert ended.result.category is ErrorCategory.UNKNOWN_OUTCOME
    assert ended.result.charged is charged
