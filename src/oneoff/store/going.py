"""What overlap policies ask about: the runs of a job that have not ended. Called by the scheduler in the transaction of
a tick; `HELD_BACK` keeps a run that waits for others out of every slot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from sqlalchemy import Connection, and_, exists, or_, select, tuple_, update

from oneoff.core.clock import from_us
from oneoff.core.overlap import Going
from oneoff.core.run import ON_NODE, RunStatus, Trigger
from oneoff.core.ticks import TickOutcome
from oneoff.store.tables import jobs, runs, ticks

_HOLDING = (TickOutcome.QUEUED.value, TickOutcome.REPLACED.value)
_ON_NODE = [status.value for status in ON_NODE]

# Of a queued run: its tick decided that it waits for the job's other runs.
_IS_HELD = and_(
    runs.c.trigger == Trigger.CRON.value,
    runs.c.status == RunStatus.QUEUED.value,
    exists().where(
        ticks.c.cron_id == runs.c.cron_id, ticks.c.due_at == runs.c.scheduled_for, ticks.c.outcome.in_(_HOLDING)
    ),
)
_others = runs.alias("others")
# And one of them is at work, between two attempts, or older: `core.overlap.is_released` says the same in Python.
HELD_BACK = and_(
    _IS_HELD,
    exists().where(
        _others.c.job_id == runs.c.job_id,
        _others.c.finished_at.is_(None),
        _others.c.id != runs.c.id,
        or_(
            _others.c.status.in_(_ON_NODE),
            _others.c.attempt > 1,
            tuple_(_others.c.created_at, _others.c.id) < tuple_(runs.c.created_at, runs.c.id),
        ),
    ),
)
_GOING = select(
    runs.c.id,
    runs.c.job_id,
    runs.c.cron_id,
    runs.c.trigger,
    runs.c.status,
    runs.c.attempt,
    runs.c.created_at,
    _IS_HELD.label("is_held"),
)


def fetch_going(connection: Connection, job_ids: Collection[str]) -> dict[str, list[Going]]:
    """By job, whatever triggered them."""
    found: dict[str, list[Going]] = defaultdict(list)
    for row in connection.execute(_GOING.where(runs.c.job_id.in_(job_ids), runs.c.finished_at.is_(None))):
        found[row.job_id].append(
            Going(
                run_id=row.id,
                origin=Trigger(row.trigger) if row.cron_id is None else Trigger.CRON,
                created_at=from_us(row.created_at),
                is_held=bool(row.is_held),
                has_started=row.status != RunStatus.QUEUED.value or row.attempt > 1,
            )
        )
    return found


def is_held_back(connection: Connection, run_id: str) -> bool:
    """Must this queued run wait for the end of others? Asked in the transaction that would start it."""
    return connection.execute(select(runs.c.id).where(runs.c.id == run_id, HELD_BACK)).first() is not None


def lock_jobs(connection: Connection, job_ids: Collection[str]) -> None:
    """So that two crons of one job are not decided by two servers at once, each blind to the other's run. A true
    update, not a lock: the one that comes second starts over and sees what the first one did."""
    if connection.dialect.name != "sqlite":  # there only one writes at a time
        ordered = select(jobs.c.id).where(jobs.c.id.in_(job_ids)).order_by(jobs.c.id).with_for_update()
        connection.execute(ordered)
        connection.execute(update(jobs).where(jobs.c.id.in_(job_ids)).values(updated_at=jobs.c.updated_at))
