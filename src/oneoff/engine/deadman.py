"""The dead-man alert of a cron: no success for so many expected ticks raises one event, until the next success. Called
by the scheduler at each tick of a cron that wants it, in the tick's transaction."""

from __future__ import annotations

from datetime import datetime, timedelta

from oneoff.core.clock import to_text
from oneoff.core.ticks import is_overdue
from oneoff.engine.context import Context
from oneoff.engine.events import cron_facts, record
from oneoff.engine.ledger import schedule_of
from oneoff.store import ticks
from oneoff.store.crons import Cron
from oneoff.store.database import Connection

OVERDUE, RECOVERED = "cron.overdue", "cron.recovered"


def watch_success(context: Context, connection: Connection, cron: Cron, now: datetime) -> datetime | None:
    """When the alert was raised, None when all is well. Ticks that came due before this one count: each had the time
    until the next to succeed."""
    if cron.alert_after_ticks is None or cron.is_paused or cron.suspended or cron.next_due_at is None:
        return cron.alerted_at
    success = ticks.find_last_success(connection, cron.id)
    if cron.alerted_at is not None and (success is None or success.finished_at <= cron.alerted_at):
        return cron.alerted_at
    since = cron.created_at if success is None else max(cron.created_at, success.scheduled_for)
    if not _is_overdue(cron, since):
        if cron.alerted_at is not None:
            _record(context, connection, cron, RECOVERED, since)
        return None
    # Only now: ticks that a pause kept back were not expected to succeed.
    paused = ticks.find_last_paused(connection, cron.id)
    if paused is not None and not _is_overdue(cron, max(since, paused)):
        return cron.alerted_at
    _record(context, connection, cron, OVERDUE, since)
    return now


def _is_overdue(cron: Cron, since: datetime) -> bool:
    assert cron.next_due_at is not None
    assert cron.alert_after_ticks is not None
    before_this = cron.next_due_at - timedelta(microseconds=1) - timedelta(seconds=cron.jitter_seconds)
    return is_overdue(schedule_of(cron), since, before_this, cron.alert_after_ticks, timedelta(0))


def _record(context: Context, connection: Connection, cron: Cron, kind: str, since: datetime) -> None:
    more = {"expected_ticks": cron.alert_after_ticks, "last_success_at": to_text(since)}
    record(context, connection, kind, cron.id, {**cron_facts(cron), **more}, cron.service_id)
