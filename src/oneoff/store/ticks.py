"""The ledger of crons: what became of each due instant. Written by the scheduler, listed by the API, expired by the
janitor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, func, select

from oneoff import metrics
from oneoff.core.clock import from_us, to_us
from oneoff.core.run import RunStatus
from oneoff.core.ticks import MOST_CAUGHT_UP, TickOutcome
from oneoff.store.counting import when_durable
from oneoff.store.dialect import insert_fast
from oneoff.store.tables import runs, ticks


@dataclass(frozen=True, slots=True)
class Tick:
    """One due instant; with `until`, `count` of them from `due_at` to `until`."""

    cron_id: str
    due_at: datetime
    outcome: TickOutcome
    decided_at: datetime
    run_id: str | None = None
    until: datetime | None = None
    count: int = 1
    message: str | None = None


# Ids do not tell the latest instant: those caught up together have them in any order, and a retry comes late.
_LATEST = (
    select(runs.c.scheduled_for, runs.c.finished_at)
    .where(
        runs.c.cron_id == bindparam("cron_id"),
        runs.c.status == RunStatus.SUCCEEDED.value,
        runs.c.scheduled_for.is_not(None),
    )
    .order_by(runs.c.id.desc())
    .limit(MOST_CAUGHT_UP)
    .subquery()
)
_LAST_SUCCESS = select(_LATEST).order_by(_LATEST.c.scheduled_for.desc()).limit(1)
_NAMES = ("cron_id", "outcome", "run_id", "count", "message", "due_at", "until", "decided_at")


def save_new(connection: Connection, rows: Sequence[Tick]) -> None:
    """An instant that has a row already breaks the transaction: that would be a second firing."""
    if rows:
        insert_fast(connection, ticks, _NAMES, [_to_values(each) for each in rows])
        when_durable(connection, partial(_count, rows))


def list_ticks(
    connection: Connection, cron_id: str, outcome: TickOutcome | None, limit: int, before: datetime | None
) -> list[Tick]:
    """Newest first; `before` is the instant of the last tick of the page before."""
    query = select(ticks).where(ticks.c.cron_id == cron_id).order_by(ticks.c.due_at.desc()).limit(limit)
    if outcome is not None:
        query = query.where(ticks.c.outcome == outcome.value)
    if before is not None:
        query = query.where(ticks.c.due_at < to_us(before))
    return [
        Tick(
            row.cron_id,
            from_us(row.due_at),
            TickOutcome(row.outcome),
            from_us(row.decided_at),
            row.run_id,
            None if row.until is None else from_us(row.until),
            row._mapping["count"],
            row.message,
        )
        for row in connection.execute(query)
    ]


def has_ticks(connection: Connection, cron_id: str) -> bool:
    return bool(connection.execute(select(exists().where(ticks.c.cron_id == cron_id))).scalar_one())


@dataclass(frozen=True, slots=True)
class Success:
    scheduled_for: datetime
    finished_at: datetime


def find_last_success(connection: Connection, cron_id: str) -> Success | None:
    """Of the runs that the cron fired, retries included: that of the latest instant."""
    row = connection.execute(_LAST_SUCCESS, {"cron_id": cron_id}).one_or_none()
    return None if row is None else Success(from_us(row.scheduled_for), from_us(row.finished_at))


def find_last_paused(connection: Connection, cron_id: str) -> datetime | None:
    """The last instant that a pause or a suspended service kept from firing."""
    held = (TickOutcome.PAUSED.value, TickOutcome.SUSPENDED.value)
    query = (
        select(func.coalesce(ticks.c.until, ticks.c.due_at))
        .where(ticks.c.cron_id == cron_id, ticks.c.outcome.in_(held))
        .order_by(ticks.c.due_at.desc())
        .limit(1)
    )
    found = connection.execute(query).scalar()
    return None if found is None else from_us(found)


def find_cron_after(connection: Connection, cron_id: str) -> str | None:
    """Whose ledger comes next in the order of ids; that of a deleted cron too. Begins with ""."""
    return connection.execute(select(func.min(ticks.c.cron_id)).where(ticks.c.cron_id > cron_id)).scalar()


def forget_old(connection: Connection, cron_id: str, kept: int, before: datetime) -> int:
    """All but the newest `kept` rows, and what was due before that time. Returns how many went."""
    own = ticks.c.cron_id == cron_id
    query = select(ticks.c.due_at).where(own).order_by(ticks.c.due_at.desc()).offset(kept).limit(1)
    last_too_many = connection.execute(query).scalar()
    edge = max(to_us(before) - 1, -1 if last_too_many is None else last_too_many)
    return connection.execute(delete(ticks).where(own, ticks.c.due_at <= edge)).rowcount


def _count(rows: Sequence[Tick]) -> None:
    for tick in rows:
        metrics.TICKS.add(tick.outcome, by=tick.count)


def _to_values(tick: Tick) -> tuple[Any, ...]:
    """In the order of _NAMES."""
    until = None if tick.until is None else to_us(tick.until)
    times = (to_us(tick.due_at), until, to_us(tick.decided_at))
    return (tick.cron_id, tick.outcome.value, tick.run_id, tick.count, tick.message, *times)
