"""Which way is taken: one test for each row of the table in door.py."""

from pathlib import Path

import pytest

from renderfleet_cli import profiles
from renderfleet_cli.door import Target, choose
from renderfleet_cli.errors import Misused


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RENDERFLEET_URL", "RENDERFLEET_KEY", "RENDERFLEET_PROFILE", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RENDERFLEET_CONFIG", str(tmp_path / "profiles.json"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))


@pytest.fixture
def rest(monkeypatch: pytest.MonkeyPatch) -> None:
    profiles.save("default", profiles.Profile("https://renders.test", "rf_k"))


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text("{}")
    monkeypatch.setenv("KUBECONFIG", str(file))


@pytest.mark.usefixtures("rest", "kubeconfig")
@pytest.mark.parametrize(
    ("target", "way"),
    [
        (Target(), "rest"),
        (Target(via="cluster"), "cluster"),
        (Target(via="rest", namespace="rf-acme"), "rest"),
        (Target(namespace="rf-acme"), "cluster"),
        (Target(context="production"), "cluster"),
        (Target(kubeconfig="/etc/kubeconfig"), "cluster"),
    ],
)
def test_with_both_configured(target: Target, way: str) -> None:
    assert choose(target) == way


@pytest.mark.usefixtures("kubeconfig")
def test_with_a_kubeconfig_alone() -> None:
    assert choose(Target()) == "cluster"


def test_inside_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")

    assert choose(Target()) == "cluster"


def test_with_nothing() -> None:
    with pytest.raises(Misused) as said:
        choose(Target())

    assert "renderfleet login" in said.value.cure and "KUBECONFIG" in said.value.cure
