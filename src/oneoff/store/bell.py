"""Tells an event loop that events were committed. Rung by the threads of `database` and `sqlite`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress


class Bell:
    """Nobody listens at first."""

    def __init__(self) -> None:
        self._listener: tuple[asyncio.AbstractEventLoop, Callable[[], object]] | None = None

    def listen(self, call: Callable[[], object]) -> None:
        """`call` is called in the event loop of whoever calls this."""
        self._listener = asyncio.get_running_loop(), call

    def ring(self) -> None:
        """From any thread; never raises: a loop that is gone must not end a thread that writes for others."""
        if self._listener is not None:
            loop, call = self._listener
            with suppress(RuntimeError):  # "Event loop is closed"
                loop.call_soon_threadsafe(call)
