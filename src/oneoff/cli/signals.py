"""What Ctrl-C, TERM and HUP mean to a command that waits for a run. Used by `run`, `attach`, `wait` and `logs`."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from oneoff.cli.problems import Interrupted


@contextmanager
def interrupts(on_first: Callable[[], None] | None = None) -> Iterator[None]:
    """INT and TERM call `on_first` the first time and raise Interrupted afterwards (always, when there is none).

    HUP always raises: the terminal is gone, the run is not. Under nohup it stays ignored.
    """
    remaining = [on_first] if on_first else []

    def handle(number: int, _: FrameType | None) -> None:
        if remaining and number != signal.SIGHUP:
            remaining.pop()()
            return
        raise Interrupted(number)

    wanted = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        wanted.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
