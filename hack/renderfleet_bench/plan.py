"""Decide how much to measure, in the long and in the short form, and when time forbids one more round. Pure."""

from __future__ import annotations

from dataclasses import dataclass

USUAL_JOBS_PER_SECOND = 40.0
"""Bare Jobs on two idle cores with tuned flags, the speed that the usual times below are for."""
PARTS = (
    "throughput-500",
    "ceiling",
    "overhead",
    "eta",
    "throughput-5000",
    "restart",
    "fairness",
    "door",
    "default-flags",
)
"""What is measured, in this order; all but the last on the same plane."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is asked of the API."""

    pairs: int
    """Alternations bare - API, for submits and again for GETs."""
    seconds: float
    """Of each half of a pair."""
    listeners: int
    changes: int
    """Phase changes that each listener is told."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Sizes of everything the bench does."""

    name: str
    limit_seconds: float
    """The whole run, planes included, stays below this."""
    pairs_500: int
    """Alternations bare - RenderFleet of 500 each. Odd is best: the median is then a round, not a mean of two."""
    same_500: int
    """In how many of them the runners' own Jobs have a round too."""
    ceiling: int
    """How many renders' requests are replayed without an operator."""
    pairs_5000: int
    """At most; the second is left out when time is short."""
    default_flags_count: int
    """Objects per round with the controller manager's own client limits: 3.4 a second, after a burst of 30 requests."""
    default_flags_pairs: int
    singles: int
    """Lone Jobs and lone renders, alternating, for the overhead."""
    eta_renders: int
    fairness_dump: int
    """How many renders one tenant throws in before another one asks for a single render."""
    fairness_probes: int
    finished: int
    live: int
    """Objects that a restarting operator finds."""
    door: Size
    """How much is asked of the API."""
    parts: tuple[str, ...] = PARTS
    """Those of PARTS that are measured."""

    def usual_seconds(self, part: str) -> float:
        """How long a part takes where bare Jobs run at USUAL_JOBS_PER_SECOND; for deciding what still fits."""
        usual: dict[str, float] = {
            "throughput-500": self.pairs_500 * 45 + self.same_500 * 12,
            "ceiling": 15 + self.ceiling * 0.08,
            "overhead": self.singles * 2.5,
            "eta": 10 + self.eta_renders * 0.35,
            "throughput-5000": 420,
            "restart": 45 + self.finished / 150,
            "fairness": 30 + self.fairness_dump / 120,
            "door": 12 + 4 * self.door.pairs * self.door.seconds + self.door.listeners / 125 + self.door.changes * 0.75,
            "default-flags": 30 + self.default_flags_pairs * self.default_flags_count * 0.65,
        }
        return usual[part]


FULL = Plan(
    name="full",
    limit_seconds=25 * 60,
    pairs_500=5,
    same_500=3,
    ceiling=200,
    pairs_5000=2,
    default_flags_count=100,
    default_flags_pairs=2,
    singles=30,
    eta_renders=150,
    fairness_dump=5000,
    fairness_probes=5,
    finished=10_000,
    live=500,
    door=Size(pairs=5, seconds=5, listeners=1000, changes=40),
)

QUICK = Plan(
    name="quick",
    limit_seconds=6 * 60,
    pairs_500=3,
    same_500=0,
    ceiling=0,
    pairs_5000=0,
    default_flags_count=50,
    default_flags_pairs=1,
    singles=6,
    eta_renders=40,
    fairness_dump=300,
    fairness_probes=3,
    finished=500,
    live=100,
    door=Size(pairs=3, seconds=1.2, listeners=1000, changes=8),
    parts=tuple(part for part in PARTS if part not in ("ceiling", "throughput-5000")),
)


def rest_after(plan: Plan, part: str, jobs_per_second: float | None) -> float:
    """Seconds that the parts after this one will take, by the speed of the machine as last seen."""
    slowness = max(1.0, USUAL_JOBS_PER_SECOND / jobs_per_second) if jobs_per_second else 1.0
    later = PARTS[PARTS.index(part) + 1 :]
    return slowness * sum(plan.usual_seconds(one) for one in later if one in plan.parts)


def another_round_fits(
    *, elapsed_seconds: float, limit_seconds: float, round_seconds: float, rest_seconds: float
) -> bool:
    """Whether a round like the last one leaves enough time for the rest, with a tenth of it to spare.

    `rest_seconds` is what must still happen after it, by estimate.
    """
    return elapsed_seconds + 1.1 * (round_seconds + rest_seconds) <= limit_seconds
