"""Spans by the OpenTelemetry SDK, sent as OTLP over HTTP. Loaded by `tracing` when traces are wanted.

What OpenTelemetry's own variables say (`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_TRACES_SAMPLER`, …) the SDK reads itself.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from oneoff import __version__, journal
from oneoff.core.run import Run

_MOST_REMEMBERED = 10_000
_BROKEN = 500
_Ids = tuple[int, int]
_next_ids: ContextVar[_Ids | None] = ContextVar("next_ids", default=None)


class Traces:
    def __init__(self, url: str | None, server: str) -> None:
        _tell_trouble_in_the_journal()
        resource = Resource.create(
            {"service.name": "oneoff", "service.version": __version__, "service.instance.id": server}
        )
        self._provider = TracerProvider(resource=resource, id_generator=_RunIds(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
        self._tracer = self._provider.get_tracer("oneoff", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._asked_by: OrderedDict[str, SpanContext] = OrderedDict()  # run id -> the request that made it

    def close(self) -> None:
        self._provider.shutdown()

    @contextmanager
    def request(self, method: str, headers: Sequence[tuple[bytes, bytes]]) -> Iterator[Callable[[str, int], None]]:
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers if name in _CARRIED}
        context = self._propagator.extract(carrier, Context())
        with self._tracer.start_as_current_span(method, context, SpanKind.SERVER) as span:

            def tell(route: str, status: int) -> None:
                span.update_name(f"{method} {route}")
                span.set_attributes(
                    {"http.request.method": method, "http.route": route, "http.response.status_code": status}
                )
                if status >= _BROKEN:
                    span.set_status(Status(StatusCode.ERROR))

            yield tell

    @contextmanager
    def accepting(self) -> Iterator[Callable[[Run], None]]:
        with self._tracer.start_as_current_span("accept") as span:

            def tell(run: Run) -> None:
                span.set_attributes(_attributes(run))
                span.add_link(self._root_of(run))
                self._remember(run.id, span.get_span_context())

            yield tell

    @contextmanager
    def step(self, name: str, run: Run) -> Iterator[None]:
        attributes = {"oneoff.run": run.id}
        with self._tracer.start_as_current_span(name, self._inside(run), attributes=attributes):
            yield

    def tell_end(self, run: Run, status: str, reason: str, times: tuple[datetime | None, datetime]) -> None:
        started_at, finished_at = times
        asked_by = self._asked_by.pop(run.id, None)
        token = _next_ids.set(ids_of(run.id))
        try:
            whole = self._tracer.start_span(
                "run",
                Context(),
                attributes={**_attributes(run), "oneoff.status": status, "oneoff.reason": reason},
                links=[Link(asked_by)] if asked_by else None,
                start_time=_ns(run.created_at),
            )
        finally:
            _next_ids.reset(token)
        self._tell_stretch("wait", run, run.created_at, run.starting_at or started_at or finished_at)
        if started_at is not None:
            self._tell_stretch("command", run, started_at, finished_at)
        _close(whole, finished_at, is_failed=status == "failed", why=reason)

    def _tell_stretch(self, name: str, run: Run, begin: datetime, end: datetime) -> None:
        attributes = {"oneoff.run": run.id}
        self._tracer.start_span(name, self._inside(run), attributes=attributes, start_time=_ns(begin)).end(_ns(end))

    def _root_of(self, run: Run) -> SpanContext:
        """Of the span of the whole run, which is told last. Whether the run is sampled is known by its id."""
        trace_id, span_id = ids_of(run.id)
        decision = self._provider.sampler.should_sample(None, trace_id, "run").decision
        flags = TraceFlags(TraceFlags.DEFAULT if decision is Decision.DROP else TraceFlags.SAMPLED)
        return SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)

    def _inside(self, run: Run) -> Context:
        return trace.set_span_in_context(NonRecordingSpan(self._root_of(run)), Context())

    def _remember(self, run_id: str, context: SpanContext) -> None:
        self._asked_by[run_id] = context
        while len(self._asked_by) > _MOST_REMEMBERED:
            self._asked_by.popitem(last=False)


_CARRIED = frozenset({b"traceparent", b"tracestate"})


class _RunIds(RandomIdGenerator):
    """Random, but for the span of a whole run."""

    def generate_trace_id(self) -> int:
        ids = _next_ids.get()
        return super().generate_trace_id() if ids is None else ids[0]

    def generate_span_id(self) -> int:
        ids = _next_ids.get()
        return super().generate_span_id() if ids is None else ids[1]


def ids_of(run_id: str) -> _Ids:
    """Trace and span of the whole run: the same on every server, before and after a crash."""
    digest = hashlib.sha256(f"oneoff {run_id}".encode()).digest()
    return int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])


def _attributes(run: Run) -> dict[str, str | int]:
    """What a span tells of a run: ids and names, never its command or variables."""
    told = {f"oneoff.{name}": value for name, value in run.ids.items() if value is not None}
    return {**told, "oneoff.service": run.service, "oneoff.trigger": run.trigger.value, "oneoff.attempt": run.attempt}


def _close(span: Span, at: datetime, *, is_failed: bool, why: str) -> None:
    if is_failed:
        span.set_status(Status(StatusCode.ERROR, why))
    span.end(_ns(at))


def _ns(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1_000


class _Journal(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        journal.warning("traces", trouble=record.getMessage())


def _tell_trouble_in_the_journal() -> None:
    logger = logging.getLogger("opentelemetry")
    if not logger.handlers:
        logger.addHandler(_Journal(logging.WARNING))
    logger.propagate = False
