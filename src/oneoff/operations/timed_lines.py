"""The lines of one run's log, each with a time that no other line of the run has: so a time says how far one has read.
Only the notice of a gap shares that of the line behind it.

Used by `line_pages` and `line_following`.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from oneoff.core.clock import to_us
from oneoff.core.log_lines import LineSplitter, LogLine
from oneoff.core.run import Run
from oneoff.logs.folder import part_paths
from oneoff.logs.record import LogRecord

_MOST_LOGS = 128
_MARK_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """`position` ends it in its run's log; with the run's id it is unique, and the same whenever it is read."""

    run: Run
    stream: str
    time_us: int
    position: int
    data: bytes
    cut_bytes: int = 0

    @property
    def order(self) -> tuple[int, str, int]:
        return self.time_us, self.run.id, self.position


@dataclass(slots=True)
class Marks:
    """Places in a log where no line is open: everything up to `positions[i]` is not later than `times[i]`. `second` is
    where the second part of the log began when they were made; at `first_end`, or before it, the first one ends."""

    times: list[int] = field(default_factory=lambda: [-1])
    positions: list[int] = field(default_factory=lambda: [0])
    second: int | None = None
    first_end: int | None = None

    def of(self, second: int | None) -> Marks:
        """Those that hold when the second part begins there. It begins elsewhere when the cap of the log has made room
        for more: what is marked behind the first part may be gone, and would hide the gap."""
        if second == self.second:
            return self
        kept = 1 if self.first_end is None else bisect_right(self.positions, self.first_end)
        first_end = second if self.first_end is None else self.first_end
        return Marks(self.times[:kept], self.positions[:kept], second, first_end)

    def before(self, time_us: int) -> int:
        """The number of the last mark earlier than this."""
        return max(0, bisect_left(self.times, time_us) - 1)

    def add(self, time_us: int, position: int) -> None:
        with _lock:
            if position >= self.positions[-1] + _MARK_BYTES and time_us > self.times[-1]:
                self.positions.append(position)
                self.times.append(time_us)


def damage_line(run: Run, problem: Exception) -> Line:
    """In the place of a log that cannot be shown: so it is missed by nobody, and the others are shown."""
    text = f"[the log of this run cannot be shown: {problem}]".encode()
    return Line(run, "stderr", to_us(run.finished_at or run.started_at or run.created_at), 0, text)


_lock = threading.Lock()
_known: OrderedDict[tuple[str, str], Marks] = OrderedDict()


def get_marks(instance: str, run_id: str, folder: Path) -> Marks:
    """Of the log in `folder`; remembered for those that were read last. From any thread."""
    parts = part_paths(folder)
    with _lock:
        marks = _known.pop((instance, run_id), None) or Marks()
        marks = marks.of(int(parts[1].stem) if len(parts) > 1 else None)
        _known[instance, run_id] = marks
        while len(_known) > _MOST_LOGS:
            _known.popitem(last=False)
        return marks


class TimedLines:
    """Makes lines of records, from a mark on. A line has the time at which its end was read; where two would have the
    same, the later one is moved on by a microsecond. So times grow with positions, wherever reading begins."""

    def __init__(self, run: Run, marks: Marks, number: int) -> None:
        self.run = run
        self._marks = marks
        self._splitter = LineSplitter()
        self._time_us = marks.times[number]
        self.position = marks.positions[number]

    def feed(self, records: Iterable[LogRecord]) -> list[Line]:
        lines: list[Line] = []
        for record in records:
            if (missing := record.begin - self.position) > 0:
                lines += [self._to_line(each, record.time_us) for each in self._splitter.flush()]
                gap = f"[{missing} bytes of the output were not kept]".encode()
                lines.append(self._to_line(LogLine(record.stream, record.time_us, record.begin, gap), record.time_us))
                self._time_us -= 1  # the line behind it has the time that it has without the gap
            found = self._splitter.feed(record.stream, record.time_us, record.begin, record.data)
            lines += [self._to_line(each, each.time_us) for each in found]
            self.position = record.position
        if self._splitter.open_from is None:
            self._marks.add(self._time_us, self.position)
        return lines

    def flush(self) -> list[Line]:
        """What has no newline, once the log has ended: told only now, and so with the time of the end."""
        end = self.run.finished_at
        return [self._to_line(each, each.time_us if end is None else to_us(end)) for each in self._splitter.flush()]

    def _to_line(self, line: LogLine, time_us: int) -> Line:
        self._time_us = max(time_us, self._time_us + 1)
        return Line(self.run, line.stream, self._time_us, line.position, line.data, line.cut_bytes)
