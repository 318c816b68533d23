"""How much is going on, in numbers: asked at each scrape of the metrics, so nothing here reads through the history."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, case, func, or_, select

from oneoff.core.clock import from_us, to_us
from oneoff.core.run import GOING, RunStatus
from oneoff.store.held_back import HELD_BACK
from oneoff.store.tables import runs

_BY_STATUS = [
    select(func.count()).select_from(runs).where(runs.c.status == status.value).scalar_subquery().label(status.value)
    for status in GOING
]
_BEGIN = case((runs.c.not_before > runs.c.created_at, runs.c.not_before), else_=runs.c.created_at)
# By id, so by age: the first that fits is the oldest but for back-offs, and nothing is sorted.
_OLDEST = (
    select(_BEGIN)
    .where(runs.c.status == RunStatus.QUEUED.value, ~HELD_BACK)
    .where(or_(runs.c.not_before.is_(None), runs.c.not_before <= bindparam("now")))
    .order_by(runs.c.id)
    .limit(1)
)


def count_going(connection: Connection) -> dict[str, int]:
    """Runs that have not ended, by status."""
    return dict(connection.execute(select(*_BY_STATUS)).one()._mapping)


def find_oldest_waiting(connection: Connection, now: datetime) -> datetime | None:
    """Since when the oldest queued run could begin; None when none could."""
    found = connection.execute(_OLDEST, {"now": to_us(now)}).scalar()
    return None if found is None else from_us(found)
