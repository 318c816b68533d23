"""What overlap policies ask about: the runs of a job that have not ended. Called by the scheduler in the transaction of
a tick."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from sqlalchemy import Connection, select, update

from oneoff.core.clock import from_us
from oneoff.core.overlap import Going
from oneoff.core.run import RunStatus, Trigger
from oneoff.store.held_back import HELD_BACK, IS_HELD
from oneoff.store.tables import jobs, runs

_GOING = select(
    runs.c.id,
    runs.c.job_id,
    runs.c.cron_id,
    runs.c.trigger,
    runs.c.status,
    runs.c.attempt,
    runs.c.created_at,
    IS_HELD.label("is_held"),
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


def lock_jobs(connection: Connection, job_ids: Collection[str]) -> Collection[str]:
    """So that two crons of one job are not decided by two servers at once, each blind to the other's run. Returns those
    that nobody else has in hand. A true update, not only a lock: a transaction that began before another one decided
    starts over, and sees what that one did."""
    if connection.dialect.name == "sqlite":  # there only one writes at a time
        return job_ids
    free = select(jobs.c.id).where(jobs.c.id.in_(job_ids)).with_for_update(key_share=True, skip_locked=True)
    locked = set(connection.execute(free).scalars())
    connection.execute(update(jobs).where(jobs.c.id.in_(locked)).values(updated_at=jobs.c.updated_at))
    return locked
