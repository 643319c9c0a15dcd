"""Read what a process costs from /proc: memory now and at its peak, processor time so far."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process uses."""

    rss_mib: float
    peak_rss_mib: float
    cpu_seconds: float
    """User and system time of all its threads since it started."""


def cost_of(pid: int) -> Cost:
    """Raises FileNotFoundError when the process is gone: a dead operator costs nothing, which is no result."""
    folder = Path(f"/proc/{pid}")
    return parse((folder / "status").read_text(), (folder / "stat").read_text())


def parse(status: str, stat: str) -> Cost:
    """Source: proc(5): VmRSS and VmHWM of /proc/pid/status in KiB, fields 14 and 15 of /proc/pid/stat in ticks."""
    sizes = dict(line.split(":", 1) for line in status.splitlines() if line.startswith(("VmRSS", "VmHWM")))
    return Cost(
        rss_mib=int(sizes["VmRSS"].split()[0]) / 1024,
        peak_rss_mib=int(sizes["VmHWM"].split()[0]) / 1024,
        cpu_seconds=cpu_seconds(stat),
    )


def cpu_seconds(stat: str) -> float:
    """From /proc/pid/stat, which a process still has when it has ended and nobody has asked for its exit code."""
    # The second field is the program's name in brackets and may hold anything, brackets too.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def cpu_seconds_of_tree(pid: int) -> float:
    """Processor time of a process and of its living children, such as a database server's; 0 when it is gone."""
    try:
        own = cpu_seconds(Path(f"/proc/{pid}/stat").read_text())
        children = [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return own + sum(cpu_seconds_of_tree(child) for child in children)
