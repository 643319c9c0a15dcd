"""Decide what an image is made of and therefore what its tag is. Pure but for reading files.

The container file is the only list: what it copies from the repository goes into the content hash, so the tag changes
exactly when the image would, and an unchanged image is neither built nor imported again.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from renderfleet_cluster.places import REPOSITORY

REPOSITORY_PREFIX = "renderfleet"
ALIAS_TAG = "dev"
HASH_LENGTH = 12


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One image: its name and its container file."""

    name: str
    container_file: str
    """Path in the repository."""
    programs: tuple[str, ...] = ()
    """Sets of programs.py that the container file copies from the build context "programs"."""
    usual_seconds: int
    """Cold build on two idle cores."""


RECIPES = (
    Recipe(name="operator", container_file="operator/images/operator.Containerfile", usual_seconds=40),
    Recipe(name="api", container_file="api/images/api.Containerfile", usual_seconds=40),
    Recipe(name="runner", container_file="runners/images/runner.Containerfile", usual_seconds=70),
    Recipe(name="standin", container_file="hack/images/standin.Containerfile", usual_seconds=50),
    Recipe(name="postgres", container_file="hack/images/postgres.Containerfile", usual_seconds=40),
    Recipe(name="s3", container_file="hack/images/s3.Containerfile", programs=("versitygw",), usual_seconds=10),
)


def repository_of(name: str) -> str:
    """Image name without tag."""
    return f"{REPOSITORY_PREFIX}/{name}"


def copied_paths(container_file: str) -> list[str]:
    """What a container file copies from the repository, in order; copies from other stages and contexts are left out."""
    found: list[str] = []
    for instruction in _instructions(container_file):
        words = shlex.split(instruction)
        if words[0].upper() not in ("COPY", "ADD"):
            continue
        options = [word for word in words[1:] if word.startswith("--")]
        if any(option.startswith("--from=") for option in options):
            continue
        found += [word for word in words[1:-1] if not word.startswith("--")]
    return found


def content_hash(recipe: Recipe, foundation: str, repository: Path = REPOSITORY) -> str:
    """Short hash of all that the image is made of; `foundation` names what lies under it and beside it."""
    digest = hashlib.sha256()
    container_file = repository / recipe.container_file
    _add(digest, foundation.encode())
    _add(digest, container_file.read_bytes())
    for copied in copied_paths(container_file.read_text()):
        for file in _files(repository / copied):
            _add(digest, str(file.relative_to(repository)).encode())
            _add(digest, b"x" if file.stat().st_mode & 0o100 else b"-")
            _add(digest, file.read_bytes())
    return digest.hexdigest()[:HASH_LENGTH]


def _add(digest: hashlib._Hash, content: bytes) -> None:
    """Length first: "ab" + "c" must differ from "a" + "bc"."""
    digest.update(str(len(content)).encode() + b":" + content)


def _files(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(path)
    return sorted(
        file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc"
    )


def _instructions(container_file: str) -> Iterator[str]:
    """Whole instructions: comments left out, continued lines joined."""
    waiting = ""
    for line in container_file.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if stripped.endswith("\\"):
            waiting += stripped[:-1] + " "
            continue
        yield waiting + stripped
        waiting = ""
