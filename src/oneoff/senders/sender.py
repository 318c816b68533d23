"""What all senders of log lines are like, and how they fail. Used by the engine's deliveries and by the operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from oneoff.core.log_lines import LogLine
from oneoff.core.log_origin import LogOrigin

Lines = Sequence[tuple[LogOrigin, LogLine]]


class SendFailed(Exception):
    """The receiver cannot be had, or takes nothing now. `str` is for people and holds no token; `wait_seconds` is what
    the receiver asks for before the next try."""

    def __init__(self, why: str, wait_seconds: float | None = None) -> None:
        super().__init__(why)
        self.wait_seconds = wait_seconds


class Sender(Protocol):
    """One at a time calls `send`. After SendFailed the caller calls `close`, and may send again."""

    acknowledges: bool  # what `send` returned from needs no waiting: it has arrived, or nobody will ever know (UDP)

    @property
    def connected_since(self) -> datetime | None: ...

    @property
    def failure(self) -> str | None:
        """Why the connection is lost: told without anybody having sent, and then by `on_failure`."""

    def on_failure(self, call: Callable[[], None]) -> None: ...

    async def check(self) -> None:
        """Whether the receiver is there, as far as can be known without a line. Raises SendFailed."""

    async def send(self, lines: Lines) -> int:
        """In their order. Returns how many bytes were sent on this connection since it began. Raises SendFailed; then
        some of the lines may have arrived."""

    def arrived(self) -> int:
        """Of those bytes, how many the machine of the receiver has confirmed at least."""

    def refused(self) -> int:
        """How many lines the receiver did not want for what they are, since the last call: they are lost."""

    async def close(self) -> None:
        """Safe to call twice."""
