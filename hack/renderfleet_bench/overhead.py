"""What does one render cost over one bare Job, when nothing else is going on? By turns, one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from renderfleet_bench.fleet import Fleet
from renderfleet_bench.load import run_batch
from renderfleet_bench.stats import quantile
from renderfleet_bench.throughput import BARE, RENDERS, clean
from renderfleet_cluster.say import line


@dataclass(frozen=True)
class Overhead:
    """Seconds from the request to the end, of single objects, in the order of measuring."""

    bare: list[float]
    ours: list[float]

    @property
    def p50_seconds(self) -> float:
        """Median of the renders less median of the bare Jobs."""
        return quantile(self.ours, 0.5) - quantile(self.bare, 0.5)

    def note(self) -> str:
        return "; ".join(
            f"{who} p50 {quantile(values, 0.5):.2f} s, p99 {quantile(values, 0.99):.2f} s"
            for who, values in (("render", self.ours), ("bare Job", self.bare))
        )

    def raw(self) -> dict[str, Any]:
        return {"bare": self.bare, "ours": self.ours}


async def measure(fleet: Fleet, singles: int) -> Overhead:
    """So many of each."""
    line(f"{singles} single Jobs and renders by turns")
    found = Overhead([], [])
    for number in range(singles):
        for subject, values in ((BARE, found.bare), (RENDERS, found.ours)):
            batch = await run_batch(fleet.plane.cluster, subject, [f"single-{number}"], alive=fleet.check)
            values.extend(batch.latencies())
    await clean(fleet)
    return found
