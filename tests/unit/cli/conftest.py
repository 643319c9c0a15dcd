"""The program as a user starts it, against a REST API that really listens."""

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from renderfleet_cli import __main__ as program

from . import api_server
from .api_server import TENANT_KEY, Api


@dataclass(frozen=True)
class Ran:
    """How a command went."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No fleet is configured."""
    for name in ("RENDERFLEET_URL", "RENDERFLEET_KEY", "RENDERFLEET_PROFILE", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RENDERFLEET_CONFIG", str(tmp_path / "profiles.json"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    return tmp_path


@pytest.fixture
def run(own_config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one command line to its end."""

    def start(*words: str, stdin: str | None = None, called: str = "renderfleet") -> Ran:
        monkeypatch.setattr(sys, "argv", [called, *words])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin or ""))
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            program.main()
        out, err = capsys.readouterr()
        code = left.value.code
        return Ran(code if isinstance(code, int) else 0 if code is None else 1, out, err)

    return start


@pytest.fixture
def api(own_config: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A REST API, and the environment that leads to it with a tenant's key."""
    with api_server.running() as server:
        monkeypatch.setenv("RENDERFLEET_URL", server.url)
        monkeypatch.setenv("RENDERFLEET_KEY", TENANT_KEY)
        yield server
