"""Counters, gauges and histograms, and their text for Prometheus. `metrics` has the table of those there are.

Our own, because a library for it takes more memory and three times as long for each increment: decision 014.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[str, ...]
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


class Meter:
    """One metric with all its series. Safe to call from any thread; label values are given in the order of `labels`."""

    kind = ""

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self.text = text
        self.labels = tuple(labels)
        self._lock = threading.Lock()

    def lines(self) -> Iterator[str]:
        """Its samples. No line at all when nothing was counted and no series was begun."""
        raise NotImplementedError

    def _key(self, values: Labels) -> Labels:
        if len(values) != len(self.labels):
            raise ValueError(f"{self.name} takes the labels {self.labels}")
        return values

    def _name(self, values: Labels, suffix: str = "", also: str = "") -> str:
        pairs = [
            f'{label}="{str(value).translate(_ESCAPES)}"' for label, value in zip(self.labels, values, strict=True)
        ]
        inside = ",".join([*pairs, also] if also else pairs)
        return f"{self.name}{suffix}{{{inside}}}" if inside else f"{self.name}{suffix}"


class Counter(Meter):
    """Only grows. `known` are the series that are there from the start, at zero: so that their first increment is seen
    as one."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Sequence[str] = (), known: Iterable[Labels] = ()) -> None:
        super().__init__(name, text, labels)
        self._values: dict[Labels, float] = dict.fromkeys(map(self._key, known) if labels else [()], 0)

    def add(self, *labels: str, by: float = 1) -> None:
        with self._lock:
            try:
                self._values[labels] += by
            except KeyError:
                self._values[self._key(labels)] = by

    def reach(self, value: float) -> None:
        """Somebody else counts, and is at this number now."""
        self._values[()] = value

    def value(self, *labels: str) -> float:
        return self._values.get(self._key(labels), 0)

    def lines(self) -> Iterator[str]:
        for labels, value in sorted(self._values.copy().items()):
            yield f"{self._name(labels)} {_number(value)}"


class Gauge(Meter):
    """What is so now. Without a value it is not shown."""

    kind = "gauge"

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, text, labels)
        self._values: dict[Labels, float] = {}

    def set(self, value: float, *labels: str) -> None:
        self._values[self._key(labels)] = value

    def add(self, by: float, *labels: str) -> None:
        with self._lock:
            self._values[labels] = self._values.get(self._key(labels), 0) + by

    def forget(self) -> None:
        """It is not known at this moment."""
        self._values.clear()

    def value(self, *labels: str) -> float | None:
        return self._values.get(self._key(labels))

    def lines(self) -> Iterator[str]:
        for labels, value in sorted(self._values.copy().items()):
            yield f"{self._name(labels)} {_number(value)}"


class Histogram(Meter):
    """How often a value was at most each of `bounds`, ascending; the sum and the count of all."""

    kind = "histogram"

    def __init__(self, name: str, text: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> None:
        super().__init__(name, text, labels)
        self.bounds = tuple(bounds)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        if not labels:
            self._begin(())

    def observe(self, value: float, *labels: str) -> None:
        place = bisect_left(self.bounds, value)
        with self._lock:
            counts = self._counts.get(labels)
            if counts is None:
                counts = self._begin(self._key(labels))
            counts[place] += 1
            self._sums[labels] += value

    @contextmanager
    def time(self, *labels: str) -> Iterator[None]:
        """Observes how long the block takes, if it does not raise."""
        began = time.perf_counter()
        yield
        self.observe(time.perf_counter() - began, *labels)

    def count(self, *labels: str) -> int:
        return sum(self._counts.get(self._key(labels), ()))

    def lines(self) -> Iterator[str]:
        with self._lock:
            found = sorted((labels, list(counts), self._sums[labels]) for labels, counts in self._counts.items())
        for labels, counts, total in found:
            seen = 0
            for bound, count in zip((*map(_number, self.bounds), "+Inf"), counts, strict=True):
                seen += count
                le = f'le="{bound}"'
                yield f"{self._name(labels, '_bucket', le)} {seen}"
            yield f"{self._name(labels, '_sum')} {_number(total)}"
            yield f"{self._name(labels, '_count')} {seen}"

    def _begin(self, labels: Labels) -> list[int]:
        self._sums[labels] = 0.0
        self._counts[labels] = [0] * (len(self.bounds) + 1)
        return self._counts[labels]


def render(meters: Iterable[Meter]) -> str:
    """The text format of Prometheus, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats)."""
    parts: list[str] = []
    for meter in meters:
        if lines := list(meter.lines()):
            text = meter.text.replace("\\", "\\\\").replace("\n", "\\n")
            parts += [f"# HELP {meter.name} {text}", f"# TYPE {meter.name} {meter.kind}", *lines]
    return "\n".join(parts) + "\n"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
