"""Samples of the metrics, by their whole names with labels, and what a test added to them."""

from __future__ import annotations

from oneoff import metrics
from oneoff.meters import render

Samples = dict[str, float]


def read_samples(text: str) -> Samples:
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def read_now() -> Samples:
    return read_samples(render(metrics.METERS))


class Moved:
    """Of this process: other tests count, too, so only differences tell."""

    def __init__(self) -> None:
        self._before = read_now()

    def by(self, name: str) -> float:
        return read_now().get(name, 0) - self._before.get(name, 0)
