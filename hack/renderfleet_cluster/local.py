"""The local provider: a cluster of Kubernetes' own programs, run on this machine without a container engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from renderfleet_cluster import debian, network, pki, programs, supervisor
from renderfleet_cluster import shape as shapes
from renderfleet_cluster.apiclient import AdministratorApi
from renderfleet_cluster.health import accepts, is_healthy
from renderfleet_cluster.places import only_one, state_dir
from renderfleet_cluster.say import Trouble, line, step
from renderfleet_cluster.shape import SOCKET_PATH_LIMIT, Options, Shape

CGROUPS = Path("/sys/fs/cgroup")
POD_CGROUP = "kubepods"
START_WITHIN_SECONDS = 90.0
CONTAINERD_NAMESPACE = "k8s.io"
NAME_PATTERN = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
"""It becomes part of the node's name (a DNS label) and a folder."""


def shape_of(name: str) -> Shape | None:
    """The cluster of this name, running or crashed; None when there is none."""
    try:
        return Shape.from_json((state_dir() / name / "cluster.json").read_text())
    except FileNotFoundError:
        return None


def all_shapes() -> list[Shape]:
    """Every local cluster that has state on this machine."""
    found = [shape_of(file.parent.name) for file in sorted(state_dir().glob("*/cluster.json"))]
    return [shape for shape in found if shape]


def up(name: str, options: Options) -> Shape:
    """Start the cluster, or say that it runs already. Returns when its node is ready (or its API server, without node)."""
    if not NAME_PATTERN.fullmatch(name):
        raise Trouble(f"{name!r} is no name for a cluster", "use lower-case letters, digits and hyphens, 40 at most")
    with only_one(f"cluster-{name}"):
        return _up(name, options)


def down(name: str) -> None:
    """End the cluster and all it left on this machine; nothing to do is fine."""
    with only_one(f"cluster-{name}"):
        _down(name)


def _up(name: str, options: Options) -> Shape:
    known = shape_of(name)
    if known and is_running(known):
        if known.options != options:
            raise Trouble(
                f"cluster {name} runs with other options: {known.options}",
                f"take it down first: python -m renderfleet_cluster down --name {name}",
            )
        if unwell := [one.name for one in supervisor.read(known.processes_file)[1:] if not is_healthy(one)]:
            line(f"cluster {name} is running, waiting for {', '.join(unwell)}")
            _wait_until_usable(known)
        line(f"cluster {name} is running: {known.kubeconfig}")
        return known
    if known:
        line(f"cluster {name} was left half-way: cleaning up")
        _down(name)

    if os.geteuid() != 0:
        raise Trouble("the local cluster needs root: it makes network and process namespaces", "run this again as root")
    debian.install(debian.CONTROL_PLANE_PACKAGES if options.control_plane_only else debian.CLUSTER_PACKAGES)
    programs.ensure(programs.CONTROL_PLANE if options.control_plane_only else programs.CLUSTER)
    with only_one("choosing-addresses"):
        others = all_shapes()
        shape = Shape(
            name=name,
            ordinal=shapes.free_ordinal([other.ordinal for other in others]),
            state=state_dir() / name,
            options=options,
        )
        _refuse_conflicts(shape, others)
        shape.state.mkdir(parents=True, exist_ok=True)
        draft = shape.shape_file.with_suffix(".new")
        draft.write_text(shape.to_json())
        draft.replace(shape.shape_file)  # whole or not at all: others list the clusters at any time
    with step(f"starting cluster {name} on {shape.address}"):
        _write_files(shape)
        network.prepare(shape)
        _refuse_taken_ports(shape)
        supervisor.start_detached(shape)
        _wait_until_usable(shape)
    line(f"cluster {name} is ready: export KUBECONFIG={shape.kubeconfig}")
    return shape


def _down(name: str) -> None:
    shape = shape_of(name)
    if shape is None:
        line(f"no local cluster {name}")
        _remove_empty_access(state_dir() / name)
        _remove_if_empty(state_dir())
        return
    with step(f"taking cluster {name} down"):
        _stop_processes(shape)
        _end_pods(shape)
        _unmount_below(shape.state)
        network.undo(shape)
        shutil.rmtree(shape.state)
        if not shape.options.control_plane_only:
            _remove_kubelet_leftovers(shape)
        _remove_if_empty(state_dir())
    line(f"cluster {name} is gone")


def status(shape: Shape) -> tuple[str, bool]:
    """A table of the cluster's processes, and whether all are well."""
    running = supervisor.read(shape.processes_file)
    expected = ["supervisor", *(process.name for process in shapes.processes(shape))]
    by_name = {one.name: one for one in running}
    rows = [("PROCESS", "PID", "HEALTHY", "SINCE", "RESTARTS", "LOG")]
    all_well = True
    for name in expected:
        one = by_name.get(name)
        if one is None:
            rows.append((name, "-", "no", "not started", "-", "-"))
            all_well = False
            continue
        well = one.is_alive and (name == "supervisor" or is_healthy(one))
        all_well = all_well and well
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.since))
        rows.append((name, str(one.pid), "yes" if well else "no", since, str(one.restarts), one.log))
    return table(rows), all_well


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows as aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def ctr(shape: Shape, *arguments: str) -> str:
    """Run containerd's client in the cluster's namespace and return what it printed."""
    command = [str(programs.CONTAINERD.path("ctr")), "-a", str(shape.containerd_socket), "-n", CONTAINERD_NAMESPACE]
    result = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise Trouble(
            f"ctr {' '.join(arguments[:2])} failed: {result.stderr.strip()[-800:]}",
            f"see {shape.logs / 'containerd.log'}",
        )
    return result.stdout


# --- up ---------------------------------------------------------------------------------------------------------------


def is_running(shape: Shape) -> bool:
    """True while the cluster's supervisor lives, well or not."""
    running = supervisor.read(shape.processes_file)
    return bool(running) and running[0].is_alive


def _refuse_conflicts(shape: Shape, others: Iterable[Shape]) -> None:
    longest_socket = f"{shape.containerd_socket}.ttrpc"
    if len(longest_socket) > SOCKET_PATH_LIMIT:
        raise Trouble(
            f"{shape.state} is too long a path for sockets in it", "set RENDERFLEET_STATE to a shorter folder"
        )
    if shape.options.control_plane_only:
        return
    for other in others:
        if not other.options.control_plane_only:
            raise Trouble(
                f"cluster {other.name} already uses this machine as its node; there can be one with pods at a time",
                f"python -m renderfleet_cluster down --name {other.name}, or start this one with --control-plane-only",
            )
    if any(_processes_in(group) for group in _pod_cgroups()):
        raise Trouble(
            f"another kubelet runs pods on this machine (processes in {CGROUPS}/*/{POD_CGROUP})",
            "use that cluster: RENDERFLEET_CLUSTER_PROVIDER=existing and its KUBECONFIG",
        )
    shape.state.mkdir(parents=True, exist_ok=True)
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", shape.state], capture_output=True, text=True, check=True
    ).stdout.strip()
    if kind == "overlayfs":
        raise Trouble(
            f"{shape.state} lies on an overlay file system; containers need a plain one", "set RENDERFLEET_STATE"
        )


def _refuse_taken_ports(shape: Shape) -> None:
    wanted = [(shape.private_address, 2379), (shape.private_address, 2380), (shape.address, 6443)]
    wanted += [(shape.private_address, 10257), (shape.private_address, 10259)]
    if not shape.options.control_plane_only:
        wanted += [(shape.address, 53), (shape.address, 10250)]
        wanted += [(shape.private_address, port) for port in (8080, 8181, 10248, 10249, 10256)]
    for address, port in wanted:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                raise Trouble(
                    f"{address}:{port} cannot be used ({error.strerror}); {holder_of(port) or 'its holder is not visible'}",
                    "end that process, or make it listen on its own address instead of on all of them",
                ) from None


def holder_of(port: int) -> str:
    """Which process listens on a TCP port of any local address, for an error message; empty when none is found.

    Source: proc(5), /proc/net/tcp: local address in column 2, state 0A is LISTEN, inode in column 10.
    """
    inodes = set()
    for table_file in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(FileNotFoundError):
            for row in Path(table_file).read_text().splitlines()[1:]:
                columns = row.split()
                if columns[3] == "0A" and int(columns[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{columns[9]}]")
    if not inodes:
        return ""
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if str(descriptor.readlink()) in inodes:
                pid = descriptor.parts[2]
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                return f"process {pid} holds it: {command.strip()[:120]}"
    return ""


def _write_files(shape: Shape) -> None:
    for folder in (shape.state, shape.config, shape.logs):
        folder.mkdir(parents=True, exist_ok=True)
    shape.state.chmod(0o711)
    for name, content in shapes.config_files(shape, has_upstream_dns=_has_upstream_dns()).items():
        target = shape.config / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    pki.write(shape)


def _has_upstream_dns() -> bool:
    with suppress(FileNotFoundError):
        return "nameserver" in Path("/etc/resolv.conf").read_text()
    return False


def _wait_until_usable(shape: Shape) -> None:
    """All processes healthy, the cluster's own objects in place, the node ready."""
    deadline = time.monotonic() + START_WITHIN_SECONDS
    names = [process.name for process in shapes.processes(shape)]

    def unwell() -> list[str]:
        known = {one.name: one for one in supervisor.read(shape.processes_file)}
        return [name for name in names if name not in known or not is_healthy(known[name])]

    _wait_for(lambda: not unwell(), deadline, lambda: f"{', '.join(unwell())} did not become healthy", shape)
    api = AdministratorApi(shape)
    for collection, content in shapes.bootstrap_objects(shape):
        api.create(collection, content)
    if not shape.options.control_plane_only:
        _import_pause_image(shape)
        _wait_for(lambda: _node_is_ready(api, shape), deadline, lambda: "the node did not become ready", shape)
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    _wait_for(lambda: _exists(api, account), deadline, lambda: "no service account in the default namespace", shape)


def _wait_for(done: Callable[[], bool], deadline: float, complaint: Callable[[], str], shape: Shape) -> None:
    while not done():
        if time.monotonic() > deadline:
            raise Trouble(
                f"{complaint()} within {START_WITHIN_SECONDS:.0f} s",
                f"read the logs in {shape.logs}; `down` clears what is there",
            )
        time.sleep(0.1)


def _node_is_ready(api: AdministratorApi, shape: Shape) -> bool:
    try:
        node = api.get(f"/api/v1/nodes/{shape.node_name}")
    except urllib.error.URLError:
        return False
    conditions: list[dict[str, Any]] = node.get("status", {}).get("conditions", [])
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    # The node controller takes this taint away a moment after Ready; pods wait for that.
    taints: list[dict[str, Any]] = node["spec"].get("taints", [])
    return ready and not any(taint["key"].startswith("node.kubernetes.io/") for taint in taints)


def _exists(api: AdministratorApi, path: str) -> bool:
    try:
        api.get(path)
    except urllib.error.URLError:
        return False
    return True


def _import_pause_image(shape: Shape) -> None:
    from renderfleet_cluster import archive

    if shapes.PAUSE_IMAGE in ctr(shape, "images", "ls", "-q").split():
        return
    target = shape.state / "pause.tar"
    archive.write_single_program(target, shapes.PAUSE_IMAGE, programs.PAUSE.path("pause"))
    ctr(shape, "images", "import", "--snapshotter", "overlayfs", str(target))
    target.unlink()


# --- down -------------------------------------------------------------------------------------------------------------


def _remove_empty_access(folder: Path) -> None:
    """pytest-kind leaves an empty kubeconfig in a folder of its own when no cluster came of it."""
    kubeconfig = folder / "kubeconfig"
    if kubeconfig.exists() and kubeconfig.stat().st_size == 0:
        kubeconfig.unlink()
    _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _stop_processes(shape: Shape) -> None:
    running = supervisor.read(shape.processes_file)
    supervisor.stop_running(running[:1], within_seconds=20)
    # What a killed supervisor left behind.
    supervisor.stop_running(supervisor.read(shape.processes_file)[1:])


def _end_pods(shape: Shape) -> None:
    """End every process of every pod. The kubelet is gone by now, so nobody starts them again."""
    if shape.options.control_plane_only:
        return
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        pids = [*_shims(shape), *(pid for group in _pod_cgroups() for pid in _processes_in(group))]
        if not pids:
            break
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    for group in _pod_cgroups():
        _remove_cgroup(group)


def _shims(shape: Shape) -> Iterator[int]:
    """Containerd's shims of this cluster: they carry its socket among their arguments."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            arguments = entry.read_bytes().split(b"\0")
            if arguments[0].endswith(b"containerd-shim-runc-v2") and str(shape.containerd_socket).encode() in arguments:
                yield int(entry.parts[2])


def _pod_cgroups() -> list[Path]:
    """The kubelet's part of every cgroup hierarchy (one with cgroup v2, one per controller with v1)."""
    return [group for group in (CGROUPS / POD_CGROUP, *CGROUPS.glob(f"*/{POD_CGROUP}")) if group.is_dir()]


def _processes_in(group: Path) -> list[int]:
    pids = []
    for file in group.rglob("cgroup.procs"):
        with suppress(OSError):
            pids += [int(text) for text in file.read_text().split()]
    return pids


def _remove_cgroup(group: Path) -> None:
    """Remove a cgroup with all below it, the deepest first; the kernel takes its own files away."""
    for folder in sorted((path for path in group.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts)):
        with suppress(OSError):
            folder.rmdir()
    with suppress(OSError):
        group.rmdir()


def _unmount_below(folder: Path) -> None:
    """Unmount everything under a folder. Source: proc(5), /proc/self/mountinfo, field 5, octal escapes for odd letters."""
    for _ in range(3):
        points = []
        for row in Path("/proc/self/mountinfo").read_text().splitlines():
            point = Path(row.split()[4].encode().decode("unicode_escape"))
            if point.is_relative_to(folder):
                points.append(point)
        if not points:
            return
        for point in sorted(points, key=lambda path: -len(path.parts)):
            subprocess.run(["umount", "--lazy", str(point)], capture_output=True, check=False)


def _remove_kubelet_leftovers(shape: Shape) -> None:
    """What kubelet, containerd and the CNI plugins write outside the cluster's folder, whatever they are told.

    Only dead links, sockets that nobody listens on, addresses of our pods and empty folders go: the machine may have a
    containerd of its own.
    """
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and not link.exists():
            link.unlink(missing_ok=True)
    shutil.rmtree("/var/lib/kubelet/device-plugins", ignore_errors=True)
    shutil.rmtree("/var/lib/kubelet/checkpoints", ignore_errors=True)
    for file in Path("/run/containerd/s").glob("*"):
        if file.is_socket() and not accepts(str(file), timeout_seconds=0.2):
            file.unlink(missing_ok=True)
    for file in Path("/var/lib/cni/results").glob("*"):
        if _is_address_of_our_pod(file, shape):
            file.unlink(missing_ok=True)
    for folder in (
        "/var/log/containers",
        "/var/log/pods",
        "/var/lib/kubelet",
        "/run/containerd/s",
        "/run/containerd/fifo",
        "/run/containerd",
        "/var/lib/cni/results",
        "/var/lib/cni",
    ):
        _remove_if_empty(Path(folder))


def _is_address_of_our_pod(file: Path, shape: Shape) -> bool:
    """A result that the CNI library keeps names the network namespace it is about; ours lie in the cluster's folder."""
    try:
        kept = json.loads(file.read_text())
    except (OSError, ValueError):
        return False
    return Path(str(kept.get("netns") or "/")).is_relative_to(shape.state)
