"""Which cluster is meant, and what the kind-shaped front answers without one."""

import socket
from pathlib import Path

import pytest

from renderfleet_cluster import existing, kind, kind_front, local, providers
from renderfleet_cluster.say import Trouble
from renderfleet_cluster.shape import Options, Shape


@pytest.fixture(autouse=True)
def machine_without_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RENDERFLEET_STATE", str(tmp_path))
    monkeypatch.delenv("RENDERFLEET_CLUSTER_PROVIDER", raising=False)
    return tmp_path


def engine(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    monkeypatch.setattr(providers, "answering_engine", lambda: name)


@pytest.mark.parametrize(
    ("wanted", "answers", "expected"),
    [
        ("auto", None, providers.LocalProvider),
        ("auto", "docker", kind.KindProvider),
        ("local", "docker", providers.LocalProvider),
        ("kind", "podman", kind.KindProvider),
        ("existing", None, existing.ExistingProvider),
    ],
)
def test_choice(wanted: str, answers: str | None, expected: type, monkeypatch: pytest.MonkeyPatch) -> None:
    engine(monkeypatch, answers)

    assert type(providers.choose(wanted, "one")) is expected


def test_a_running_local_cluster_is_not_forgotten_when_an_engine_appears(
    machine_without_clusters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine(monkeypatch, "docker")
    made = Shape(name="one", ordinal=1, state=machine_without_clusters / "one", options=Options())
    made.state.mkdir()
    made.shape_file.write_text(made.to_json())

    assert type(providers.choose("auto", "one")) is providers.LocalProvider
    assert type(providers.choose("auto", "two")) is kind.KindProvider


def test_kind_without_an_engine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    engine(monkeypatch, None)

    with pytest.raises(Trouble, match="no container engine answers"):
        providers.choose("kind", "one")


def test_an_engine_that_is_only_a_client_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "podman").write_text("#!/bin/sh\nexit 0\n")
    for program in ("docker", "podman"):
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert providers.answering_engine() == "podman"


def test_kubeconfig_of_no_cluster_names_the_cure() -> None:
    with pytest.raises(Trouble, match="start it with: python -m renderfleet_cluster up"):
        providers.LocalProvider("one").kubeconfig()


def test_front_lists_no_cluster(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    engine(monkeypatch, None)

    assert kind_front.main(["get", "clusters"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "command",
    [["get", "nodes"], ["load", "docker-image", "--name", "one", "x:1"], ["export", "kubeconfig", "--name", "one"], []],
)
def test_front_refuses(command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    engine(monkeypatch, None)

    assert kind_front.main(command) == 1
    assert capsys.readouterr().err.startswith("ERROR: ")


def test_holder_of_a_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert "python" in local.holder_of(port) or "pytest" in local.holder_of(port)
    assert local.holder_of(port) == ""


@pytest.mark.parametrize("name", ["", "../elsewhere", "Upper", "-x", "x" * 41])
def test_names_that_are_no_folder_or_no_node(name: str) -> None:
    with pytest.raises(Trouble, match="is no name for a cluster"):
        local.up(name, Options())


def test_down_of_no_cluster_takes_only_what_is_empty(machine_without_clusters: Path) -> None:
    for name, content in (("kinds", "apiVersion: v1"), ("empty", "")):
        (machine_without_clusters / name).mkdir()
        (machine_without_clusters / name / "kubeconfig").write_text(content)
        local.down(name)

    assert [path.name for path in machine_without_clusters.iterdir()] == ["kinds"]
    (machine_without_clusters / "kinds" / "kubeconfig").unlink()
    local.down("kinds")
    assert not machine_without_clusters.exists()


def test_table_is_aligned() -> None:
    assert local.table([("A", "BB"), ("long", "x")]) == "A     BB\nlong  x"
