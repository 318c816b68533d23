"""Ends runs that still wait at the time of day by which they had to end. Called by the dispatcher, and by the executor
for one that has just got its slot."""

from __future__ import annotations

from datetime import datetime

from oneoff.core.outcome import Outcome
from oneoff.core.run import Reason, Run, RunStatus
from oneoff.engine.context import Context
from oneoff.engine.retrying import end_if_queued
from oneoff.store import runs
from oneoff.store.database import Connection
from oneoff.store.runs import End


def find_end(run: Run, now: datetime) -> End | None:
    """How a run that has not started ends; None while there is time."""
    if run.must_end_at is None or run.must_end_at > now:
        return None
    why = f"it had to end by {run.must_end_at:%Y-%m-%d %H:%M} UTC, and had no slot before"
    return End(Outcome(RunStatus.FAILED, Reason.TIMED_OUT), now, message=why)


async def end_overdue(context: Context) -> None:
    """Whatever they wait for: a slot, a group, the plan, or other runs of their job."""
    now = context.clock.now()

    def work(connection: Connection) -> list[Run]:
        ended = []
        for run in runs.list_overdue(connection, now):
            end = find_end(run, now)
            if end is not None and end_if_queued(context, connection, run, end):
                ended.append(run)
        return ended

    if not await context.database.read(lambda c: runs.list_overdue(c, now)):
        return
    for run in await context.database.run(work):
        context.signals.run_changed(run.id)
        context.signals.batch_changed(run.batch_id)
