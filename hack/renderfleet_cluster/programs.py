"""Decide which programs a cluster is made of, in which version, and build them once per machine.

All come as source from Go modules: their own releases are downloads that not every network allows. Each built set
lies in `<cache>/bin/<name>-<version>/`, put there whole by one rename, so a half-built set is never used.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from renderfleet_cluster.places import GO_MODULES, cache_dir, only_one
from renderfleet_cluster.say import Trouble, line, step

MINIMAL_GO = (1, 26, 6)
COMPILER_OPTIONS = ("-trimpath", "-gcflags=all=-dwarf=false")
"""No debugging data: -s -w would throw it away at the end, making it costs a tenth of the time."""
COMPILER_MEMORY = {"GOGC": "400", "GOMEMLIMIT": "2GiB"}
"""Let each compiler collect garbage more rarely: a tenth of the time too, for some hundred MB."""


@dataclass(frozen=True, kw_only=True)
class ProgramSet:
    """Programs of one version."""

    name: str
    module: str
    """Folder under hack/cluster/go with the go.mod that pins them."""
    version: str
    binaries: dict[str, str]
    """Program name -> Go package."""
    usual_seconds: int
    """Cold build on two idle cores, after the sets before it in ALL; sources not yet fetched."""
    linker_variables: dict[str, str]

    @property
    def folder(self) -> Path:
        """Where the built programs lie."""
        return cache_dir() / "bin" / f"{self.name}-{self.version}"

    def path(self, binary: str) -> Path:
        """Path of one built program."""
        return self.folder / binary

    @property
    def is_built(self) -> bool:
        """True when nothing needs to be built."""
        return self.folder.is_dir()


def _kubernetes_version_variables(version: str) -> dict[str, str]:
    """Without these the programs say v0.0.0 and clients refuse to judge the version skew."""
    major, minor, _ = version.split(".")
    package = "k8s.io/component-base/version"
    return {
        f"{package}.gitVersion": f"v{version}",
        f"{package}.gitMajor": major,
        f"{package}.gitMinor": minor,
        f"{package}.gitTreeState": "clean",
    }


KUBERNETES = ProgramSet(
    name="kubernetes",
    module="cluster",
    version="1.37.2",
    binaries={
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
        )
    },
    usual_seconds=440,
    linker_variables=_kubernetes_version_variables("1.37.2"),
)
KUBECTL = ProgramSet(
    name="kubectl",
    module="cluster",
    version="1.37.2",
    binaries={"kubectl": "k8s.io/kubernetes/cmd/kubectl"},
    usual_seconds=15,
    linker_variables=_kubernetes_version_variables("1.37.2"),
)
"""Apart from the server programs: it is needed beside kind and existing clusters too."""
ETCD = ProgramSet(
    name="etcd",
    module="cluster",
    version="3.7.3",
    binaries={"etcd": "go.etcd.io/etcd/server/v3"},
    usual_seconds=30,
    linker_variables={},
)
CONTAINERD = ProgramSet(
    name="containerd",
    module="cluster",
    version="2.4.2",
    binaries={
        name: f"github.com/containerd/containerd/v2/cmd/{name}"
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
    usual_seconds=50,
    linker_variables={"github.com/containerd/containerd/v2/version.Version": "2.4.2"},
)
COREDNS = ProgramSet(
    name="coredns",
    module="cluster",
    version="1.15.0",
    binaries={"coredns": "renderfleet.dev/hack/cluster/coredns"},
    usual_seconds=25,
    linker_variables={},
)
PAUSE = ProgramSet(
    name="pause",
    module="cluster",
    version="1",
    binaries={"pause": "renderfleet.dev/hack/cluster/pause"},
    usual_seconds=2,
    linker_variables={},
)
HELM = ProgramSet(
    name="helm",
    module="cluster",
    version="4.3.1",
    binaries={"helm": "helm.sh/helm/v4/cmd/helm"},
    usual_seconds=45,
    linker_variables={"helm.sh/helm/v4/internal/version.version": "v4.3.1"},
)
VERSITYGW = ProgramSet(
    name="versitygw",
    module="s3",
    version="1.8.0",
    binaries={"versitygw": "github.com/versity/versitygw/cmd/versitygw"},
    usual_seconds=70,
    linker_variables={"main.Version": "1.8.0"},
)
KWOK = ProgramSet(
    name="kwok",
    module="cluster",
    version="0.8.0",
    binaries={"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
    usual_seconds=25,
    linker_variables={"sigs.k8s.io/kwok/pkg/consts.Version": "v0.8.0"},
)
KIND = ProgramSet(
    name="kind",
    module="cluster",
    version="0.33.0",
    binaries={"kind": "sigs.k8s.io/kind"},
    usual_seconds=10,
    linker_variables={},
)

ALL = (KUBERNETES, KUBECTL, ETCD, CONTAINERD, COREDNS, PAUSE, HELM, VERSITYGW, KWOK, KIND)
CONTROL_PLANE = (ETCD, KUBERNETES, KUBECTL)
CLUSTER = (PAUSE, ETCD, CONTAINERD, KUBERNETES, KUBECTL, COREDNS)


def ensure(sets: Iterable[ProgramSet]) -> None:
    """Build what is not built yet; quick and silent when all is there.

    Raises Trouble when Go is missing or too old, or when a build fails.
    """
    to_build = [programs for programs in sets if not programs.is_built]
    if not to_build:
        return
    _check_go()
    total = sum(programs.usual_seconds for programs in to_build)
    names = ", ".join(f"{programs.name} {programs.version}" for programs in to_build)
    line(f"to be built once on this machine: {names}; usually {total // 60} min {total % 60:02d} s on two idle cores")
    for programs in to_build:
        with only_one(f"building-{programs.name}"):
            if not programs.is_built:
                _build(programs)


def tools_dir() -> Path:
    """Folder with kubectl, helm and what Go test tools look for (KUBEBUILDER_ASSETS), as links to the built programs."""
    folder = cache_dir() / "bin" / "tools"
    folder.mkdir(parents=True, exist_ok=True)
    for programs in ALL:
        for binary in programs.binaries:
            link = folder / binary
            wanted = programs.path(binary)
            if wanted.exists() and (not link.is_symlink() or link.readlink() != wanted):
                spare = link.with_name(f".{binary}.{os.getpid()}")
                spare.symlink_to(wanted)
                spare.replace(link)
    return folder


def _check_go() -> None:
    go = shutil.which("go") or ("/usr/local/go/bin/go" if Path("/usr/local/go/bin/go").exists() else None)
    wanted = ".".join(map(str, MINIMAL_GO))
    if go is None:
        raise Trouble(
            "the go command is not on the PATH",
            f"install Go {wanted} or newer: the cluster's programs are compiled here",
        )
    said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout.strip()
    found = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", said)
    if found and tuple(int(part or 0) for part in found.groups()) < MINIMAL_GO:
        raise Trouble(f"{go} is {said}", f"install Go {wanted} or newer: Kubernetes {KUBERNETES.version} needs it")


def _build(programs: ProgramSet) -> None:
    target = programs.folder
    target.parent.mkdir(parents=True, exist_ok=True)
    module = GO_MODULES / programs.module
    variables = " ".join(f"-X {name}={value}" for name, value in programs.linker_variables.items())
    with tempfile.TemporaryDirectory(prefix=f".{programs.name}-", dir=target.parent) as scratch:
        output = Path(scratch) / "out"
        output.mkdir()
        log = Path(scratch) / "log"
        # -v makes the compiler name each package it finishes: the only measure of progress it has.
        command = ["go", "build", "-v", *COMPILER_OPTIONS, "-ldflags", f"-s -w {variables}".strip(), "-o", f"{output}/"]
        command += programs.binaries.values()
        environment = {**COMPILER_MEMORY, **os.environ, "CGO_ENABLED": "0"}

        def compiled() -> str:
            return f"{_count_lines(log)} packages compiled"

        with (
            step(f"building {programs.name} {programs.version}", programs.usual_seconds, compiled),
            log.open("wb") as sink,
        ):
            result = subprocess.run(
                command, cwd=module, env=environment, stdout=sink, stderr=subprocess.STDOUT, check=False
            )
        if result.returncode:
            tail = log.read_text(errors="replace")[-2000:]
            raise Trouble(
                f"building {programs.name} {programs.version} failed:\n{tail}",
                f"run `go build tool` in {module} to see it again; a failed download is worth a second try",
            )
        for name, package in programs.binaries.items():
            _rename_output(output, name, package)
        output.chmod(0o755)
        output.rename(target)


def _rename_output(output: Path, name: str, package: str) -> None:
    """Go names a program after its package's last element that is not a version: etcd comes out as "server"."""
    parts = [part for part in package.split("/") if not re.fullmatch(r"v\d+", part)]
    made = output / parts[-1]
    if made.name != name:
        made.rename(output / name)


def _count_lines(log: Path) -> int:
    try:
        return log.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0
