"""A `kind` for pytest-kind: the few commands it uses, on real kind where an engine answers, else on the local cluster.

command                                     on the local cluster
get clusters                                names of those that run, with nodes
create cluster --name N --kubeconfig F      `up`, then the kubeconfig copied to F
load docker-image --name N IMAGE…           build what changed and import it
delete cluster --name N                     `down`
get kubeconfig --name N                     print it
export kubeconfig --name N --kubeconfig F   copy it to F
version                                     what the cluster would run
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from renderfleet_cluster import images, local, programs, providers
from renderfleet_cluster.imagefiles import REPOSITORY_PREFIX
from renderfleet_cluster.say import Trouble
from renderfleet_cluster.shape import Options, Shape

KIND_DEFAULT_NAME = "kind"
PYTEST_KIND_FOLDER = Path(".pytest-kind")


def main(arguments: Sequence[str]) -> int:
    """Answer one kind command; returns its exit code."""
    try:
        if _means_real_kind():
            _become_kind(arguments)
        _answer(arguments)
    except Trouble as trouble:
        print(f"ERROR: {trouble}", file=sys.stderr)
        return 1
    return 0


def _means_real_kind() -> bool:
    wanted = providers.default_name()
    if wanted == "existing":
        raise Trouble(
            "kind makes and removes clusters, an existing one is only used", "call pytest with its --kubeconfig"
        )
    local_one_is_there = any(not shape.options.control_plane_only for shape in local.all_shapes())
    if wanted == "local" or (wanted == "auto" and local_one_is_there):
        return False
    return wanted == "kind" or providers.answering_engine() is not None


def _become_kind(arguments: Sequence[str]) -> None:
    programs.ensure([programs.KIND, programs.KUBECTL])
    if engine := providers.answering_engine():
        os.environ["KIND_EXPERIMENTAL_PROVIDER"] = engine
    binary = str(programs.KIND.path("kind"))
    os.execv(binary, [binary, *arguments])


def _answer(arguments: Sequence[str]) -> None:
    words = [word for word in arguments if not word.startswith("-")][:2]
    command = " ".join(words if words[:1] != ["version"] else words[:1])
    if command not in COMMANDS:
        raise Trouble(
            f"kind {' '.join(arguments)} is not among what this front knows", f"it knows: {', '.join(COMMANDS)}"
        )
    parser = argparse.ArgumentParser(prog=f"kind {command}", description=COMMANDS[command].__doc__)
    parser.add_argument("--name", "-n", default=os.environ.get("KIND_CLUSTER_NAME", KIND_DEFAULT_NAME))
    parser.add_argument("--kubeconfig", type=Path, help="where to write access to the cluster")
    for ignored in ("--image", "--config", "--wait"):
        parser.add_argument(ignored, help="accepted and ignored: version and node are as this project has them")
    if command == "load docker-image":
        parser.add_argument("images", nargs="+")
    COMMANDS[command](parser.parse_args(arguments[len(command.split()) :]))


def _get_clusters(_chosen: argparse.Namespace) -> None:
    """Names of the running clusters."""
    for shape in local.all_shapes():
        if local.is_running(shape) and not shape.options.control_plane_only:
            _refresh_pytest_kind(shape)
            print(shape.name)


def _create_cluster(chosen: argparse.Namespace) -> None:
    """Start the cluster, or find it running."""
    shape = local.up(chosen.name, Options())
    if chosen.kubeconfig:
        _copy_access(shape, chosen.kubeconfig)


def _load(chosen: argparse.Namespace) -> None:
    """Put images of this project into the cluster."""
    shape = _known(chosen.name)
    wanted = [
        name.removeprefix("docker.io/").removeprefix(f"{REPOSITORY_PREFIX}/").partition(":")[0]
        for name in chosen.images
    ]
    images.import_into_containerd(shape, images.build(images.checked_names(wanted)))


def _delete_cluster(chosen: argparse.Namespace) -> None:
    """Take the cluster down."""
    local.down(chosen.name)


def _get_kubeconfig(chosen: argparse.Namespace) -> None:
    """Print access to the cluster."""
    print(_known(chosen.name).kubeconfig.read_text())


def _export_kubeconfig(chosen: argparse.Namespace) -> None:
    """Write access to the cluster to a file."""
    _copy_access(_known(chosen.name), chosen.kubeconfig or Path.home() / ".kube" / "config")


def _version(_chosen: argparse.Namespace) -> None:
    """Say what this is."""
    print(f"kind-shaped front of renderfleet_cluster, Kubernetes v{programs.KUBERNETES.version}")


def _known(name: str) -> Shape:
    shape = local.shape_of(name)
    if shape is None:
        raise Trouble(f'no nodes found for cluster "{name}"', f"kind create cluster --name {name}")
    return shape


def _copy_access(shape: Shape, target: Path) -> None:
    if target.resolve() != shape.kubeconfig.resolve():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(shape.kubeconfig, target)


def _refresh_pytest_kind(shape: Shape) -> None:
    """Before it reuses a cluster, pytest-kind makes an empty kubeconfig in a folder of its own and reads it as it is."""
    folder = PYTEST_KIND_FOLDER / shape.name
    if folder.is_dir():
        _copy_access(shape, folder / "kubeconfig")


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "get clusters": _get_clusters,
    "create cluster": _create_cluster,
    "load docker-image": _load,
    "delete cluster": _delete_cluster,
    "get kubeconfig": _get_kubeconfig,
    "export kubeconfig": _export_kubeconfig,
    "version": _version,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
