"""How this tool talks: one line per step with the time so far, a sign of life in long steps, a cure in each error."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGN_OF_LIFE_SECONDS = 15.0

_started = time.monotonic()


class Trouble(Exception):
    """Something the person at the keyboard can put right; the text says how. Printed without a traceback."""

    def __init__(self, what: str, cure: str) -> None:
        super().__init__(f"{what}\n  -> {cure}")
        self.what = what
        self.cure = cure


def line(text: str) -> None:
    """Print one line, with seconds since the start, to standard error: standard output is for answers."""
    print(f"[{time.monotonic() - _started:6.1f} s] {text}", file=sys.stderr, flush=True)


@contextmanager
def step(what: str, usual_seconds: float = 0, detail: Callable[[], str] | None = None) -> Iterator[None]:
    """Announce a step and, while it lasts, how long it has taken and usually takes.

    `detail` adds what only the step itself knows, for example how many packages are compiled.
    """
    usually = f" (usually {usual_seconds:.0f} s)" if usual_seconds >= SIGN_OF_LIFE_SECONDS else ""
    line(f"{what}{usually}")
    begin = time.monotonic()
    done = threading.Event()

    def sign_of_life() -> None:
        while not done.wait(SIGN_OF_LIFE_SECONDS):
            more = f", {detail()}" if detail else ""
            line(f"  … {what}: {time.monotonic() - begin:.0f} s{usually}{more}")

    watcher = threading.Thread(target=sign_of_life, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    took = time.monotonic() - begin
    if took >= SIGN_OF_LIFE_SECONDS:
        line(f"  done: {what} in {took:.0f} s")
