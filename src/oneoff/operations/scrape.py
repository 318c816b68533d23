"""What `metrics` says at this moment, as text: what was counted, and what is looked up for it. Asked by the API."""

from __future__ import annotations

import os
import platform
import resource
import shutil
from datetime import datetime
from pathlib import Path

from oneoff import __version__, metrics
from oneoff.errors import OneoffError
from oneoff.meters import render
from oneoff.operations.context import Context
from oneoff.store import backlog
from oneoff.store.dialect import Connection

_LOOK_AGAIN_SECONDS = 1.0  # who asks more often hears of the queue what was so then
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Scrape:
    """One per server process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._looked_at: float | None = None

    async def render(self) -> str:
        """Also while the database does not answer: without what only it knows."""
        now = self._context.clock.monotonic()
        if self._looked_at is None or now - self._looked_at >= _LOOK_AGAIN_SECONDS:
            self._looked_at = now
            await self._look()
        return render(metrics.METERS)

    async def _look(self) -> None:
        context, now = self._context, self._context.clock.now()

        def work(connection: Connection) -> tuple[dict[str, int], datetime | None]:
            return backlog.count_going(connection), backlog.find_oldest_waiting(connection, now)

        try:
            going, oldest = await context.database.read(work)
        except OneoffError:
            metrics.RUNS.forget()
            metrics.QUEUE_OLDEST_SECONDS.forget()
        else:
            for status, count in going.items():
                metrics.RUNS.set(count, status)
            metrics.QUEUE_OLDEST_SECONDS.set(max(0.0, (now - oldest).total_seconds()) if oldest else 0)
        self._look_at_machine()
        look_at_process()

    def _look_at_machine(self) -> None:
        settings = self._context.settings
        metrics.SLOTS.set(settings.slots)
        metrics.DATA_FREE_BYTES.set(shutil.disk_usage(settings.data_dir).free)
        metrics.DATA_RESERVE_BYTES.set(settings.disk_reserve_bytes)
        if settings.database_url is None:
            metrics.STORE_BYTES.set(sum(_size(settings.data_dir / f"oneoff.db{end}") for end in ("", "-wal")))
        kind = "sqlite" if settings.store_url.startswith("sqlite") else "postgresql"
        driver, engine = self._context.driver.name, self._context.facts.engine
        metrics.BUILD_INFO.set(1, __version__, platform.python_version(), driver, engine, kind)


def look_at_process() -> None:
    """From /proc, by proc(5)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    metrics.PROCESS_CPU_SECONDS.reach((int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND)
    metrics.PROCESS_THREADS.set(int(fields[17]))
    metrics.PROCESS_START.set(int(booted.split()[1]) + int(fields[19]) / _TICKS_PER_SECOND)
    metrics.PROCESS_VIRTUAL_MEMORY.set(int(fields[20]))
    metrics.PROCESS_MEMORY.set(int(fields[21]) * resource.getpagesize())
    metrics.PROCESS_FDS.set(len(os.listdir("/proc/self/fd")))  # noqa: PTH208 - names are enough
    metrics.PROCESS_MOST_FDS.set(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
