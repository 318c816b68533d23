"""Tells the driver at once when something happens in a container's folder (inotify). Used by start, wait and logs."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from oneoff.drivers.oci import linux
from oneoff.drivers.oci.folder import CONTROL

# A supervisor's end closes its claim: that is an IN_CLOSE_WRITE, whatever killed it.
_MASK = linux.IN_MOVED_TO | linux.IN_CLOSE_WRITE | linux.IN_DELETE_SELF


class Watcher:
    """One inotify descriptor for all containers. News are hints: whoever waits looks again by itself now and then."""

    def __init__(self) -> None:
        self._fd = -1
        self._waiting: dict[int, set[asyncio.Event]] = {}

    @contextmanager
    def watching(self, folder: str) -> Iterator[asyncio.Event]:
        """An event that is set by news of `folder`; never set when the folder is gone."""
        news = asyncio.Event()
        if self._fd < 0:
            self._fd = linux.watch_open()
            asyncio.get_running_loop().add_reader(self._fd, self._on_news)
        number = -1
        with contextlib.suppress(FileNotFoundError):
            number = linux.watch_add(self._fd, folder, _MASK)
            self._waiting.setdefault(number, set()).add(news)
        try:
            yield news
        finally:
            # The watch itself ends with the folder: removing it costs more than a run's news.
            self._waiting.get(number, set()).discard(news)

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
        self._fd = -1
        self._waiting.clear()

    def _on_news(self) -> None:
        for number, kind, name in linux.watch_read(self._fd):
            # What we wrote into the FIFO ourselves is no news, nor are facts that have no name yet.
            if name == CONTROL or name.endswith(".new"):
                continue
            for news in self._waiting.get(number, ()):
                news.set()
            if kind & linux.IN_IGNORED:
                self._waiting.pop(number, None)


async def wait_for_news(seconds: float, *events: asyncio.Event) -> None:
    """Until one of them is set, at most `seconds`."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
