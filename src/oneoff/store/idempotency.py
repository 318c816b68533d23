"""What a creating request with an Idempotency-Key made. Called by the operations, and by the janitor for old ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, select

from oneoff.core.clock import to_us
from oneoff.errors import IdempotencyKeyReused
from oneoff.store.dialect import insert_if_absent
from oneoff.store.tables import idempotency_keys


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The key of a request, whose it is, and the SHA-256 of what it asks for (method, address and body)."""

    token_id: str
    key: str
    request_sha256: str


_BY_KEY = select(idempotency_keys.c.request_sha256, idempotency_keys.c.resource_id).where(
    idempotency_keys.c.token_id == bindparam("token_id"), idempotency_keys.c.key == bindparam("key")
)


def find_resource(connection: Connection, request: Idempotency | None) -> str | None:
    """The id of what this very request made before. Raises IdempotencyKeyReused when the key was another request's."""
    if request is None:
        return None
    row = connection.execute(_BY_KEY, {"token_id": request.token_id, "key": request.key}).one_or_none()
    if row is None:
        return None
    if row.request_sha256 != request.request_sha256:
        raise IdempotencyKeyReused(request.key)
    return str(row.resource_id)


def save_resource(connection: Connection, request: Idempotency | None, resource_id: str, at: datetime) -> None:
    """In the transaction that makes the resource, after `find_resource` in the same one. When another server was
    faster, PostgreSQL fails this transaction as not serializable, and it starts over."""
    if request is None:
        return
    row = {
        "token_id": request.token_id,
        "key": request.key,
        "request_sha256": request.request_sha256,
        "resource_id": resource_id,
        "created_at": to_us(at),
    }
    insert_if_absent(connection, idempotency_keys, row)


def forget(connection: Connection, request: Idempotency | None) -> None:
    """The same key may be tried again: what it made did not come to be."""
    if request is not None:
        same = (idempotency_keys.c.token_id == request.token_id, idempotency_keys.c.key == request.key)
        connection.execute(delete(idempotency_keys).where(*same))


def forget_before(connection: Connection, at: datetime) -> int:
    """How many keys were older."""
    return connection.execute(delete(idempotency_keys).where(idempotency_keys.c.created_at < to_us(at))).rowcount
