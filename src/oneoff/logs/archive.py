"""Finished logs, compressed: Zstandard in frames of about 1 MiB with a seek table. The janitor makes them.

The layout is the Zstandard seekable format (a skippable frame with the sizes of all frames at the end), so `zstd -d`
reads it as well. Each frame holds whole records, so a reader begins at any frame.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oneoff.logs.folder import ARCHIVE, part_paths, read_end, sync_folder
from oneoff.logs.record import HEADER, LogRecord, parse_records

_FRAME_BYTES = 1024 * 1024
_LEVEL = 3
_SKIPPABLE = struct.Struct("<II")  # magic 0x184D2A5E, size
_ENTRY = struct.Struct("<II")  # compressed, decompressed size
_FOOTER = struct.Struct("<IBI")  # number of frames, descriptor, magic 0x8F92EAB1
_SKIPPABLE_MAGIC = 0x184D2A5E
_SEEKABLE_MAGIC = 0x8F92EAB1


def _zstd() -> Any:
    """Imported late: the server starts without it, and supervisors never need it."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def compress_log(folder: Path) -> bool:
    """Replace the parts of an ended log by one archive. False when there is nothing to do. Safe to repeat."""
    parts = part_paths(folder)
    if read_end(folder) is None or not parts:
        return False
    staged = folder / f"{ARCHIVE}.new"
    if not (folder / ARCHIVE).exists():
        with staged.open("wb") as out:
            _write_frames(out, _frames(parts))
            out.flush()
            os.fsync(out.fileno())
        staged.replace(folder / ARCHIVE)
        sync_folder(folder)
    for part in parts:
        part.unlink(missing_ok=True)
    return True


def read_from(path: Path, position: int) -> list[LogRecord]:
    """The records of the frame that reaches beyond `position`; [] behind the last one or when there is no archive."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return []
    with file:
        frames = _seek_table(file)
        for offset, size in frames[_frame_of(file, frames, position) :]:
            records = _records(file, offset, size)
            if records and records[-1].position > position:
                return records
    return []


def _frames(parts: list[Path]) -> Iterator[bytes]:
    held = bytearray()
    for part in parts:
        with part.open("rb") as file:
            while header := file.read(HEADER.size):
                if len(header) < HEADER.size:
                    break
                held += header + file.read(HEADER.unpack(header)[1])
                if len(held) >= _FRAME_BYTES:
                    yield bytes(held)
                    held.clear()
    if held:
        yield bytes(held)


def _write_frames(out: Any, frames: Iterator[bytes]) -> None:
    zstd = _zstd()
    table = bytearray()
    count = 0
    for frame in frames:
        packed = zstd.compress(frame, level=_LEVEL)
        out.write(packed)
        table += _ENTRY.pack(len(packed), len(frame))
        count += 1
    out.write(_SKIPPABLE.pack(_SKIPPABLE_MAGIC, len(table) + _FOOTER.size))
    out.write(table)
    out.write(_FOOTER.pack(count, 0, _SEEKABLE_MAGIC))


def _seek_table(file: Any) -> list[tuple[int, int]]:
    """Offset and compressed size of each frame."""
    file.seek(-_FOOTER.size, os.SEEK_END)
    count, _, magic = _FOOTER.unpack(file.read(_FOOTER.size))
    if magic != _SEEKABLE_MAGIC:
        raise ValueError(f"{file.name} is no log archive")
    file.seek(-_FOOTER.size - count * _ENTRY.size, os.SEEK_END)
    offset = 0
    frames = []
    for packed, _ in _ENTRY.iter_unpack(file.read(count * _ENTRY.size)):
        frames.append((offset, packed))
        offset += packed
    return frames


def _frame_of(file: Any, frames: list[tuple[int, int]], position: int) -> int:
    """The last frame that begins at or before `position`, by bisection."""
    low, high = 0, len(frames) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if _records(file, *frames[middle])[0].begin <= position:
            low = middle
        else:
            high = middle - 1
    return max(0, low)


def _records(file: Any, offset: int, size: int) -> list[LogRecord]:
    file.seek(offset)
    return [record for record, _ in parse_records(_zstd().decompress(file.read(size)))]
