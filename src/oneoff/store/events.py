"""Events: what happened that somebody may want to be told. Recorded by the engine and the operations, listed by the
API, read in order by the deliverer, expired by the janitor.

What a transaction records is written by `database` right before its commit, all at once: so `seq` grows in the order of
commits, and a reader that has come to one of them never misses one before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, union_all

from oneoff import metrics
from oneoff.core.clock import from_us, to_us
from oneoff.errors import NotFound
from oneoff.store.counting import when_durable
from oneoff.store.dialect import insert_fast, lock_order
from oneoff.store.tables import events

_COLUMNS = ("id", "workspace_id", "service_id", "kind", "subject_id", "body", "created_at")
_PENDING = "oneoff_events"
_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` is one of core.events.KINDS; `subject_id` the cron, run, deploy … that it is about. `seq` is 0 until it is
    committed."""

    id: str
    workspace_id: str
    kind: str
    subject_id: str
    created_at: datetime
    body: Mapping[str, Any] = field(default_factory=dict)
    service_id: str | None = None
    seq: int = 0


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a list shows; None = any."""

    kinds: Sequence[str] | None = None
    subject_id: str | None = None
    service_id: str | None = None


def save_new(connection: Connection, event: Event) -> None:
    """In the transaction of what it tells of, so that neither is without the other. The transaction itself cannot see
    it."""
    body = _encode(event.body)
    ids = (event.id, event.workspace_id, event.service_id)
    row = (*ids, event.kind, event.subject_id, body, to_us(event.created_at))
    connection.info.setdefault(_PENDING, []).append(row)


def drop_pending(connection: Connection) -> None:
    """What a transaction recorded that did not come to its end."""
    connection.info.pop(_PENDING, None)


def write_pending(connection: Connection) -> bool:
    """The last statement of a transaction, called by `database`. True when there was something."""
    rows = connection.info.pop(_PENDING, None)
    if not rows:
        return False
    lock_order(connection)
    insert_fast(connection, events, _COLUMNS, rows)
    when_durable(connection, lambda: _count(rows))
    return True


def get_event(connection: Connection, workspace_id: str, event_id: str) -> Event:
    """Raises NotFound."""
    query = select(events).where(events.c.id == event_id, events.c.workspace_id == workspace_id)
    if (row := connection.execute(query).one_or_none()) is None:
        raise NotFound("event", event_id, "`oneoff events` shows the newest ones; old ones expire")
    return _to_event(row)


def list_events(
    connection: Connection, workspace_id: str, wanted: EventFilter, limit: int, before: int | None
) -> list[Event]:
    """Newest first; `before` is the `seq` of the last event of the page before."""
    guards = [] if before is None else [events.c.seq < before]
    return _select(connection, workspace_id, wanted, limit, (events.c.seq.desc(), guards))


def list_after(connection: Connection, workspace_id: str, wanted: EventFilter, limit: int, after: int) -> list[Event]:
    """In the order in which they were committed."""
    return _select(connection, workspace_id, wanted, limit, (events.c.seq, [events.c.seq > after]))


def find_last_seq(connection: Connection) -> int:
    """Of all events; 0 when there are none."""
    return int(connection.execute(select(func.coalesce(func.max(events.c.seq), 0))).scalar_one())


def forget_old(connection: Connection, before: datetime, read_up_to: int | None, most: int) -> int:
    """Some of the oldest, at most `most`: those of before that time, none behind `read_up_to` (None = all are read).
    Returns how many went."""
    oldest = select(events.c.seq).order_by(events.c.seq).limit(most)
    guards = [events.c.seq.in_(oldest), events.c.created_at < to_us(before)]
    if read_up_to is not None:
        guards.append(events.c.seq <= read_up_to)
    return connection.execute(delete(events).where(*guards)).rowcount


def _select(
    connection: Connection, workspace_id: str, wanted: EventFilter, limit: int, order: tuple[Any, list[Any]]
) -> list[Event]:
    by, guards = order
    guards = [events.c.workspace_id == workspace_id, *guards]
    for name in ("subject_id", "service_id"):
        if (value := getattr(wanted, name)) is not None:
            guards.append(events.c[name] == value)
    if wanted.kinds is not None:
        # One kind at a time, each by its index, as for the statuses of runs.
        of_each = [
            select(events.c.seq).where(*guards, events.c.kind == kind).order_by(by).limit(limit).subquery()
            for kind in dict.fromkeys(wanted.kinds)
        ]
        guards = [events.c.seq.in_(union_all(*(select(found.c.seq) for found in of_each)))]
    return [_to_event(row) for row in connection.execute(select(events).where(*guards).order_by(by).limit(limit))]


def _to_event(row: Row[*tuple[Any, ...]]) -> Event:
    return Event(
        id=row.id,
        workspace_id=row.workspace_id,
        kind=row.kind,
        subject_id=row.subject_id,
        created_at=from_us(row.created_at),
        body=json.loads(row.body),
        service_id=row.service_id,
        seq=row.seq,
    )


def _count(rows: list[tuple[Any, ...]]) -> None:
    for row in rows:
        metrics.EVENTS.add(row[_COLUMNS.index("kind")])
