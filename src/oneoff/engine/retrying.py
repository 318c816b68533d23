"""Ends an attempt, records it, and puts the next one into the queue, in one transaction: nothing is lost or doubled by
a crash. Called by whoever ends runs.
"""

from __future__ import annotations

from oneoff.core.outcome import StopKind
from oneoff.core.retry import next_attempt_at
from oneoff.core.retry_text import from_text
from oneoff.core.run import Run, Trigger
from oneoff.engine.again import insert_again
from oneoff.engine.census import count_end
from oneoff.engine.context import Context
from oneoff.engine.events import record_ended
from oneoff.store import runs
from oneoff.store.dialect import Connection
from oneoff.store.runs import End


def end_if_leased(context: Context, connection: Connection, run: Run, lease: str | None, end: End) -> bool:
    """As `store.runs.end_if_leased`, with the attempt that follows."""
    applied = runs.end_if_leased(connection, run.id, lease, end)
    if applied:
        _follow_up(context, connection, run, end)
    return applied


def end_if_queued(context: Context, connection: Connection, run: Run, end: End) -> bool:
    """As `store.runs.end_if_queued`, with the attempt that follows."""
    applied = runs.end_if_queued(connection, run.id, end)
    if applied:
        _follow_up(context, connection, run, end)
    return applied


def _follow_up(context: Context, connection: Connection, run: Run, end: End) -> None:
    # The row in hand may be as old as the start: the run may have been extended, or canceled, since.
    run = runs.get_run(connection, run.id)
    count_end(connection, run, end)
    again = _retry(context, connection, run, end)
    record_ended(context, connection, run, end, None if again is None else again.id)


def _retry(context: Context, connection: Connection, run: Run, end: End) -> Run | None:
    """The next attempt, if there is to be one. `run` is the row as it is now: an extension is for the next one, too."""
    if run.retries is None:
        return None
    policy = from_text(run.retries)
    begins = next_attempt_at(policy, run.attempt, end.outcome, end.finished_at, run.must_end_at)
    # Somebody who asked for its end does not want another one, even if the command was faster.
    if begins is None or run.stop_kind == StopKind.CANCEL:
        return None
    return insert_again(
        context,
        connection,
        run,
        trigger=Trigger.RETRY,
        attempt=run.attempt + 1,
        retry_of=run.id,
        not_before=begins,
    )
