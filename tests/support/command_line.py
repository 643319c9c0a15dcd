"""The command line as a user starts it, within the test's own process."""

import io
import sys
from dataclasses import dataclass

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


class CommandLine:
    """Runs one command after the other, each to its end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *words: str, stdin: str = "", called: str = "renderfleet") -> Ran:
        self._monkeypatch.setattr(sys, "argv", [called, *words])
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            program.main()
        out, err = self._capsys.readouterr()
        code = left.value.code
        return Ran(code if isinstance(code, int) else 0 if code is None else 1, out, err)
