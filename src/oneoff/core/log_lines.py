"""From records of a log to its lines. Pure; used where logs are sent elsewhere, line by line.

A record need not end at a newline, and records of stdout and stderr come interleaved: each stream is split on its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_LINE_BYTES = 64 * 1024
STREAMS = ("stdout", "stderr")


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line without its end. `position` is that of its last byte's end in the log, newline included: unique in the
    run, the same whenever the log is read. `cut_bytes` more were in it than are kept here.

    A line with `dropped` or `missing_bytes` is none of the command's: it tells of so many lines, or bytes, before it
    that are not sent."""

    stream: str
    time_us: int
    position: int
    data: bytes
    cut_bytes: int = 0
    dropped: int = 0
    missing_bytes: int = 0

    @property
    def is_notice(self) -> bool:
        return bool(self.dropped or self.missing_bytes)


def dropped_notice(time_us: int, position: int, lines: int, why: str = "") -> LogLine:
    told = ("1 line dropped" if lines == 1 else f"{lines} lines dropped") + (why and f": {why}")
    return LogLine("stderr", time_us, position, told.encode(), dropped=lines)


def missing_notice(time_us: int, position: int, missing_bytes: int) -> LogLine:
    """The log does not have them: the run wrote more than is kept, or the disk was full."""
    data = b"%d bytes of the output were not kept" % missing_bytes
    return LogLine("stderr", time_us, position, data, missing_bytes=missing_bytes)


@dataclass(slots=True)
class _Open:
    """A line whose end has not come yet."""

    begin: int
    time_us: int = 0
    end: int = 0
    length: int = 0
    kept: bytearray = field(default_factory=bytearray)
    last: bytes = b""


class LineSplitter:
    """Of one run. Records are fed in the order of the log."""

    def __init__(self, most_bytes: int = MOST_LINE_BYTES) -> None:
        self._most = most_bytes
        self._open: dict[str, _Open] = {}

    @property
    def open_from(self) -> int | None:
        """Where the earliest line begins that has no end yet: whoever comes back reads from here."""
        return min((line.begin for line in self._open.values()), default=None)

    def feed(self, stream: str, time_us: int, begin: int, data: bytes) -> list[LogLine]:
        """Lines that end in this record, whose first byte lies at `begin`."""
        lines = []
        at = 0
        while (newline := data.find(b"\n", at)) >= 0:
            held = self._open.pop(stream, None) or _Open(begin + at)
            self._keep(held, data[at:newline])
            held.time_us, held.end = time_us, begin + newline + 1
            lines.append(self._close(stream, held))
            at = newline + 1
        if at < len(data):
            held = self._open.setdefault(stream, _Open(begin + at))
            self._keep(held, data[at:])
            held.time_us, held.end = time_us, begin + len(data)
        return lines

    def flush(self) -> list[LogLine]:
        """What has no newline, as lines: at the end of the log, and where bytes are missing in it."""
        lines = [self._close(stream, held) for stream, held in self._open.items()]
        self._open.clear()
        return sorted(lines, key=lambda line: line.position)

    def _keep(self, held: _Open, piece: bytes) -> None:
        held.length += len(piece)
        held.last = piece[-1:] or held.last
        if (room := self._most - len(held.kept)) > 0:
            held.kept += piece[:room]

    def _close(self, stream: str, held: _Open) -> LogLine:
        length = held.length - (held.last == b"\r")
        kept = bytes(held.kept[:length])
        return LogLine(stream, held.time_us, held.end, kept, length - len(kept))
