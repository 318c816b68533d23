"""The server's own log lines, on stderr. Used by server and engine.

In logfmt, `time=… level=… event="…" key=value …`, or as one JSON object a line. Sixty lines of our own, because a
library for it costs more memory than the whole engine.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from oneoff import metrics

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/@+,")
_about: ContextVar[Mapping[str, object]] = ContextVar("about", default={})  # noqa: B039 - nobody changes a Mapping
_is_json = False


def choose_format(name: str) -> None:
    """`logfmt` or `json`, for the whole process."""
    global _is_json
    _is_json = name == "json"


@contextmanager
def about(**ids: object) -> Iterator[None]:
    """Every line of the block, and of the tasks it starts, carries these ids; those that are None are left out."""
    token = _about.set({**_about.get(), **{name: each for name, each in ids.items() if each is not None}})
    try:
        yield
    finally:
        _about.reset(token)


def info(event: str, **fields: object) -> None:
    _write("info", event, fields)


def warning(event: str, **fields: object) -> None:
    _write("warning", event, fields)


def error(event: str, problem: BaseException | None = None, **fields: object) -> None:
    """With the traceback of `problem`: on the lines that follow, or as a field of the JSON."""
    _write("error", event, fields, problem)


def _write(level: str, event: str, fields: Mapping[str, object], problem: BaseException | None = None) -> None:
    metrics.LOG_LINES.add(level)
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told = {name: value for name, value in fields.items() if value is not None}
    pairs = {"time": now, "level": level, "event": event, **_about.get(), **told}
    trace = "" if problem is None else "".join(traceback.format_exception(problem))
    if _is_json:
        line = json.dumps({**pairs, "traceback": trace} if trace else pairs, default=str) + "\n"
    else:
        line = " ".join(f"{key}={_quoted(value)}" for key, value in pairs.items()) + f"\n{trace}"
    # In one piece: threads write, too.
    sys.stderr.write(line)
    sys.stderr.flush()


def _quoted(value: object) -> str:
    text = str(value)
    if text and set(text) <= _PLAIN:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
