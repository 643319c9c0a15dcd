"""Keep a cluster's processes running: start in order, restart what crashed, stop in reverse.

One supervisor per cluster, detached from the terminal that started it. What it knows it writes to `processes.json`,
so that `status` can tell and `down` can clean up even when the supervisor itself was killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from renderfleet_cluster import shape as shapes
from renderfleet_cluster.debian import PROGRAM_PATH
from renderfleet_cluster.health import is_healthy
from renderfleet_cluster.shape import HealthKind, Process, Shape

LOOK_EVERY_SECONDS = 0.1
LOOK_WHEN_WELL_EVERY_SECONDS = 0.5
RESTART_PAUSES_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
STEADY_AFTER_SECONDS = 30.0
"""A process that ran this long has earned a short pause again."""
STOP_WITHIN_SECONDS = 3.0
"""All state goes with the cluster, so a process that is slow to say goodbye loses nothing by being ended."""


@dataclass(kw_only=True)
class Running:
    """What is known about one process."""

    name: str
    pid: int
    birth: int
    """Kernel start time of the pid: together they name one process for ever, the pid alone does not."""
    since: float
    """Unix time of the last start."""
    restarts: int
    log: str
    health_kind: HealthKind
    health_target: str

    @property
    def is_alive(self) -> bool:
        """False too for one that ended before its birth could be read: nothing is equal to nothing otherwise."""
        return self.birth > 0 and process_birth(self.pid) == self.birth


def read(path: Path) -> list[Running]:
    """What the supervisor last wrote; empty when there was none."""
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        return []
    return [Running(**{**one, "health_kind": HealthKind(one["health_kind"])}) for one in raw]


def process_birth(pid: int) -> int:
    """Start time of a process in clock ticks since boot; 0 when there is no such process or it is a zombie.

    Source: proc(5), /proc/pid/stat, fields 3 (state) and 22 (starttime).
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])


def start_detached(shape: Shape) -> None:
    """Start the cluster's supervisor; returns at once, the processes come up behind."""
    shape.logs.mkdir(parents=True, exist_ok=True)
    with (shape.logs / "supervisor.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "renderfleet_cluster", "supervise", str(shape.shape_file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        )


def stop_running(processes: list[Running], within_seconds: float = STOP_WITHIN_SECONDS) -> None:
    """End processes, later ones first: politely, then for good."""
    for one in reversed(processes):
        _signal(one, signal.SIGTERM)
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline and any(one.is_alive for one in processes):
        time.sleep(0.05)
    for one in processes:
        _signal(one, signal.SIGKILL)


def _signal(one: Running, number: signal.Signals) -> None:
    if one.is_alive:
        with suppress(ProcessLookupError):
            os.kill(one.pid, number)


class Supervisor:
    """Runs until it is told to stop."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._processes = shapes.processes(shape)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._known: dict[str, Running] = {}
        self._start_not_before: dict[str, float] = {}
        self._was_healthy: set[str] = set()
        self._started = time.time()
        self._stopping = False

    def run(self) -> None:
        """Start everything and watch over it; returns after SIGTERM or SIGINT, with all processes ended."""
        signal.signal(signal.SIGTERM, self._ask_to_stop)
        signal.signal(signal.SIGINT, self._ask_to_stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._write()
        while not self._stopping:
            for process in self._processes:
                self._look_after(process)
            all_well = len(self._was_healthy) == len(self._processes)
            time.sleep(LOOK_WHEN_WELL_EVERY_SECONDS if all_well else LOOK_EVERY_SECONDS)
        self._say("stopping")
        stop_running([self._known[process.name] for process in self._processes if process.name in self._known])
        for child in self._children.values():
            child.wait()
        self._say("stopped")

    def _ask_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _look_after(self, process: Process) -> None:
        child = self._children.get(process.name)
        if child is None:
            if time.monotonic() >= self._start_not_before.get(process.name, 0) and self._may_start(process):
                self._start(process)
        elif (code := child.poll()) is not None:
            self._plan_restart(process, code)
        elif process.name not in self._was_healthy and is_healthy(process, timeout_seconds=0.5):
            self._was_healthy.add(process.name)
            self._say(f"{process.name} is healthy after {time.time() - self._known[process.name].since:.1f} s")

    def _may_start(self, process: Process) -> bool:
        """What it needs was healthy once: a later hiccup of the API server is for its clients to bear."""
        return all(name in self._was_healthy for name in process.after)

    def _start(self, process: Process) -> None:
        log_path = self._shape.logs / f"{process.name}.log"
        path = ":".join(filter(None, (process.path_first, os.environ.get("PATH", ""), PROGRAM_PATH)))
        with log_path.open("ab") as log:
            child = subprocess.Popen(
                process.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self._shape.state,
                env={**os.environ, "PATH": path},
            )
        earlier = self._known.get(process.name)
        self._children[process.name] = child
        self._known[process.name] = Running(
            name=process.name,
            pid=child.pid,
            birth=process_birth(child.pid),
            since=time.time(),
            restarts=earlier.restarts + 1 if earlier else 0,
            log=str(log_path),
            health_kind=process.health_kind,
            health_target=process.health_target,
        )
        self._write()
        self._say(f"{process.name} started, pid {child.pid}")

    def _plan_restart(self, process: Process, code: int) -> None:
        known = self._known[process.name]
        ran_seconds = time.time() - known.since
        if ran_seconds > STEADY_AFTER_SECONDS:
            known.restarts = 0
        pause = RESTART_PAUSES_SECONDS[min(known.restarts, len(RESTART_PAUSES_SECONDS) - 1)]
        self._say(
            f"{process.name} ended with {code} after {ran_seconds:.1f} s, next start in {pause} s, see {known.log}"
        )
        del self._children[process.name]
        self._was_healthy.discard(process.name)
        self._start_not_before[process.name] = time.monotonic() + pause

    def _write(self) -> None:
        spare = self._shape.processes_file.with_suffix(".new")
        own = Running(
            name="supervisor",
            pid=os.getpid(),
            birth=process_birth(os.getpid()),
            since=self._started,
            restarts=0,
            log=str(self._shape.logs / "supervisor.log"),
            health_kind=HealthKind.SOCKET,
            health_target="",
        )
        spare.write_text(json.dumps([asdict(one) for one in (own, *self._known.values())], indent=2))
        spare.replace(self._shape.processes_file)

    def _say(self, text: str) -> None:
        print(time.strftime("%H:%M:%S"), text, flush=True)
