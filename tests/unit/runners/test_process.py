"""The runner as a process: what it says without a usable task, and what it does not load."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from renderfleet_crds.contract import ErrorCategory, StageResult
from renderfleet_runners.logs import never_log, strike_out


def run(*arguments: str, task: str | None = None, termination: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"]}
    if task is not None:
        env["RENDERFLEET_TASK"] = task
    if termination is not None:
        env["RENDERFLEET_TERMINATION_MESSAGE_PATH"] = str(termination)
    return subprocess.run(
        [sys.executable, "-m", "renderfleet_runners", *arguments], env=env, capture_output=True, text=True, check=False
    )


def test_version_needs_no_task() -> None:
    ended = run("--version")
    assert ended.returncode == 0
    assert ended.stdout.startswith("renderfleet-runner ")


@pytest.mark.parametrize(
    "task", [None, "", "{}", "not json", '{"kind": "VoiceJob"}', '{"params": {"stage": "nap"}, "uid": "secret-prompt"}']
)
def test_a_task_that_is_none_is_our_own_fault(task: str | None, tmp_path: Path) -> None:
    ended = run(task=task, termination=tmp_path / "message")
    assert ended.returncode == 20
    result = StageResult.model_validate_json((tmp_path / "message").read_text())
    assert (result.category, result.code) == (ErrorCategory.INTERNAL, "bad_task")
    assert "secret-prompt" not in ended.stderr + (tmp_path / "message").read_text()


def test_a_termination_message_that_cannot_be_written_is_no_crash() -> None:
    ended = run(task="{}", termination=Path("/no/such/folder/message"))
    assert ended.returncode == 20
    assert "termination message not written" in ended.stderr


def test_nothing_heavy_is_loaded_before_the_task_is_read() -> None:
    code = (
        "import sys, renderfleet_crds.contract, renderfleet_runners.run;"
        "print([m for m in ('openai', 'PIL', 'boto3', 'kopf', 'fastapi', 'sqlalchemy') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_secrets_and_signatures_are_struck_out() -> None:
    never_log("user-name:pass-word")
    text = strike_out("tried https://s3.test/a?X-Amz-Signature=abc with pass-word and user-name")
    assert text == "tried [url struck out] with [struck out] and [struck out]"
