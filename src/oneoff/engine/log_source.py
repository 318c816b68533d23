"""The lines of one run that a stream has not had yet, read from the stored log. Used by deliveries, in threads."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path

from oneoff.core.log_lines import STREAMS, LineSplitter, LogLine, dropped_notice, missing_notice
from oneoff.core.log_origin import LogOrigin
from oneoff.logs.cursor import LogCursor
from oneoff.logs.folder import LogEnd, read_end
from oneoff.logs.record import LogRecord
from oneoff.store.log_positions import LogRun, Progress

_READ_BYTES = 64 * 1024
_HELD_SECONDS = 1.0  # how long the possible beginning of a secret waits for its rest, as when a log is followed


class LogSource:
    """Reading goes on where it stopped; `rewind` goes back to what was confirmed. One caller at a time. With `secrets`
    None nobody knows what is to be masked: such a log is only to be skipped."""

    def __init__(self, folder: Path, run: LogRun, secrets: Collection[bytes] | None) -> None:
        self.origin: LogOrigin = run.origin
        self.is_final = run.is_final  # nothing will be written behind what is there
        self.confirmed = run.progress
        self.finished = False  # everything was read
        self._folder = folder
        self.is_hidden = secrets is None
        self._secrets = secrets or ()
        self._dropped = run.dropped_lines
        self._cursor: LogCursor | None = None
        self.rewind()

    @property
    def progress(self) -> Progress:
        """When everything that was read is sent."""
        open_from = self._splitter.open_from
        return Progress(self._at, self._at if open_from is None else open_from, self.finished)

    def rewind(self) -> None:
        self.close()
        self.finished = False
        self._splitter = LineSplitter()
        self._at = self.confirmed.open_from
        self._time_us = 0
        self._heard_at = time.monotonic()

    def close(self) -> None:
        if self._cursor is not None:
            self._cursor.close()
        self._cursor = None

    def read(self) -> tuple[list[LogLine], bool]:
        """The next lines, and whether there was anything new. At the end of an ended log `finished` is set."""
        if self.finished:
            return [], False
        if self._cursor is None:
            self._cursor = self._open(self._at)
        end = read_end(self._folder)
        has_ended = self.is_final or end is not None
        records, has_more = self._cursor.read(_READ_BYTES)
        if has_more:
            self._heard_at = time.monotonic()
        elif has_ended:
            records = self._rest(self._cursor, end)
        elif self._cursor.holds and time.monotonic() - self._heard_at >= _HELD_SECONDS:
            records = self._cursor.flush()
        lines = [line for record in records for line in self._split(record)]
        if has_ended and not has_more and not records:
            lines += self._finish(end)
        known = self.confirmed.position
        return [line for line in lines if line.position > known], has_more

    def skip(self) -> LogLine | None:
        """Read to the end of what is there now, and tell only how many lines that were."""
        count = 0
        lines, has_more = self.read()
        while lines or has_more:
            count += sum(line.dropped or 1 for line in lines)
            lines, has_more = self.read()
        why = "secrets in them could not be masked" if self.is_hidden else ""
        return dropped_notice(self._now_us(), self._at, count, why) if count else None

    def unread_bytes(self) -> int:
        """About how much there is behind what was read. Of the part being written the size is that of its file."""
        if (end := read_end(self._folder)) is not None:
            return max(0, end.position - self._at)
        try:
            newest = max(self._folder.glob("*.log"), default=None)
            return 0 if newest is None else max(0, int(newest.stem) + newest.stat().st_size - self._at)
        except OSError:
            return 0

    def _open(self, after: int) -> LogCursor:
        return LogCursor(self._folder, after, STREAMS, self._secrets)

    def _rest(self, cursor: LogCursor, end: LogEnd | None) -> list[LogRecord]:
        """What is held; or what a reader misses whose files became an archive while it was in the middle of them."""
        if records := cursor.flush():
            return records
        if end is None or cursor.position >= end.position:
            return []
        self.close()
        self._cursor = self._open(self._at)
        return self._cursor.read(_READ_BYTES)[0]

    def _split(self, record: LogRecord) -> list[LogLine]:
        lines = self._missing_before(record.begin, record.time_us)
        lines += self._splitter.feed(record.stream, record.time_us, record.begin, record.data)
        self._at, self._time_us = record.position, record.time_us
        return lines

    def _missing_before(self, position: int, time_us: int) -> list[LogLine]:
        """Lines are not joined over a gap."""
        if position <= self._at:
            return []
        return [*self._splitter.flush(), missing_notice(time_us, position, position - self._at)]

    def _finish(self, end: LogEnd | None) -> list[LogLine]:
        lines = [] if end is None else self._missing_before(end.position, self._time_us)
        lines += self._splitter.flush()
        if end is not None:
            self._at = max(self._at, end.position)
        if self._dropped and end is None and not self._folder.exists():
            self._at += 1
            lines.append(dropped_notice(self._now_us(), self._at, self._dropped))
        self.finished = True
        return lines

    def _now_us(self) -> int:
        return self._time_us or int(time.time() * 1_000_000)
