"""Events: what happened that somebody may want to be told. Appended by whoever sees it, listed by the API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from oneoff.core.clock import from_us, to_us
from oneoff.store.tables import events


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` is `noun.verb`; `subject_id` the cron, run, deploy … that it is about."""

    id: str
    workspace_id: str
    kind: str
    subject_id: str
    created_at: datetime
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a list shows; None = any."""

    kind: str | None = None
    subject_id: str | None = None


def save_new(connection: Connection, event: Event) -> None:
    """In the transaction of what it tells of, so that neither is without the other."""
    row = {
        "id": event.id,
        "workspace_id": event.workspace_id,
        "kind": event.kind,
        "subject_id": event.subject_id,
        "body": json.dumps(event.body),
        "created_at": to_us(event.created_at),
    }
    connection.execute(insert(events).values(row))


def list_events(
    connection: Connection, workspace_id: str, wanted: EventFilter, limit: int, before: str | None
) -> list[Event]:
    """Newest first; `before` is the id of the last event of the page before."""
    query = select(events).where(events.c.workspace_id == workspace_id).order_by(events.c.id.desc()).limit(limit)
    for name in ("kind", "subject_id"):
        if (value := getattr(wanted, name)) is not None:
            query = query.where(events.c[name] == value)
    if before is not None:
        query = query.where(events.c.id < before)
    return [
        Event(row.id, row.workspace_id, row.kind, row.subject_id, from_us(row.created_at), json.loads(row.body))
        for row in connection.execute(query)
    ]
