"""The command line as a user starts it, within the test's own process."""

import io
import sys
import threading
from dataclasses import dataclass
from typing import TextIO

import pytest

from renderfleet_cli import __main__ as program


@dataclass(frozen=True)
class Ran:
    """How a command went."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """stdout without the line breaks that only fit it to the screen."""
        return " ".join(self.out.split())


class _Heard(io.TextIOBase):
    """Passes text on, and lets others know that there was some."""

    def __init__(self, to: TextIO, heard: threading.Event) -> None:
        self.to = to
        self._heard = heard

    def write(self, text: str) -> int:
        written = self.to.write(text)
        self._heard.set()
        return written

    def flush(self) -> None:
        self.to.flush()


class CommandLine:
    """Runs one command after the other, each to its end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.has_spoken = threading.Event()
        """Set once the command that runs has written anything to stdout."""

    def __call__(self, *words: str, stdin: str = "", called: str = "renderfleet") -> Ran:
        self._monkeypatch.setattr(sys, "argv", [called, *words])
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        self._capsys.readouterr()
        self.has_spoken.clear()
        # Only while it runs: the pipes of one command are not the next one's.
        with self._monkeypatch.context() as patched, pytest.raises(SystemExit) as left:
            patched.setattr(sys, "stdout", _Heard(sys.stdout, self.has_spoken))
            program.main()
        out, err = self._capsys.readouterr()
        code = left.value.code
        return Ran(code if isinstance(code, int) else 0 if code is None else 1, out, err)
