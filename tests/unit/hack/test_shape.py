"""What a local cluster looks like, before anything of it exists."""

import json
import tomllib
from pathlib import Path

import pytest

from renderfleet_cluster import shape as shapes
from renderfleet_cluster.shape import ControllerFlags, Options, Shape


def shape(**options: object) -> Shape:
    return Shape(name="one", ordinal=7, state=Path("/state/one"), options=Options(**options))  # type: ignore[arg-type]


def command_of(made: Shape, name: str) -> list[str]:
    return next(process.command for process in shapes.processes(made) if process.name == name)


def test_survives_its_file() -> None:
    made = shape(control_plane_only=True, controller_flags=ControllerFlags.DEFAULT, audit_log="/tmp/audit")

    assert Shape.from_json(made.to_json()) == made


def test_two_clusters_share_no_address() -> None:
    one, other = shape(), Shape(name="two", ordinal=8, state=Path("/state/two"), options=Options())

    assert {one.address, one.private_address}.isdisjoint({other.address, other.private_address})
    for process in shapes.processes(one):
        assert not any(
            f"{address}:" in argument for argument in process.command for address in (other.address, "0.0.0.0")
        )


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        pytest.param([], 1, id="the first"),
        pytest.param([1, 2], 3, id="the next"),
        pytest.param([2, 3], 1, id="one that was given back"),
    ],
)
def test_free_ordinal(taken: list[int], expected: int) -> None:
    assert shapes.free_ordinal(taken) == expected


def test_control_plane_alone_has_no_node_programs() -> None:
    names = [process.name for process in shapes.processes(shape(control_plane_only=True))]

    assert names == ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]


def test_every_process_waits_only_for_earlier_ones() -> None:
    started: set[str] = set()
    for process in shapes.processes(shape()):
        assert set(process.after) <= started
        started.add(process.name)


@pytest.mark.parametrize("name", ["kube-controller-manager", "kube-scheduler"])
def test_controller_flags(name: str) -> None:
    tuned = command_of(shape(), name)
    untouched = command_of(shape(controller_flags=ControllerFlags.DEFAULT), name)

    assert "--kube-api-qps=1000" in tuned
    assert not any(argument.startswith(("--kube-api-qps", "--concurrent")) for argument in untouched)


def test_audit_log_only_when_asked() -> None:
    assert "--audit-log-path=/tmp/a" in command_of(shape(audit_log="/tmp/a"), "kube-apiserver")
    assert not any("audit" in argument for argument in command_of(shape(), "kube-apiserver"))


def test_taints_only_when_asked() -> None:
    def taints(made: Shape) -> list[dict[str, str]]:
        files = shapes.config_files(made, has_upstream_dns=True)
        found: list[dict[str, str]] = json.loads(files["kubelet.json"])["registerWithTaints"]
        return found

    assert taints(shape()) == []
    assert [taint["key"] for taint in taints(shape(taint_pools=True))] == ["renderfleet.dev/pool"]


def test_containerd_settings_are_toml_and_name_the_pause_image() -> None:
    settings = tomllib.loads(shapes.config_files(shape(), has_upstream_dns=True)["containerd.toml"])

    assert settings["version"] == 3
    assert settings["plugins"]["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"] == shapes.PAUSE_IMAGE


@pytest.mark.parametrize(("has_upstream_dns", "forwards"), [(True, 2), (False, 0)])
def test_dns_asks_further_only_where_there_is_somebody_to_ask(has_upstream_dns: bool, forwards: int) -> None:
    corefile = shapes.config_files(shape(), has_upstream_dns=has_upstream_dns)["Corefile"]

    assert corefile.count("forward . ") == forwards
    assert corefile.count("{") == corefile.count("}")


def test_dns_is_bound_to_the_clusters_address_alone() -> None:
    corefile = shapes.config_files(shape(), has_upstream_dns=True)["Corefile"]

    assert corefile.count("bind 10.254.0.7") == 2
