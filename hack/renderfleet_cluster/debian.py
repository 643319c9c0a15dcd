"""Debian packages this tool needs: asked for by the program they bring, installed only when that program is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from renderfleet_cluster.say import Trouble, step

PROGRAM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CLUSTER_PACKAGES: Mapping[str, str] = {
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "openssl": "openssl",
    "mount": "mount",
}
"""Program -> the package that brings it, for a cluster with pods."""

MEDIA_PACKAGES: Mapping[str, str] = {
    "ffmpeg": "ffmpeg",
    "espeak-ng": "espeak-ng",
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf": "fonts-dejavu-core",
}
"""What runners and the stand-in need where they run outside of their images."""

POSTGRES_PACKAGES: Mapping[str, str] = {"/usr/lib/postgresql/15/bin/initdb": "postgresql-15"}

CONTROL_PLANE_PACKAGES: Mapping[str, str] = {"ip": "iproute2", "openssl": "openssl"}

IMAGE_PACKAGES: Mapping[str, str] = {
    "mmdebstrap": "mmdebstrap",
    "buildah": "buildah",
    "/etc/containers/policy.json": "golang-github-containers-common",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}


def missing(wanted: Mapping[str, str]) -> list[str]:
    """Packages whose program is not on this machine, in the order given."""
    return [package for program, package in wanted.items() if not _is_there(program)]


def install(wanted: Mapping[str, str]) -> None:
    """Install what `wanted` names and the machine lacks; does nothing when all is there.

    Raises Trouble when the machine has no apt or we are not root: guessing at another package manager would be worse.
    """
    packages = missing(wanted)
    if not packages:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Trouble(
            f"missing on this machine: {', '.join(packages)}",
            "run this as root on Debian, or install these packages by hand and start again",
        )
    with step(f"apt: installing {', '.join(packages)}", usual_seconds=30):
        _apt(["update"])
        _apt(["install", "--yes", "--no-install-recommends", *packages])


def _is_there(program: str) -> bool:
    if program.startswith("/"):
        return Path(program).exists()
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{PROGRAM_PATH}") is not None


def _apt(arguments: Iterable[str]) -> None:
    command = ["apt-get", "-q", *arguments]
    result = subprocess.run(
        command, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise Trouble(
            f"{' '.join(command)} failed: {result.stderr.strip()[-800:]}", "see whether the Debian mirror answers"
        )
