"""Which queued runs wait for the end of others, because the overlap policy of their cron said so. A condition of the
queries that give slots."""

from __future__ import annotations

from sqlalchemy import and_, exists, or_, tuple_

from oneoff.core.run import ON_NODE, RunStatus, Trigger
from oneoff.store.tables import runs, ticks

_HOLDING = ("queued", "replaced")  # outcomes of core.ticks whose run waits
_ON_NODE = [status.value for status in ON_NODE]

# Of a queued run: its tick decided that it waits for the job's other runs.
IS_HELD = and_(
    runs.c.trigger == Trigger.CRON.value,
    runs.c.status == RunStatus.QUEUED.value,
    exists().where(
        ticks.c.cron_id == runs.c.cron_id, ticks.c.due_at == runs.c.scheduled_for, ticks.c.outcome.in_(_HOLDING)
    ),
)
_others = runs.alias("others")
# And one of them is at work, between two attempts, or older: `core.overlap.is_released` says the same in Python.
HELD_BACK = and_(
    IS_HELD,
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
