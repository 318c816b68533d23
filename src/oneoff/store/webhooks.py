"""Webhooks: who is told of which events, and how far each has come in them. Called by the operations and the
deliverer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from oneoff.core.clock import from_us, to_us
from oneoff.core.webhook import Wanted, WebhookKind
from oneoff.errors import NotFound
from oneoff.store.webhook_tables import webhook_attempts, webhook_deliveries, webhooks


@dataclass(frozen=True, slots=True)
class Webhook:
    """The target and the secrets stay sealed. `types` are those of the bodies in its form, none = all.
    `old_secret_sealed` signs beside the new one until `old_secret_until`."""

    id: str
    workspace_id: str
    kind: WebhookKind
    form: str
    name: str
    shown: str
    target_sealed: bytes
    kinds: tuple[str, ...]
    types: tuple[str, ...]
    service_ids: tuple[str, ...]
    failures_only: bool
    enabled: bool
    disabled_at: datetime | None
    disabled_reason: str | None
    secret_sealed: bytes
    old_secret_sealed: bytes | None
    old_secret_until: datetime | None
    position: int
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.kinds, self.service_ids, self.failures_only)


_NAMES = [field.name for field in fields(Webhook)]
_TIMES = frozenset(name for name in _NAMES if name.endswith(("_at", "_until", "_since")))
_LISTS = ("kinds", "types", "service_ids")
_SELECT = select(*(webhooks.c[name] for name in _NAMES))
_BY_ID = _SELECT.where(webhooks.c.id == bindparam("webhook_id"))
_MOVE = (
    update(webhooks)
    .where(webhooks.c.id == bindparam("webhook_id"), webhooks.c.position == bindparam("old"))
    .values(position=bindparam("new"))
)


def save_new(connection: Connection, webhook: Webhook) -> None:
    connection.execute(insert(webhooks).values(_to_row({name: getattr(webhook, name) for name in _NAMES})))


def find_webhook(connection: Connection, webhook_id: str) -> Webhook | None:
    row = connection.execute(_BY_ID, {"webhook_id": webhook_id}).one_or_none()
    return None if row is None else _to_webhook(row)


def get_webhook(connection: Connection, webhook_id: str) -> Webhook:
    """Raises NotFound."""
    if (webhook := find_webhook(connection, webhook_id)) is None:
        raise NotFound("webhook", webhook_id, "`oneoff webhook list` shows them")
    return webhook


def list_webhooks(connection: Connection, workspace_id: str, limit: int, before: str | None) -> list[Webhook]:
    """Newest first; `before` is the id of the last webhook of the page before."""
    query = _SELECT.where(webhooks.c.workspace_id == workspace_id).order_by(webhooks.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(webhooks.c.id < before)
    return [_to_webhook(row) for row in connection.execute(query)]


def count_webhooks(connection: Connection, workspace_id: str) -> int:
    query = select(func.count()).where(webhooks.c.workspace_id == workspace_id)
    return int(connection.execute(query).scalar_one())


def list_enabled(connection: Connection) -> list[Webhook]:
    return [_to_webhook(row) for row in connection.execute(_SELECT.where(webhooks.c.enabled).order_by(webhooks.c.id))]


def find_first_position(connection: Connection) -> int | None:
    """Every enabled webhook has looked at all events up to there; None when there is none."""
    return connection.execute(select(func.min(webhooks.c.position)).where(webhooks.c.enabled)).scalar()


def save_changes(connection: Connection, webhook_id: str, changes: Mapping[str, Any]) -> None:
    """`changes` are values by the names of Webhook's fields."""
    connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(_to_row(changes)))


def move_if_at(connection: Connection, webhook_id: str, old: int, new: int) -> bool:
    """False when another server has moved it meanwhile: then nothing of this transaction may stand."""
    values = {"webhook_id": webhook_id, "old": old, "new": new}
    return connection.execute(_MOVE, values).rowcount == 1


def delete_with_deliveries(connection: Connection, webhook_id: str) -> None:
    own = select(webhook_deliveries.c.id).where(webhook_deliveries.c.webhook_id == webhook_id)
    connection.execute(delete(webhook_attempts).where(webhook_attempts.c.delivery_id.in_(own)))
    connection.execute(delete(webhook_deliveries).where(webhook_deliveries.c.webhook_id == webhook_id))
    connection.execute(delete(webhooks).where(webhooks.c.id == webhook_id))


def _to_webhook(row: Row[*tuple[Any, ...]]) -> Webhook:
    values: dict[str, Any] = dict(zip(_NAMES, row, strict=True))
    for name in _TIMES:
        if values[name] is not None:
            values[name] = from_us(values[name])
    for name in _LISTS:
        values[name] = tuple(json.loads(values[name]))
    for name in ("failures_only", "enabled"):
        values[name] = bool(values[name])
    values["kind"] = WebhookKind(values["kind"])
    return Webhook(**values)


def _to_row(values: Mapping[str, Any]) -> dict[str, Any]:
    row = dict(values)
    for name in _TIMES & row.keys():
        if row[name] is not None:
            row[name] = to_us(row[name])
    for name in _LISTS:
        if name in row:
            names: Sequence[str] = row[name]
            row[name] = json.dumps(list(names))
    if "kind" in row:
        row["kind"] = str(row["kind"])
    return row
