"""Decide where things live: the repository, what may be rebuilt (cache), what belongs to a running cluster (state)."""

from __future__ import annotations

import os
from pathlib import Path

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
