"""What `metrics` and `tracing` are told of a run on its way: its slot, its start, its end. Called by whoever commits
these."""

from __future__ import annotations

from datetime import datetime

from oneoff import metrics, tracing
from oneoff.core.run import Run
from oneoff.store.counting import when_durable
from oneoff.store.dialect import Connection
from oneoff.store.runs import End


def count_slot(run: Run, now: datetime) -> None:
    metrics.RUN_QUEUE_WAIT_SECONDS.observe(_seconds(_could_begin(run), now), run.trigger)


def count_start(run: Run, now: datetime) -> None:
    metrics.RUN_START_SECONDS.observe(_seconds(_could_begin(run), now), run.trigger)


def count_end(connection: Connection, run: Run, end: End) -> None:
    """In the transaction of the end; counted after its commit."""
    outcome = end.outcome
    started_at = end.started_at or run.started_at

    def count() -> None:
        metrics.RUNS_ENDED.add(outcome.status, outcome.reason, run.trigger)
        if started_at is not None:
            metrics.RUN_DURATION_SECONDS.observe(_seconds(started_at, end.finished_at), outcome.status)
        if end.stdout_bytes:
            metrics.LOG_BYTES.add("stdout", by=end.stdout_bytes)
        if end.stderr_bytes:
            metrics.LOG_BYTES.add("stderr", by=end.stderr_bytes)
        if end.missing_bytes:
            metrics.LOG_MISSING_BYTES.add(by=end.missing_bytes)
        tracing.tell_end(run, outcome.status, outcome.reason, (started_at, end.finished_at))

    when_durable(connection, count)


def _could_begin(run: Run) -> datetime:
    return run.created_at if run.not_before is None else max(run.created_at, run.not_before)


def _seconds(begin: datetime, end: datetime) -> float:
    """Never below zero: clocks are set back."""
    return max(0.0, (end - begin).total_seconds())
