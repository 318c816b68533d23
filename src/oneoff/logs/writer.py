"""Appends a run's output to its log. Used by the engine for drivers that hand over output, and by the oci supervisor.

Standard library only: the supervisor's processes stay small. It never raises for a full disk: what cannot be stored is
counted as missing, so the command is neither slowed nor killed by it.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from oneoff.logs.folder import LogEnd, part_path, part_paths, read_end, sync_part, write_end
from oneoff.logs.record import HEADER, STREAMS

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_WRITE_BACK_BYTES = 8 << 20  # so much may wait in memory before the disk is told to begin
_LATER_PARTS = 16  # the later half of the cap is divided into so many files: that is how finely it is trimmed


class LogWriter:
    """One writer per log at a time. Opening an existing log goes on behind its last complete record.

    `cap_bytes` bounds what is stored: the first half of it is kept for good, behind it the latest bytes.
    """

    def __init__(self, folder: Path, cap_bytes: int) -> None:
        self._folder = folder
        self._first_bytes = cap_bytes // 2
        self._later_bytes = cap_bytes - self._first_bytes
        self._part_bytes = max(1, self._later_bytes // _LATER_PARTS)
        self._stored: dict[Path, int] = {}  # data bytes in each part, in order
        self.stdout_bytes = 0
        self.stderr_bytes = 0
        self._fd = -1
        self._size = 0
        self._written_back = 0  # up to this offset of the part the disk has been told
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._recover()

    @property
    def missing_bytes(self) -> int:
        return self.stdout_bytes + self.stderr_bytes - sum(self._stored.values())

    @property
    def position(self) -> int:
        return self.stdout_bytes + self.stderr_bytes

    def append(self, stream: str, time_us: int, data: bytes | bytearray | memoryview) -> None:
        """Keep `data`, or count it as missing when the disk has no room."""
        length = len(data)
        if not length:
            return
        begin = self.position
        if stream == "stdout":
            self.stdout_bytes += length
        else:
            self.stderr_bytes += length
        header = HEADER.pack(STREAMS[stream], length, time_us, self.stdout_bytes, self.stderr_bytes)
        if self._fd < 0 or self._is_full():
            self._open_part(begin)
        self._store(header, data, length)

    def finish(self) -> LogEnd:
        """Make all of it durable and say that nothing follows. Safe to call twice."""
        if (ended := read_end(self._folder)) is not None:
            return ended
        end = LogEnd(self.stdout_bytes, self.stderr_bytes, self.missing_bytes)
        try:
            for path in self._stored:
                sync_part(path)
            write_end(self._folder, end)
        except OSError as problem:
            if problem.errno not in _NO_ROOM:
                raise
        self.close()
        return end

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _is_full(self) -> bool:
        held = next(reversed(self._stored.values()), 0)
        return held >= (self._first_bytes if len(self._stored) <= 1 else self._part_bytes)

    def _open_part(self, position: int) -> None:
        self._begin_write_back(at_least=1)
        self.close()
        path = part_path(self._folder, position)
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            if problem.errno not in _NO_ROOM:
                raise
            return
        self._size = self._written_back = os.fstat(self._fd).st_size
        self._stored[path] = 0
        self._trim()

    def _trim(self) -> None:
        """Drop the oldest later parts while those behind them still fill their half of the cap."""
        later = list(self._stored)[1:]
        held = sum(self._stored[path] for path in later)
        for path in later[:-1]:
            if held <= self._later_bytes - self._part_bytes:
                return
            held -= self._stored.pop(path)
            path.unlink(missing_ok=True)

    def _store(self, header: bytes, data: bytes | bytearray | memoryview, length: int) -> None:
        if self._fd < 0:
            return
        whole = len(header) + length
        try:
            written = os.writev(self._fd, (header, data))
        except OSError as problem:
            if problem.errno not in _NO_ROOM:
                raise
            written = 0
        if written < whole:
            # A short write means a full disk. A torn record would hide everything behind it.
            os.ftruncate(self._fd, self._size)
            return
        self._size += whole
        path = next(reversed(self._stored))
        self._stored[path] += length
        self._begin_write_back(_WRITE_BACK_BYTES)

    def _begin_write_back(self, at_least: int) -> None:
        """What is not wanted any more is written at once: so `finish` finds little left to wait for. The kernel drops
        clean pages only, and these are not clean yet: they stay where a follower reads them."""
        waiting = self._size - self._written_back
        if self._fd >= 0 and waiting >= at_least:
            os.posix_fadvise(self._fd, self._written_back, waiting, os.POSIX_FADV_DONTNEED)
            self._written_back = self._size

    def _recover(self) -> None:
        for path in part_paths(self._folder):
            self._stored[path] = 0
            self.close()
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            self._size = self._written_back = self._scan(path)
        if self._fd >= 0:
            os.ftruncate(self._fd, self._size)

    def _scan(self, path: Path) -> int:
        """Count what a part holds, header by header. Returns the offset behind its last complete record."""
        size = os.fstat(self._fd).st_size
        offset = 0
        while offset + HEADER.size <= size:
            number, length, _, stdout, stderr = HEADER.unpack(os.pread(self._fd, HEADER.size, offset))
            if number not in STREAMS.values() or offset + HEADER.size + length > size:
                break
            self._stored[path] += length
            self.stdout_bytes, self.stderr_bytes = stdout, stderr
            offset += HEADER.size + length
        return offset
