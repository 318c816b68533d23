"""Samples of peers taken in turn, and what they say about each other. Used by every benchmark."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

WARM_UPS = 3
_RESAMPLES = 2000

# One measurement of a peer: seconds by the name of what was measured. It raises when what it ran went wrong.
Sample = Callable[[], Mapping[str, float]]


def in_turn(peers: Sequence[Sample], samples: int) -> dict[str, list[float]]:
    """A, B, C, A, B, C …, so that what disturbs the machine disturbs all of them."""
    taken: dict[str, list[float]] = {}
    for number in range(WARM_UPS + samples):
        for peer in peers:
            for name, seconds in peer().items():
                if number >= WARM_UPS:
                    taken.setdefault(name, []).append(seconds)
    return taken


@dataclass(frozen=True, slots=True)
class Ratio:
    """Of two medians, with the 95 % interval that resampling gives; and of the 95th percentiles."""

    median: float
    low: float
    high: float
    p95: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    chance = random.Random(1)
    resampled = sorted(
        statistics.median(chance.choices(ours, k=len(ours))) / statistics.median(chance.choices(theirs, k=len(theirs)))
        for _ in range(_RESAMPLES)
    )
    return Ratio(
        statistics.median(ours) / statistics.median(theirs),
        resampled[round(0.025 * (_RESAMPLES - 1))],
        resampled[round(0.975 * (_RESAMPLES - 1))],
        percentile(ours, 95) / percentile(theirs, 95),
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__trunc__() - 1)]


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"
