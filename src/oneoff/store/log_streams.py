"""Log streams and what servers saw of them. Called by the operations and by the engine's forwarder."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from oneoff.core.clock import from_us, to_us
from oneoff.core.log_stream import Framing, LogStreamKind, LogStreamProtocol, LogStreamSetting, Receiver
from oneoff.store.log_stream_tables import log_positions, log_stream_states, log_streams


@dataclass(frozen=True, slots=True)
class LogStream:
    """`scope_id` is its workspace or a service. `receiver` is None with the setting `drop`."""

    id: str
    workspace_id: str
    scope_id: str
    setting: LogStreamSetting
    receiver: Receiver | None
    token_sealed: bytes | None = field(repr=False)
    ca_pem: str | None = field(repr=False)
    created_at: datetime
    updated_at: datetime
    version: str = field(default_factory=lambda: os.urandom(12).hex())


@dataclass(frozen=True, slots=True)
class LogStreamState:
    """What one server saw, or several together. `told_at`: when the event of its failing was recorded."""

    connected_since: datetime | None = None
    failing_since: datetime | None = None
    told_at: datetime | None = None
    last_error: str | None = None
    last_error_at: datetime | None = None
    lines_sent: int = 0
    lines_dropped: int = 0
    lag_bytes: int = 0
    oldest_unsent_at: datetime | None = None


_TIMES = frozenset(each.name for each in fields(LogStreamState) if each.name.endswith(("_at", "_since")))


def list_streams(connection: Connection, workspace_id: str) -> list[LogStream]:
    """The workspace's own first, then those of services by age."""
    query = select(log_streams).where(log_streams.c.workspace_id == workspace_id).order_by(log_streams.c.id)
    found = [_to_stream(row) for row in connection.execute(query)]
    return sorted(found, key=lambda stream: stream.scope_id != workspace_id)


def fetch_versions(connection: Connection, workspace_id: str) -> set[str]:
    """Of all streams: others as soon as anything of any stream has changed."""
    query = select(log_streams.c.version).where(log_streams.c.workspace_id == workspace_id)
    return set(connection.execute(query).scalars())


def find_stream(connection: Connection, scope_id: str) -> LogStream | None:
    row = connection.execute(select(log_streams).where(log_streams.c.scope_id == scope_id)).one_or_none()
    return None if row is None else _to_stream(row)


def save_stream(connection: Connection, stream: LogStream) -> None:
    """A new one, or other values of the one with its id."""
    row = _to_row(stream)
    if connection.execute(update(log_streams).where(log_streams.c.id == stream.id).values(row)).rowcount == 0:
        connection.execute(insert(log_streams).values(row))
    if stream.receiver is None:
        _forget(connection, stream.id)


def delete_stream(connection: Connection, scope_id: str) -> bool:
    """With its positions: what was not sent is not sent any more. False when there is none."""
    stream_id = connection.execute(select(log_streams.c.id).where(log_streams.c.scope_id == scope_id)).scalar()
    if stream_id is None:
        return False
    _forget(connection, stream_id)
    connection.execute(delete(log_streams).where(log_streams.c.id == stream_id))
    return True


def fetch_states(connection: Connection, node: str | None = None) -> dict[str, list[LogStreamState]]:
    """By stream, one of each server, or of that of `node` alone."""
    query = select(log_stream_states)
    if node is not None:
        query = query.where(log_stream_states.c.node == node)
    found: dict[str, list[LogStreamState]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.stream_id].append(_to_state(row))
    return found


def save_state(connection: Connection, stream_id: str, node: str, state: LogStreamState, at: datetime) -> None:
    """Nothing when the stream is gone."""
    if connection.execute(select(log_streams.c.id).where(log_streams.c.id == stream_id)).scalar() is None:
        return
    values = {name: to_us(value) if isinstance(value, datetime) else value for name, value in asdict(state).items()}
    values["updated_at"] = to_us(at)
    own = (log_stream_states.c.stream_id == stream_id, log_stream_states.c.node == node)
    if connection.execute(update(log_stream_states).where(*own).values(values)).rowcount == 0:
        connection.execute(insert(log_stream_states).values(stream_id=stream_id, node=node, **values))


def _forget(connection: Connection, stream_id: str) -> None:
    connection.execute(delete(log_positions).where(log_positions.c.stream_id == stream_id))
    connection.execute(delete(log_stream_states).where(log_stream_states.c.stream_id == stream_id))


def _to_stream(row: Row[Any]) -> LogStream:
    receiver = None
    if row.kind is not None:
        protocol = None if row.protocol is None else LogStreamProtocol(row.protocol)
        framing = None if row.framing is None else Framing(row.framing)
        receiver = Receiver(LogStreamKind(row.kind), row.endpoint, protocol, framing)
    token = None if row.token_sealed is None else bytes(row.token_sealed)
    return LogStream(
        id=row.id,
        workspace_id=row.workspace_id,
        scope_id=row.scope_id,
        setting=LogStreamSetting(row.setting),
        receiver=receiver,
        token_sealed=token,
        ca_pem=row.ca_pem,
        created_at=from_us(row.created_at),
        updated_at=from_us(row.updated_at),
        version=row.version,
    )


def _to_row(stream: LogStream) -> dict[str, Any]:
    receiver = stream.receiver
    return {
        "id": stream.id,
        "workspace_id": stream.workspace_id,
        "scope_id": stream.scope_id,
        "setting": stream.setting.value,
        "kind": receiver and receiver.kind.value,
        "endpoint": receiver and receiver.endpoint,
        "protocol": receiver and receiver.protocol and receiver.protocol.value,
        "framing": receiver and receiver.framing and receiver.framing.value,
        "token_sealed": stream.token_sealed,
        "ca_pem": stream.ca_pem,
        "version": stream.version,
        "created_at": to_us(stream.created_at),
        "updated_at": to_us(stream.updated_at),
    }


def _to_state(row: Row[Any]) -> LogStreamState:
    values: dict[str, Any] = {each.name: getattr(row, each.name) for each in fields(LogStreamState)}
    for name in _TIMES:
        if values[name] is not None:
            values[name] = from_us(values[name])
    return LogStreamState(**values)
