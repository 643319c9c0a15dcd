"""The program as a user starts it, against a REST API that really listens."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.command_line import CommandLine

from . import api_server
from .api_server import TENANT_KEY, Api


@pytest.fixture
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No fleet is configured."""
    for name in ("RENDERFLEET_URL", "RENDERFLEET_KEY", "RENDERFLEET_PROFILE", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RENDERFLEET_CONFIG", str(tmp_path / "profiles.json"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    return tmp_path


@pytest.fixture
def run(own_config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Runs command lines; where they lead is for the test to say."""
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def api(own_config: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A REST API, and the environment that leads to it with a tenant's key."""
    with api_server.running() as server:
        monkeypatch.setenv("RENDERFLEET_URL", server.url)
        monkeypatch.setenv("RENDERFLEET_KEY", TENANT_KEY)
        yield server
