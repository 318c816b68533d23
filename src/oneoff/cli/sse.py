"""Parses a stream of server-sent events from raw bytes, as the HTML standard has them. Used by `follow`.

Lines end at LF only (a CR before it is dropped): the characters U+0085, U+2028 and the like belong to a log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    data: bytes


def parse_events(pieces: Iterable[bytes]) -> Iterator[Event]:
    """Complete events only: one that the end of the stream cut short is dropped, and comes again on resuming."""
    name = "message"
    data: list[bytes] = []
    for line in _lines(pieces):
        if not line:
            if data:
                yield Event(name, b"\n".join(data))
            name, data = "message", []
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode()


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    # A list, joined once per line: a 5 MB line in small pieces must not be copied for each of them.
    begun: list[bytes] = []
    for piece in pieces:
        *complete, rest = piece.split(b"\n")
        for part in complete:
            begun.append(part)
            yield b"".join(begun).removesuffix(b"\r")
            begun.clear()
        if rest:
            begun.append(rest)
