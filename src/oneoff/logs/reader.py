"""Reads a run's log from any position, while it is written and after. Used by the API, the drivers and the archive."""

from __future__ import annotations

import os
from pathlib import Path

from oneoff.logs import archive
from oneoff.logs.folder import ARCHIVE, LogEnd, part_paths, read_end
from oneoff.logs.record import HEADER, LogRecord, parse_records

PIECE = 256 * 1024


class LogReader:
    """A cursor over one log. Reading is cheap to repeat: it goes on where the last call stopped.

    A part that is removed meanwhile stays readable until the cursor has left it. Behind it the next part follows, or
    the archive once there is one: it holds everything, and the parts go one by one then.
    """

    def __init__(self, folder: Path, after: int = 0) -> None:
        self._folder = folder
        self.position = after
        self._fd = -1
        self._path: Path | None = None
        self._offset = 0

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._path = None

    def ended(self) -> LogEnd | None:
        """The totals, once nothing more will be written."""
        return read_end(self._folder)

    def read(self, most_bytes: int = PIECE) -> list[LogRecord]:
        """The next records, about `most_bytes` of them; [] when there is nothing new now.

        Where bytes are missing the next record's `begin` lies behind the position read so far.
        """
        while True:
            if self._fd < 0 and not self._open_next():
                return self.take(archive.read_from(self._folder / ARCHIVE, self.position))
            if records := self._read_part(most_bytes):
                return records
            if not self._has_later_part():
                if not self._is_archived():
                    return []
                self.close()
                continue
            # Whatever was appended before the later part was opened is complete by now.
            if records := self._read_part(most_bytes):
                return records
            self._open_next()

    def take(self, records: list[LogRecord]) -> list[LogRecord]:
        """Of `records` what lies behind the cursor, which moves to their end."""
        fresh = [
            r if r.begin >= self.position else r.after(self.position) for r in records if r.position > self.position
        ]
        if fresh:
            self.position = fresh[-1].position
        return fresh

    def _read_part(self, most_bytes: int) -> list[LogRecord]:
        while True:
            buffer = os.pread(self._fd, most_bytes + HEADER.size, self._offset)
            records = list(parse_records(buffer))
            if not records:
                needed = self._length_of_next(buffer)
                if needed <= len(buffer):
                    return []
                most_bytes = needed
                if os.fstat(self._fd).st_size < self._offset + needed:
                    return []
                continue
            self._offset += records[-1][1]
            if fresh := self.take([record for record, _ in records]):
                return fresh

    @staticmethod
    def _length_of_next(buffer: bytes) -> int:
        if len(buffer) < HEADER.size:
            return 0
        return HEADER.size + int(HEADER.unpack_from(buffer)[1])

    def _has_later_part(self) -> bool:
        paths = part_paths(self._folder)
        return bool(paths) and self._path is not None and paths[-1].name > self._path.name

    def _is_archived(self) -> bool:
        return (self._folder / ARCHIVE).exists()

    def _open_next(self) -> bool:
        """Open the first part at the beginning, else the one behind the present one. False when no part is to be read:
        there is none, or there is the archive."""
        paths = part_paths(self._folder)
        if self._path is not None:
            paths = [path for path in paths if path.name > self._path.name]
        else:
            # Parts that end before the cursor need not be scanned.
            covering = [path for path in paths if int(path.stem) <= self.position]
            paths = paths[max(0, len(covering) - 1) :]
        for path in paths:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            if self._fd >= 0:
                os.close(self._fd)
            self._fd, self._path, self._offset = fd, path, 0
            break
        # Asked last: a part that was not found above may have been removed behind the archive.
        if self._is_archived():
            self.close()
        return self._fd >= 0
