"""Where bytes and words go: a command's output to stdout and stderr as it is, our own words to stderr only.

Used by everything that follows a run.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

_NOTICE_EVERY_SECONDS = 60.0


class Output:
    """The command's two streams, each flushed with every piece. When `to_stderr`, stdout is kept for a document.

    A reader that went away (`| head`) ends nothing: the rest for it is dropped, as the exit code still counts.
    """

    def __init__(self, *, to_stderr: bool = False, stop_when_closed: bool = False) -> None:
        sys.stdout.flush()
        self._files: dict[str, BinaryIO | None] = {
            "stdout": sys.stderr.buffer if to_stderr else sys.stdout.buffer,
            "stderr": sys.stderr.buffer,
        }
        self._stop_when_closed = stop_when_closed

    def write(self, stream: str, data: bytes) -> None:
        """Raises BrokenPipeError only with `stop_when_closed`, and OSError for a full disk and the like."""
        file = self._files[stream]
        if file is None:
            return
        try:
            file.write(data)
            file.flush()
        except OSError as problem:
            discard(file)
            if self._stop_when_closed or not isinstance(problem, BrokenPipeError):
                raise
            self._files[stream] = None


class Narrator:
    """Our own words, one line each, on stderr. A closed stderr silences them and nothing else."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet

    def progress(self, line: str) -> None:
        """What --quiet hides."""
        if not self.quiet:
            self.warn(line)

    def warn(self, line: str) -> None:
        # Not through Python's buffer: a signal handler that speaks while the main thread is in there would fail with
        # "reentrant call inside <_io.BufferedWriter>". What the others write is always flushed.
        try:
            os.write(sys.stderr.fileno(), f"{line}\n".encode(errors="replace"))
        except BlockingIOError:
            return
        except OSError:
            discard(sys.stderr.buffer)


class LostConnection:
    """Told once in a while, not for every attempt of an outage. `meanwhile` says what goes on at the server."""

    def __init__(self, say: Callable[[str], None], meanwhile: str = "") -> None:
        self._say = say
        self._meanwhile = f" ({meanwhile} goes on meanwhile)" if meanwhile else ""
        self._told_at = float("-inf")

    def tell(self) -> None:
        if time.monotonic() - self._told_at > _NOTICE_EVERY_SECONDS:
            self._say(f"connection to the server lost; trying until it is back{self._meanwhile}")
            self._told_at = time.monotonic()


def discard(file: BinaryIO) -> None:
    """Send what is still buffered, and all that follows, nowhere: Python would complain about it at its exit."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file.fileno())
        os.close(nowhere)
