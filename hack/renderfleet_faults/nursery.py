"""Programs that start at once. `python -m renderfleet_faults.nursery PROGRAM MODULE …` loads modules, then forks for each start.

Loading costs more CPU than all else that a start does and is the same each time, so a program that is started hundreds of
times loads once. All else happens in the child: its own session, environment, log, and `python -m PROGRAM` from the beginning.

stdin    one JSON object a line: {"name", "folder", "log", "environment"}: start one
stdout   {"pid"} for each start, in order; {"ended", "code"} when one has ended, as a shell counts: negative for a signal
"""

import asyncio
import ctypes
import importlib
import json
import os
import runpy
import selectors
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from renderfleet_faults.backends import Process, plain_environment

VENDOR_MODULES = ("openai.resources.images", "openai.resources.responses", "PIL.Image")
"""What our programs load late, when they talk to a vendor."""
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


# The harness's side


@dataclass
class Nursling:
    """A started program, as asyncio's own subprocesses are handled."""

    pid: int
    returncode: int | None = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    def terminate(self) -> None:
        """SIGTERM."""
        if self.returncode is None:
            os.kill(self.pid, signal.SIGTERM)

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def end(self, code: int) -> None:
        """It has ended."""
        self.returncode = code
        self._ended.set()


class Nursery:
    """See the module."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child
        self._awaited: deque[asyncio.Future[int]] = deque()
        self._living: dict[int, Nursling] = {}

    async def start(self, name: str, folder: Path, environment: Mapping[str, str]) -> Process:
        """Start the program in `folder`; its output goes behind what is in `<name>.log` there."""
        assert self._child.stdin is not None
        log = folder / f"{name}.log"
        log.touch()
        order = {"name": name, "folder": str(folder), "log": str(log), "environment": dict(environment)}
        born: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._awaited.append(born)
        self._child.stdin.write(json.dumps(order).encode() + b"\n")
        return Process(name, self._living[await born], log)

    async def listen(self) -> None:
        """Hear of births and deaths, until the nursery ends: then nothing more can be started."""
        assert self._child.stdout is not None
        async for line in self._child.stdout:
            told = json.loads(line)
            if "pid" in told:
                self._living[told["pid"]] = Nursling(told["pid"])
                self._awaited.popleft().set_result(told["pid"])
            else:
                self._living.pop(told["ended"]).end(told["code"])
        for born in self._awaited:
            born.set_exception(RuntimeError("the nursery has ended; see its log"))


@asynccontextmanager
async def nursery(program: str, folder: Path, *modules: str) -> AsyncIterator[Nursery]:
    """A nursery of one program, with its modules; it and all that it started end with the block, or with us."""
    with (folder / f"nursery-{program}.log").open("ab") as errors:
        child = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "renderfleet_faults.nursery"),
            *(program, *modules),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=plain_environment(),
            start_new_session=True,
        )
    made = Nursery(child)
    listening = asyncio.create_task(made.listen())
    try:
        yield made
    finally:
        listening.cancel()
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


# The nursery itself


def main() -> int:
    """Fork for each order, until there are no more."""
    program, *modules = sys.argv[1:]
    for module in modules:
        importlib.import_module(module)
    wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ears = selectors.DefaultSelector()
    ears.register(sys.stdin.fileno(), selectors.EVENT_READ)
    ears.register(wake, selectors.EVENT_READ)
    rest = b""
    while True:
        for key, _ in ears.select():
            if key.fd == wake:
                os.read(wake, 4096)
                continue
            heard = os.read(key.fd, 1 << 20)
            if not heard:
                return 0
            *orders, rest = (rest + heard).split(b"\n")
            for order in orders:
                _say(pid=_bear(program, json.loads(order)))
        _bury()


def _say(**told: int) -> None:
    os.write(1, json.dumps(told).encode() + b"\n")


def _bury() -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            _say(ended=pid, code=os.waitstatus_to_exitcode(status))


def _bear(program: str, order: Mapping[str, Any]) -> int:
    """Fork; the child becomes the program."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _settle(order)
        runpy.run_module(program, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Not sys.exit: what the nursery has registered for its own end is none of the child's business.
        os._exit(code)


def _settle(order: Mapping[str, Any]) -> None:
    """As a program finds itself that has just been started."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = [order["name"]]
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, target)


if __name__ == "__main__":
    sys.exit(main())
