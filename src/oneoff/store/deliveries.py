"""Deliveries of events to webhooks, and the log of their attempts. Called by the deliverer, the operations and the
janitor.

A delivery is pending until it has arrived or is given up. Each attempt is claimed first, so that two servers on one
database do not send the same at once, and a server that died in the middle of it is made up for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from oneoff.core.clock import from_us, to_us
from oneoff.core.webhook import DeliveryStatus
from oneoff.errors import NotFound
from oneoff.store.webhook_tables import webhook_attempts, webhook_deliveries

_D = webhook_deliveries.c
_INSERT = insert(webhook_deliveries)
_NEXT = (
    select(webhook_deliveries)
    .where(_D.webhook_id == bindparam("webhook_id"), _D.status == DeliveryStatus.PENDING.value)
    .order_by(_D.next_attempt_at)
    .limit(bindparam("most"))
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """`body` is what every attempt sends. `next_attempt_at` counts while it is pending."""

    id: str
    webhook_id: str
    event_id: str
    event_kind: str
    body: str
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime
    created_at: datetime
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """`answer` is how the answer begins; `error` says in words why it was no success."""

    number: int
    started_at: datetime
    duration_ms: int
    status_code: int | None
    error: str | None
    answer: str | None


def save_new(connection: Connection, made: Sequence[Delivery]) -> None:
    if made:
        connection.execute(_INSERT, [_to_row(each) for each in made])


def fetch_next(connection: Connection, webhook_id: str, most: int) -> list[Delivery]:
    """The pending ones whose turn comes first, due or not."""
    rows = connection.execute(_NEXT, {"webhook_id": webhook_id, "most": most})
    return [_to_delivery(row) for row in rows]


def claim_if_due(connection: Connection, delivery: Delivery, now: datetime, until: datetime) -> bool:
    """For one attempt, which must have ended by `until`: then it is made again, by whoever comes."""
    guard = (*_pending(delivery), _D.next_attempt_at <= to_us(now))
    return _change(connection, guard, {"next_attempt_at": to_us(until)})


def save_attempt_if_pending(
    connection: Connection, delivery: Delivery, attempt: Attempt, next_at: datetime | None, ended_at: datetime
) -> bool:
    """The outcome of the attempt that `delivery` was claimed for; `next_at` None ends it: delivered without an error,
    else failed."""
    values: dict[str, Any] = {"attempts": attempt.number}
    if next_at is not None:
        values["next_attempt_at"] = to_us(next_at)
    else:
        status = DeliveryStatus.DELIVERED if attempt.error is None else DeliveryStatus.FAILED
        values |= {"status": status.value, "finished_at": to_us(ended_at)}
    if not _change(connection, _pending(delivery), values):
        return False
    row = {name: getattr(attempt, name) for name in Attempt.__dataclass_fields__}
    row |= {"delivery_id": delivery.id, "started_at": to_us(attempt.started_at)}
    connection.execute(insert(webhook_attempts).values(row))
    return True


def cancel_pending(connection: Connection, webhook_id: str, now: datetime) -> int:
    """Of a webhook that was disabled. Returns how many."""
    guard = (_D.webhook_id == webhook_id, _D.status == DeliveryStatus.PENDING.value)
    values = {"status": DeliveryStatus.CANCELED.value, "finished_at": to_us(now)}
    return connection.execute(update(webhook_deliveries).where(*guard).values(values)).rowcount


def get_delivery(connection: Connection, webhook_id: str, delivery_id: str) -> Delivery:
    """Raises NotFound."""
    query = select(webhook_deliveries).where(_D.id == delivery_id, _D.webhook_id == webhook_id)
    if (row := connection.execute(query).one_or_none()) is None:
        raise NotFound("delivery", delivery_id, f"`oneoff webhook deliveries {webhook_id}` shows the newest ones")
    return _to_delivery(row)


def list_deliveries(
    connection: Connection, webhook_id: str, status: DeliveryStatus | None, limit: int, before: str | None
) -> list[Delivery]:
    """Newest first; `before` is the id of the last delivery of the page before."""
    query = select(webhook_deliveries).where(_D.webhook_id == webhook_id).order_by(_D.id.desc()).limit(limit)
    if status is not None:
        query = query.where(_D.status == status.value)
    if before is not None:
        query = query.where(_D.id < before)
    return [_to_delivery(row) for row in connection.execute(query)]


def fetch_attempts(connection: Connection, delivery_ids: Sequence[str]) -> dict[str, list[Attempt]]:
    """By delivery, in their order."""
    found: dict[str, list[Attempt]] = {each: [] for each in delivery_ids}
    query = (
        select(webhook_attempts)
        .where(webhook_attempts.c.delivery_id.in_(delivery_ids))
        .order_by(webhook_attempts.c.delivery_id, webhook_attempts.c.number)
    )
    for row in connection.execute(query):
        found[row.delivery_id].append(
            Attempt(row.number, from_us(row.started_at), row.duration_ms, row.status_code, row.error, row.answer)
        )
    return found


def forget_old(connection: Connection, before: datetime, most: int) -> int:
    """Some of the oldest that are not pending any more, at most `most`. Returns how many went."""
    oldest = select(_D.id).order_by(_D.id).limit(most)
    guard = (_D.id.in_(oldest), _D.created_at < to_us(before), _D.status != DeliveryStatus.PENDING.value)
    ids = list(connection.execute(select(_D.id).where(*guard)).scalars())
    connection.execute(delete(webhook_attempts).where(webhook_attempts.c.delivery_id.in_(ids)))
    connection.execute(delete(webhook_deliveries).where(_D.id.in_(ids)))
    return len(ids)


def _pending(delivery: Delivery) -> tuple[Any, ...]:
    """Nobody else has made the attempt meanwhile."""
    return (_D.id == delivery.id, _D.status == DeliveryStatus.PENDING.value, _D.attempts == delivery.attempts)


def _change(connection: Connection, guard: tuple[Any, ...], values: dict[str, Any]) -> bool:
    return connection.execute(update(webhook_deliveries).where(*guard).values(values)).rowcount == 1


def _to_delivery(row: Row[*tuple[Any, ...]]) -> Delivery:
    return Delivery(
        id=row.id,
        webhook_id=row.webhook_id,
        event_id=row.event_id,
        event_kind=row.event_kind,
        body=row.body,
        status=DeliveryStatus(row.status),
        attempts=row.attempts,
        next_attempt_at=from_us(row.next_attempt_at),
        created_at=from_us(row.created_at),
        finished_at=None if row.finished_at is None else from_us(row.finished_at),
    )


def _to_row(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "webhook_id": delivery.webhook_id,
        "event_id": delivery.event_id,
        "event_kind": delivery.event_kind,
        "body": delivery.body,
        "status": delivery.status.value,
        "attempts": delivery.attempts,
        "next_attempt_at": to_us(delivery.next_attempt_at),
        "created_at": to_us(delivery.created_at),
        "finished_at": None if delivery.finished_at is None else to_us(delivery.finished_at),
    }
