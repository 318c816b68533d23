"""Concurrency groups and who is in them. Called by the engine and the operations."""

from __future__ import annotations

from sqlalchemy import Connection, func, select, update

from oneoff.core.groups import Group
from oneoff.core.run import ON_NODE
from oneoff.store.dialect import insert_if_absent
from oneoff.store.tables import concurrency_groups, runs

_ON_NODE = [status.value for status in ON_NODE]


def save_if_absent(connection: Connection, workspace_id: str, group: Group) -> bool:
    """False when there is one of that name, which keeps its limit."""
    row = {"workspace_id": workspace_id, "name": group.name, "most": group.limit}
    return insert_if_absent(connection, concurrency_groups, row)


def save_group(connection: Connection, workspace_id: str, group: Group) -> None:
    if not save_if_absent(connection, workspace_id, group):
        connection.execute(_touch(workspace_id, group.name).values(most=group.limit))


def fetch_groups(connection: Connection, workspace_id: str) -> dict[str, Group]:
    """By name, in the order of the names."""
    query = select(concurrency_groups.c.name, concurrency_groups.c.most)
    mine = query.where(concurrency_groups.c.workspace_id == workspace_id).order_by(concurrency_groups.c.name)
    return {row.name: Group(row.name, row.most) for row in connection.execute(mine)}


def count_on_nodes(connection: Connection, workspace_id: str) -> dict[str, int]:
    """Starting and running runs, by their group."""
    mine = (runs.c.workspace_id == workspace_id, runs.c.concurrency_group.is_not(None))
    query = select(runs.c.concurrency_group, func.count()).where(runs.c.status.in_(_ON_NODE), *mine)
    return {row[0]: row[1] for row in connection.execute(query.group_by(runs.c.concurrency_group))}


def is_within_limit(connection: Connection, workspace_id: str, name: str) -> bool:
    """Asked in the transaction that has just claimed a run of the group. Two such transactions cannot both commit at
    once: the group's row is written, so that on PostgreSQL the second one starts over and counts the first one's."""
    own = concurrency_groups.c
    written = connection.execute(_touch(workspace_id, name).values(most=own.most).returning(own.most)).scalar()
    return count_on_nodes(connection, workspace_id).get(name, 0) <= (1 if written is None else written)


def _touch(workspace_id: str, name: str):  # type: ignore[no-untyped-def]
    own = concurrency_groups.c
    return update(concurrency_groups).where(own.workspace_id == workspace_id, own.name == name)
