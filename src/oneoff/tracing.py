"""Spans of requests and runs, for OpenTelemetry. Off, which is the default, nothing is loaded and nothing is done.

The engine and the API call this module; `otel` does the work once `begin` was called. A run's trace is found by its id
alone, so the spans that two servers tell of one run, before and after a crash, are in the same trace.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from oneoff.core.run import Run
from oneoff.errors import SettingsInvalid

if TYPE_CHECKING:
    from datetime import datetime

    from oneoff.otel import Traces

# Told at the end of a request: the template of its address, and the status.
TellAnswer = Callable[[str, int], None]
_URLS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_OFF: AbstractContextManager[None] = nullcontext()
_traces: Traces | None = None


def is_wanted(url: str | None, environment: Mapping[str, str]) -> bool:
    """By our setting, or by OpenTelemetry's own variables, which may also turn it off."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return url is not None or any(environment.get(name) for name in _URLS)


def begin(url: str | None, server: str) -> None:
    """`server` tells apart those of one installation. Raises SettingsInvalid when the libraries are not there."""
    global _traces
    if not is_wanted(url, os.environ):
        return
    try:
        from oneoff.otel import Traces
    except ImportError as problem:
        missing = f"traces need a library that is not here ({problem.name}): install 'oneoff[otel]'"
        raise SettingsInvalid([missing]) from problem
    _traces = Traces(url, server)


def end() -> None:
    """What was not sent yet is sent now, for some seconds at most."""
    global _traces
    traces, _traces = _traces, None
    if traces is not None:
        traces.close()


def request(method: str, headers: Sequence[tuple[bytes, bytes]]) -> AbstractContextManager[TellAnswer | None]:
    """Around a request; in the trace that its `traceparent` names, if it has one."""
    return _OFF if _traces is None else _traces.request(method, headers)


def accepting() -> AbstractContextManager[Callable[[Run], None] | None]:
    """Around the acceptance of a run, in the trace of its request; told which run it became."""
    return _OFF if _traces is None else _traces.accepting()


def step(name: str, run: Run) -> AbstractContextManager[None]:
    """Around a step on the way of a run, in the run's trace."""
    return _OFF if _traces is None else _traces.step(name, run)


def tell_end(run: Run, status: str, reason: str, times: tuple[datetime | None, datetime]) -> None:
    """The whole of a run, from its acceptance; `times` are those of its command."""
    if _traces is not None:
        _traces.tell_end(run, status, reason, times)
