"""Whether the disk has room for another run. Asked when runs are accepted."""

from __future__ import annotations

import shutil
from pathlib import Path

from oneoff.core.clock import Clock
from oneoff.core.limits import format_bytes
from oneoff.errors import DiskFull
from oneoff.settings import Settings

_CACHED_SECONDS = 1.0
_seen: dict[Path, tuple[float, int]] = {}  # folder -> when it was looked at, and what was free


def check_room(settings: Settings, clock: Clock) -> None:
    """Raises DiskFull while less than the reserve is free."""
    folder = settings.data_dir
    now = clock.monotonic()
    looked_at, free = _seen.get(folder, (float("-inf"), 0))
    if not 0 <= now - looked_at < _CACHED_SECONDS:
        free = shutil.disk_usage(folder).free
        _seen[folder] = (now, free)
    if free < settings.disk_reserve_bytes:
        raise DiskFull(str(folder), format_bytes(free), format_bytes(settings.disk_reserve_bytes))
