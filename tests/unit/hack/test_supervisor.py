"""Processes are told apart by more than their number, ended for good, and started again when they crash."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from renderfleet_cluster import shape as shapes
from renderfleet_cluster import supervisor
from renderfleet_cluster.shape import HealthKind, Options, Process, Shape


def running(child: subprocess.Popen[bytes]) -> supervisor.Running:
    return supervisor.Running(
        name="child",
        pid=child.pid,
        birth=supervisor.process_birth(child.pid),
        since=time.time(),
        restarts=0,
        log="",
        health_kind=HealthKind.SOCKET,
        health_target="",
    )


def test_a_process_is_alive_until_it_ends() -> None:
    child = subprocess.Popen(["sleep", "60"])
    one = running(child)
    assert one.is_alive

    child.kill()
    child.wait()

    assert not one.is_alive


def test_a_reused_pid_is_another_process() -> None:
    one = supervisor.Running(
        name="gone",
        pid=os.getpid(),
        birth=supervisor.process_birth(os.getpid()) - 1,
        since=0,
        restarts=0,
        log="",
        health_kind=HealthKind.SOCKET,
        health_target="",
    )

    assert not one.is_alive


def test_a_process_that_ended_before_it_was_looked_at_is_not_alive() -> None:
    child = subprocess.Popen(["true"])
    child.wait()

    assert not running(child).is_alive


def test_a_process_that_ignores_the_polite_request_is_ended() -> None:
    ignoring = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", ignoring], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"on\n"

    supervisor.stop_running([running(child)], within_seconds=0.2)

    assert child.wait(timeout=5) == -signal.SIGKILL


def test_an_unread_file_is_no_process(tmp_path: Path) -> None:
    assert supervisor.read(tmp_path / "processes.json") == []


def until(true: Callable[[], bool], within_seconds: float = 10) -> None:
    deadline = time.monotonic() + within_seconds
    while not true():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.02)


def test_crashed_processes_start_again_and_all_end_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, as in life: it handles signals and waits for children."""
    made = Shape(name="tiny", ordinal=1, state=tmp_path, options=Options(control_plane_only=True))
    made.logs.mkdir()
    crashing = Process(
        name="crashing",
        command=["false"],
        after=[],
        health_kind=HealthKind.SOCKET,
        health_target=str(tmp_path / "none"),
    )
    waiting = Process(
        name="waiting",
        command=["true"],
        after=["steady"],
        health_kind=HealthKind.SOCKET,
        health_target=str(tmp_path / "none"),
    )
    steady = Process(
        name="steady",
        command=["sleep", "60"],
        after=[],
        health_kind=HealthKind.SOCKET,
        health_target=str(tmp_path / "none"),
    )
    monkeypatch.setattr(shapes, "processes", lambda _shape: [crashing, steady, waiting])
    monkeypatch.setattr(supervisor, "RESTART_PAUSES_SECONDS", (0.01,))
    child = os.fork()
    if child == 0:
        with (tmp_path / "out").open("w") as out:
            os.dup2(out.fileno(), 1)
            supervisor.Supervisor(made).run()
        os._exit(0)

    def known() -> dict[str, supervisor.Running]:
        return {one.name: one for one in supervisor.read(made.processes_file)}

    until(lambda: "crashing" in known() and known()["crashing"].restarts >= 2)
    seen = known()
    assert seen["steady"].is_alive
    assert "waiting" not in seen, "what it waits for was never healthy"

    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not any(one.is_alive for one in known().values())
    assert json.loads(made.processes_file.read_text())[0]["name"] == "supervisor"
