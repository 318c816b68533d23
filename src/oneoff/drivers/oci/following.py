"""A container's log as the contract hands it out: from a position per stream, live, until its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

from oneoff.drivers.driver import LogChunk, LogPosition
from oneoff.drivers.oci.watcher import wait_for_news
from oneoff.logs.reader import LogReader
from oneoff.logs.record import LogRecord

_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.005, 0.25


async def follow(
    folder: Path, position: LogPosition, news: asyncio.Event, has_ended: Callable[[], bool]
) -> AsyncIterator[LogChunk]:
    """`news` only shortens the wait for the end; the log itself is polled, the more often the more it says."""
    pause = _SHORTEST_SECONDS
    with LogReader(folder) as reader:
        while True:
            # Asked before reading: whatever was written before the end is read then.
            ended = has_ended()
            records = reader.read()
            for record in records:
                chunk, position = _to_chunk(record, position)
                if chunk is not None:
                    yield chunk
            if records:
                pause = _SHORTEST_SECONDS
                continue
            if ended:
                return
            news.clear()
            await wait_for_news(pause, news)
            pause = min(pause * 1.5, _LONGEST_SECONDS)


def _to_chunk(record: LogRecord, kept: LogPosition) -> tuple[LogChunk | None, LogPosition]:
    """The part of the record that is not kept yet, and how much is kept with it. Missing bytes count as kept."""
    now = LogPosition(max(kept.stdout, record.stdout), max(kept.stderr, record.stderr))
    fresh = now.stdout - kept.stdout if record.stream == "stdout" else now.stderr - kept.stderr
    if not fresh:
        return None, now
    data = record.data[-fresh:] if fresh < len(record.data) else record.data
    return LogChunk(
        now.stdout + now.stderr, record.stream, datetime.fromtimestamp(record.time_us / 1e6, UTC), data
    ), now
