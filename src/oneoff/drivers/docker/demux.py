"""Takes the engine's output apart: frames, and in its log one record each. Pure; used by `logs` and `live`.

Frame: one byte stream (1 stdout, 2 stderr, 3 an error of the engine), three zero bytes, four bytes length, big endian
(Engine API, "Attach to a container", stream format). Anything else is an error, never a guess.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime

from oneoff.errors import EngineUnavailable

ENGINE_ERROR = 3
_HEADER = struct.Struct(">B3sL")
# A record is at most 16 KiB and a time in both engines; a length far beyond means that we are out of step.
_LONGEST = 16 << 20
_NEWLINE = 10


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring frames of one stream, joined. `time` is that of the first, empty where frames have none."""

    stream: int
    time: bytes
    data: bytes


class Demultiplexer:
    """Feed it what arrives; it returns what is complete, and `finish` tells what was held back.

    With times, frames are records of a log. Docker's `local` log cuts lines at 16 KiB into records of the same time and
    loses the newline after the last of them. It is put back when the next record of the stream has another time. At the
    end of a stream nobody can tell: `finish` puts it back too, and `is_newline_assumed` says for which streams.
    """

    def __init__(self, *, has_times: bool = True, mends_newlines: bool = False) -> None:
        self.is_newline_assumed: set[int] = set()
        self._rest = b""
        self._has_times = has_times
        self._mends = mends_newlines
        # Of each stream: time of the record that ended without a newline, and whether others of that time came before.
        self._open: dict[int, tuple[bytes, bool]] = {}

    def feed(self, data: bytes) -> list[Piece]:
        buffer = self._rest + data if self._rest else data
        unpack, position, length = _HEADER.unpack_from, 0, len(buffer)
        pieces: list[Piece] = []
        parts: list[bytes] = []
        current, time = 0, b""
        has_times, mends, still_open = self._has_times, self._mends, self._open
        while length - position >= 8:
            stream, zeros, size = unpack(buffer, position)
            start, end = position + 8, position + 8 + size
            if not 1 <= stream <= 2 or zeros != b"\0\0\0" or size > _LONGEST:
                _raise_for(stream, zeros, size, buffer[start:end])
            if end > length:
                break
            space = buffer.find(b" ", start, end) if has_times else start - 1
            if space < 0:
                raise EngineUnavailable("a log record of the engine has no time")
            if stream != current:
                if parts:
                    pieces.append(Piece(current, time, b"".join(parts)))
                current, parts, time = stream, [], buffer[start:space]
            if mends and (stream in still_open or buffer[end - 1] != _NEWLINE):
                parts += self._mend(stream, buffer[start:space], buffer[space + 1 : end])
            start = space + 1
            parts.append(buffer[start:end])
            position = end
        if parts:
            pieces.append(Piece(current, time, b"".join(parts)))
        self._rest = buffer[position:]
        return pieces

    def finish(self) -> list[Piece]:
        """Raises EngineUnavailable when the stream was cut inside a frame."""
        if self._rest:
            raise EngineUnavailable(f"the engine's output was cut inside a frame ({len(self._rest)} bytes of it came)")
        self.is_newline_assumed = {stream for stream, (_, is_cut) in self._open.items() if is_cut}
        return [Piece(stream, self._open[stream][0], b"\n") for stream in sorted(self.is_newline_assumed)]

    def _mend(self, stream: int, time: bytes, data: bytes) -> list[bytes]:
        """The newline that belongs before this record, if one does."""
        before = self._open.pop(stream, None)
        continues = before is not None and before[0] == time
        if not data.endswith(b"\n"):
            self._open[stream] = (time, continues)
        return [b"\n"] if before is not None and not continues else []


def to_time(text: bytes) -> datetime:
    """RFC 3339 with up to nine digits, as both engines write it, in UTC."""
    return datetime.fromisoformat(text.decode("ascii")).astimezone(UTC)


def _raise_for(stream: int, zeros: bytes, size: int, words: bytes) -> None:
    if stream == ENGINE_ERROR and zeros == b"\0\0\0" and size <= _LONGEST:
        # "Error grabbing logs: …"; it comes without a time.
        raise EngineUnavailable("the engine broke off its log", words.decode("utf-8", "replace").strip())
    raise EngineUnavailable(f"the engine's output is out of step (stream {stream}, length {size})")
