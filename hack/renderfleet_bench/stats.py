"""Decide what a list of measurements says: middle, edges, spread, and how two lists compare. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of all lie, drawn straight between neighbours.

    Raises ValueError for an empty list: a number out of nothing would look like a measurement.
    """
    if not values:
        raise ValueError("no values, no quantile")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below, above = math.floor(place), math.ceil(place)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


@dataclass(frozen=True, slots=True)
class Ratio:
    """How the medians of two lists compare, and how far the single pairs lie apart."""

    value: float
    lowest_pair: float
    highest_pair: float
    pairs: int


def ratio_of_medians(ours: Sequence[float], bare: Sequence[float]) -> Ratio:
    """Median of `ours` over median of `bare`, with the lowest and highest ratio of neighbours in time.

    Both lists are in the order of measuring; a list that is one longer is fine (B R B), further ones are not: only
    rounds that ran next to each other saw the same machine. Raises ValueError for that, and for empty lists.
    """
    if not ours or not bare or abs(len(ours) - len(bare)) > 1:
        raise ValueError(f"{len(ours)} rounds against {len(bare)} are not an alternation")
    each = [mine / other for mine, other in zip(ours, bare, strict=False)]
    return Ratio(statistics.median(ours) / statistics.median(bare), min(each), max(each), len(each))


def eta_errors(predicted: Sequence[tuple[str, float, float]], started: dict[str, float]) -> list[float]:
    """Relative errors of start predictions: |predicted - real| / real, both counted from the moment of saying.

    `predicted` holds (render, when it was said, seconds it said), `started` when each render really started, both on
    one clock. A wait is taken as one second at least: to say 1 s and be right after 0.2 s is not an error of 400 %.
    A prediction for what never started, or said after the start, is left out.
    """
    errors = []
    for name, said_at, eta_seconds in predicted:
        real_seconds = started.get(name, -math.inf) - said_at
        if real_seconds >= 0:
            errors.append(abs(eta_seconds - real_seconds) / max(real_seconds, 1.0))
    return errors
