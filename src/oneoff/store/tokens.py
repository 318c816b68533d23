"""API tokens: only their SHA-256 is kept. Called by the operations."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, update

from oneoff.core.clock import from_us, to_us
from oneoff.errors import NotFound
from oneoff.store.dialect import insert_if_absent
from oneoff.store.tables import tokens, workspaces


@dataclass(frozen=True, slots=True)
class Token:
    """`plan` is that of its workspace, told of a token that calls."""

    id: str
    workspace_id: str
    name: str
    sha256: str
    admin: bool
    created_at: datetime
    plan: str = field(default="", compare=False)


_COLUMNS = (
    tokens.c.id,
    tokens.c.workspace_id,
    tokens.c.name,
    tokens.c.sha256,
    tokens.c.admin,
    tokens.c.created_at,
)
_VALID = tokens.c.revoked_at.is_(None)
_BY_HASH = (
    select(*_COLUMNS, workspaces.c.plan)
    .join_from(tokens, workspaces, tokens.c.workspace_id == workspaces.c.id)
    .where(tokens.c.sha256 == bindparam("sha256"), _VALID)
)


def save_new(connection: Connection, token: Token) -> bool:
    """False when a token of this hash exists already."""
    row = {
        "id": token.id,
        "workspace_id": token.workspace_id,
        "name": token.name,
        "sha256": token.sha256,
        "admin": token.admin,
        "created_at": to_us(token.created_at),
    }
    return insert_if_absent(connection, tokens, row)


def find_valid(connection: Connection, sha256: str) -> Token | None:
    row = connection.execute(_BY_HASH, {"sha256": sha256}).one_or_none()
    return None if row is None else replace(_to_token(row), plan=row.plan)


def get_token(connection: Connection, token_id: str) -> Token:
    """Of one that is not revoked. Raises NotFound."""
    row = connection.execute(select(*_COLUMNS).where(tokens.c.id == token_id, _VALID)).one_or_none()
    if row is None:
        raise NotFound("token", token_id, "`oneoff token list` shows them")
    return _to_token(row)


def list_tokens(connection: Connection, workspace_id: str, limit: int, before: str | None) -> list[Token]:
    query = select(*_COLUMNS).where(tokens.c.workspace_id == workspace_id, _VALID)
    if before is not None:
        query = query.where(tokens.c.id < before)
    return [_to_token(row) for row in connection.execute(query.order_by(tokens.c.id.desc()).limit(limit))]


def count_admin_tokens(connection: Connection, workspace_id: str) -> int:
    query = select(func.count()).where(tokens.c.workspace_id == workspace_id, tokens.c.admin.is_(True), _VALID)
    return int(connection.execute(query).scalar_one())


def count_tokens(connection: Connection, workspace_id: str) -> int:
    query = select(func.count()).where(tokens.c.workspace_id == workspace_id, _VALID)
    return int(connection.execute(query).scalar_one())


def lock_tokens(connection: Connection, workspace_id: str) -> None:
    """Two revocations at once must not leave no admin token, nor two creations pass the plan's count: the workspace's
    row is written, so that on PostgreSQL the second one starts over."""
    own = workspaces.c
    connection.execute(update(workspaces).where(own.id == workspace_id).values(plan=own.plan))


def revoke_if_valid(connection: Connection, token_id: str, at: datetime) -> bool:
    guard = (tokens.c.id == token_id, _VALID)
    return connection.execute(update(tokens).where(*guard).values(revoked_at=to_us(at))).rowcount == 1


def _to_token(row: Row[*tuple[Any, ...]]) -> Token:
    return Token(row.id, row.workspace_id, row.name, row.sha256, bool(row.admin), from_us(row.created_at))
