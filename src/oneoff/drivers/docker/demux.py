"""Takes the engine's log stream apart: one record per frame, beginning with its time. Pure; used by `logs`.

Frame: one byte stream (1 stdout, 2 stderr, 3 an error of the engine), three zero bytes, four bytes length, big endian
(Engine API, "Attach to a container", stream format). Anything else is an error, never a guess.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime

from oneoff.errors import EngineUnavailable

STDOUT, STDERR, ENGINE_ERROR = 1, 2, 3
_HEADER = struct.Struct(">B3sL")
# A record is at most 16 KiB and a time in both engines; a length far beyond means that we are out of step.
_LONGEST = 16 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring records of one stream, joined. `time` is that of the first, as the engine wrote it."""

    stream: int
    time: bytes
    data: bytes


class Demultiplexer:
    """Feed it what arrives; it returns what is complete. `finish` tells whether the stream ended between frames."""

    def __init__(self) -> None:
        self._rest = b""
        self.last_frame = b""

    def feed(self, data: bytes) -> list[Piece]:
        buffer = self._rest + data if self._rest else data
        unpack, position, length = _HEADER.unpack_from, 0, len(buffer)
        pieces: list[Piece] = []
        parts: list[bytes] = []
        current, time, start = 0, b"", 0
        while length - position >= 8:
            stream, zeros, size = unpack(buffer, position)
            end = position + 8 + size
            if not 1 <= stream <= 2 or zeros != b"\0\0\0" or size > _LONGEST:
                _raise_for(stream, zeros, size, buffer[position + 8 : end])
            if end > length:
                break
            space = buffer.find(b" ", position + 8, end)
            if space < 0:
                raise EngineUnavailable("a log record of the engine has no time")
            if stream != current:
                if parts:
                    pieces.append(Piece(current, time, b"".join(parts)))
                current, time, parts = stream, buffer[position + 8 : space], []
            parts.append(buffer[space + 1 : end])
            start, position = position, end
        if parts:
            pieces.append(Piece(current, time, b"".join(parts)))
            self.last_frame = buffer[start:position]
        self._rest = buffer[position:]
        return pieces

    def finish(self) -> None:
        """Raises EngineUnavailable when the stream was cut inside a frame."""
        if self._rest:
            raise EngineUnavailable(
                f"the log of the engine was cut inside a record ({len(self._rest)} bytes of it came)"
            )


def to_time(text: bytes) -> datetime:
    """RFC 3339 with up to nine digits, as both engines write it, in UTC."""
    return datetime.fromisoformat(text.decode("ascii")).astimezone(UTC)


def _raise_for(stream: int, zeros: bytes, size: int, words: bytes) -> None:
    if stream == ENGINE_ERROR and zeros == b"\0\0\0" and size <= _LONGEST:
        # "Error grabbing logs: …"; it comes without a time.
        raise EngineUnavailable("the engine broke off its log", words.decode("utf-8", "replace").strip())
    raise EngineUnavailable(f"the log of the engine is out of step (stream {stream}, length {size})")
