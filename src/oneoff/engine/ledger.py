"""Between the rows of a cron and the pure rules of its ticks. Used by the scheduler, and by the operations that pause,
resume or change crons: what was due until then enters the ledger under what held until then."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache

from oneoff.core.cron import Timing, next_instant
from oneoff.core.cron_expression import parse_cron
from oneoff.core.dst import DstPolicy
from oneoff.core.ticks import PUNCTUAL, Absence, DueTicks, LedgerRow, Schedule, TickOutcome, next_fire, settle
from oneoff.engine.context import Context
from oneoff.engine.events import record_ticks
from oneoff.store import crons, ticks
from oneoff.store.crons import Cron, CursorMove
from oneoff.store.database import Connection
from oneoff.store.ticks import Tick
from oneoff.zones import find_zone


@lru_cache(maxsize=16_384)
def timing_of(expression: str, zone: str, policy: DstPolicy) -> Timing:
    """Raises InvalidCron, UnknownTimeZone."""
    return Timing(parse_cron(expression), find_zone(zone), policy)


def schedule_of(cron: Cron) -> Schedule:
    return Schedule(
        cron_id=cron.id,
        timing=timing_of(cron.expression, cron.zone, cron.dst_policy),
        catch_up=cron.catch_up,
        window_seconds=cron.catch_up_seconds,
        jitter_seconds=cron.jitter_seconds,
        starts_at=cron.starts_at,
        ends_at=cron.ends_at,
    )


def absences_of(cron: Cron, deploys: Iterable[tuple[datetime, datetime | None]]) -> list[Absence]:
    """Why instants since the cursor do not fire. A pause covers all of them: when it began, the ledger was brought up
    to that moment. `deploys` are those of its service, from their begin to their end."""
    if cron.is_paused:
        return [Absence(cron.cursor, None, TickOutcome.PAUSED)]
    if cron.suspended:
        return [Absence(cron.cursor, None, TickOutcome.SUSPENDED)]
    if cron.hold_during_deploy:
        return [Absence(begin, end, TickOutcome.HELD_BY_DEPLOY) for begin, end in deploys]
    return []


def to_ticks(cron: Cron, rows: Iterable[LedgerRow], now: datetime, message: str | None = None) -> list[Tick]:
    return [
        Tick(
            cron_id=cron.id,
            due_at=row.first,
            outcome=row.outcome,
            decided_at=now,
            until=row.last if row.count > 1 else None,
            count=row.count,
            message=message,
        )
        for row in rows
    ]


def move_of(cron: Cron, cursor: datetime, alerted_at: datetime | None) -> CursorMove:
    schedule = schedule_of(cron)
    due = next_fire(schedule, cursor) if _is_special(schedule) else _next_instant(schedule.timing, cursor)
    return CursorMove(cron.id, cron.version, cursor, due, alerted_at)


def settle_due(schedule: Schedule, cursor: datetime, now: datetime, absences: Sequence[Absence]) -> DueTicks:
    """`settle`, with a short way for what nearly all are: one instant, on time, and nothing in its way. Crons that were
    fired together share what is computed here."""
    if not absences and not _is_special(schedule):
        first = _next_instant(schedule.timing, cursor)
        if first is not None and now - PUNCTUAL <= first <= now:
            second = _next_instant(schedule.timing, first)
            if second is None or second > now:
                return DueTicks((first,), (), now)
    return settle(schedule, cursor, now, absences)


def _is_special(schedule: Schedule) -> bool:
    return bool(schedule.jitter_seconds or schedule.starts_at or schedule.ends_at)


def _next_instant(timing: Timing, after: datetime) -> datetime | None:
    # Instants are whole seconds, so that all moments within one second have the same next one.
    return _next_instant_of_second(timing, after.replace(microsecond=0))


@lru_cache(maxsize=4096)
def _next_instant_of_second(timing: Timing, after: datetime) -> datetime | None:
    return next_instant(timing, after)


def record_until(context: Context, connection: Connection, cron: Cron, now: datetime, why: str) -> datetime:
    """Bring the ledger up to `now` and fire nothing, because what the cron does changes at this moment. Returns the
    cursor. The caller writes it, or calls `settle_all`."""
    closed = absences_of(cron, ()) or [Absence(now, None, TickOutcome.PAUSED)]
    due = settle(schedule_of(cron), cron.cursor, now, closed)
    decided = to_ticks(cron, due.rows, now, why)
    ticks.save_new(connection, decided)
    record_ticks(context, connection, cron, decided)
    return due.cursor


def settle_all(context: Context, connection: Connection, affected: Sequence[Cron], now: datetime, why: str) -> None:
    """`record_until` for many, with their cursors. The crons were read, and locked, in this transaction."""
    moves = [move_of(cron, record_until(context, connection, cron, now, why), cron.alerted_at) for cron in affected]
    moved = crons.move_cursors_if_unchanged(connection, moves)
    assert moved, "rows that are locked do not change"
