"""On what and beside what it was measured: said under each table."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from oneoff import __version__


def describe() -> str:
    """Long: the machine and the versions of everything that takes part."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    engine = _first_line("dockerd", "--version")
    return (
        f"{os.cpu_count()} × {model}, {memory} GB, Linux {platform.release()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, Oneoff {__version__}, {_first_line('crun', '--version')}, "
        f"{_first_line('runc', '--version')}, {engine}, "
        f"command {_first_line('docker', '--version')}"
    )


class Circumstances:
    """Begun before a benchmark, told after it."""

    def __init__(self) -> None:
        self._began = datetime.now(UTC)
        self._load = os.getloadavg()[0]
        self._busy, self._all = _ticks()

    def __str__(self) -> str:
        busy, total = _ticks()
        share = (busy - self._busy) / max(1, total - self._all)
        return (
            f"{self._began:%Y-%m-%d %H:%M} UTC; load before and after: {self._load:.1f}, {os.getloadavg()[0]:.1f}; "
            f"processors busy meanwhile: {share:.0%}"
        )


def _ticks() -> tuple[int, int]:
    """Busy and all ticks of all processors since the boot."""
    fields = [int(word) for word in _lines("/proc/stat")[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _first_line(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return next(iter(done.stdout.splitlines()), f"no {argv[0]}").replace(" version", "")
