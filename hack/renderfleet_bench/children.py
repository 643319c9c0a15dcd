"""Run the programs of a measurement beside us, and end exactly those, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from renderfleet_bench.proc import Cost, cost_of
from renderfleet_cluster.say import Trouble

STOP_WITHIN_SECONDS = 20.0


class Child:
    """One running program, its output in a file."""

    def __init__(self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log = log
        self.started_at = time.monotonic()
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**_plain_environment(), **(env or {})},
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def cost(self) -> Cost:
        """What it uses so far. Raises Trouble when it has ended by itself."""
        self.check()
        return cost_of(self.pid)

    def check(self) -> None:
        """Raises Trouble, with the end of its log, when it has ended by itself."""
        code = self._process.poll()
        if code is not None:
            raise Trouble(f"{self.name} ended with {code}:\n{self.tail()}", f"its whole output is in {self.log}")

    def tail(self) -> str:
        """The last lines it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """End it, politely first; returns the seconds that took."""
        begin = time.monotonic()
        if self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(STOP_WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        return time.monotonic() - begin


def _plain_environment() -> dict[str, str]:
    """The caller's environment without its cluster and without its settings for a fleet: a measurement brings its own."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("RENDERFLEET_", "KUBE"))}
