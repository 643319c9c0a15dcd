"""Decide where things live: the repository, what may be rebuilt (cache), what belongs to a running cluster (state)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from renderfleet_cluster.say import line

REPOSITORY = Path(__file__).resolve().parents[2]
GO_MODULES = REPOSITORY / "hack" / "cluster" / "go"


def cache_dir() -> Path:
    """Folder for everything that can be made again; safe to delete while nothing runs."""
    return Path(os.environ.get("RENDERFLEET_CACHE") or Path.home() / ".cache" / "renderfleet")


def state_dir() -> Path:
    """Folder with one sub-folder per running cluster; `down` removes the sub-folder."""
    return Path(os.environ.get("RENDERFLEET_STATE") or Path.home() / ".local" / "state" / "renderfleet")


def default_cluster_name() -> str:
    """Name used when none is given."""
    return os.environ.get("RENDERFLEET_CLUSTER") or "renderfleet"


@contextmanager
def only_one(what: str) -> Iterator[None]:
    """Hold a lock of this name: of two runs of this tool the second waits, and then finds the work done."""
    folder = cache_dir() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / what).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            line(f"another run is busy with {what}: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
