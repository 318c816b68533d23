"""The server's own log lines, on stderr, in logfmt: `time=… level=… event="…" key=value …`. Used by server and engine.

Thirty lines of our own, because a library for it costs more memory than the whole engine.
"""

from __future__ import annotations

import sys
import traceback
from datetime import UTC, datetime

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/@+,")


def info(event: str, **fields: object) -> None:
    _write("info", event, fields)


def warning(event: str, **fields: object) -> None:
    _write("warning", event, fields)


def error(event: str, problem: BaseException | None = None, **fields: object) -> None:
    """With the traceback of `problem` on the lines that follow."""
    _write("error", event, fields)
    if problem is not None:
        traceback.print_exception(problem, file=sys.stderr)


def _write(level: str, event: str, fields: dict[str, object]) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    pairs = {"time": now, "level": level, "event": event, **fields}
    print(" ".join(f"{key}={_quoted(value)}" for key, value in pairs.items()), file=sys.stderr, flush=True)  # noqa: T201


def _quoted(value: object) -> str:
    text = str(value)
    if text and set(text) <= _PLAIN:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
