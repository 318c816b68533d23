"""How one piece of output lies in a log file. Written by `writer`, read by `reader` and `archive`.

A record is a header and the bytes as they came:

    stream  u8      1 = stdout, 2 = stderr
    length  u32     bytes of data that follow
    time    u64     microseconds since 1970, UTC
    stdout  u64     bytes of stdout the command had written up to the end of this record
    stderr  u64     bytes of stderr likewise

Both totals count what was written by the command, kept or not, so a reader sees by them where bytes are missing.
Little-endian, no padding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

HEADER = struct.Struct("<BIQQQ")
STREAMS = {"stdout": 1, "stderr": 2}
_NAMES = {1: "stdout", 2: "stderr"}


@dataclass(frozen=True, slots=True)
class LogRecord:
    """Bytes of one stream. `stdout` and `stderr` are the totals up to the end of the record."""

    stream: str
    time_us: int
    stdout: int
    stderr: int
    data: bytes

    @property
    def position(self) -> int:
        """Bytes of both streams up to the end of this record."""
        return self.stdout + self.stderr

    @property
    def begin(self) -> int:
        return self.position - len(self.data)

    def after(self, position: int) -> LogRecord:
        """The part of this record behind `position`."""
        return LogRecord(
            self.stream, self.time_us, self.stdout, self.stderr, self.data[max(0, position - self.begin) :]
        )


def parse_records(buffer: bytes) -> Iterator[tuple[LogRecord, int]]:
    """Complete records at the front of `buffer`, each with the offset of its end. Stops at a torn one."""
    offset = 0
    while offset + HEADER.size <= len(buffer):
        number, length, time_us, stdout, stderr = HEADER.unpack_from(buffer, offset)
        end = offset + HEADER.size + length
        if number not in _NAMES or end > len(buffer):
            return
        yield LogRecord(_NAMES[number], time_us, stdout, stderr, buffer[offset + HEADER.size : end]), end
        offset = end
