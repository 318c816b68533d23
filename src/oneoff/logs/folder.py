"""The files of one run's log, by name. Used by the writer, the reader and the archive.

00000000000000000000.log   the first part of the log: its name is the position it begins at
00000000000134217801.log   later parts; when the cap is reached the oldest of these go, the first part stays
end.json                   totals, written once when the output has ended
log.zst                    all of it, compressed; then the parts are gone
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

END = "end.json"
ARCHIVE = "log.zst"


@dataclass(frozen=True, slots=True)
class LogEnd:
    """How much the command wrote in all, and how much of it was not kept. In bytes."""

    stdout_bytes: int
    stderr_bytes: int
    missing_bytes: int

    @property
    def position(self) -> int:
        return self.stdout_bytes + self.stderr_bytes


def log_folder(root: Path, run_id: str) -> Path:
    """Where a run's log lies: spread over folders by the last two characters, which are random."""
    return root / run_id[-2:] / run_id


def part_path(folder: Path, position: int) -> Path:
    return folder / f"{position:020d}.log"


def part_paths(folder: Path) -> list[Path]:
    """The parts in the order of their positions; [] when there is no log."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".log"))  # noqa: PTH208 - hot path
    except FileNotFoundError:
        return []
    return [folder / name for name in names]


def read_end(folder: Path) -> LogEnd | None:
    """The totals of an ended log; None while it is being written."""
    try:
        return LogEnd(**json.loads((folder / END).read_bytes()))
    except FileNotFoundError:
        return None


def write_end(folder: Path, end: LogEnd) -> None:
    """Durable when it returns: a crash leaves either no end or this one."""
    text = json.dumps(
        {"stdout_bytes": end.stdout_bytes, "stderr_bytes": end.stderr_bytes, "missing_bytes": end.missing_bytes}
    )
    staged = folder / f"{END}.new"
    fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, text.encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    staged.replace(folder / END)
    sync_folder(folder)


def sync_part(path: Path) -> None:
    """Durable when it returns, whoever wrote it."""
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
