"""Concurrency groups, and how many runs go at once: of a group, and of the workspace. Called by the engine and the
operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, func, select, update

from oneoff.core.clock import to_us
from oneoff.core.groups import Group
from oneoff.core.run import ON_NODE
from oneoff.store.dialect import insert_if_absent
from oneoff.store.tables import concurrency_groups, nodes, runs, workspaces

_ON_NODE = [status.value for status in ON_NODE]
_NODE_IS_THERE = timedelta(minutes=1)  # seen so lately; a node says so every 15 s

_GOING = (
    select(func.count())
    .where(runs.c.status.in_(_ON_NODE), runs.c.workspace_id == workspaces.c.id)
    .correlate(workspaces)
    .scalar_subquery()
)
_SLOTS = select(func.coalesce(func.sum(nodes.c.slots), 0)).where(nodes.c.seen_at > bindparam("since"))
_LOAD = select(workspaces.c.plan, _GOING.label("going"), _SLOTS.scalar_subquery().label("slots")).where(
    workspaces.c.id == bindparam("workspace_id")
)


@dataclass(frozen=True, slots=True)
class Load:
    """Of a workspace: starting and running runs, and the slots of all nodes that are there."""

    plan: str
    going: int
    slots: int


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


def fetch_load(connection: Connection, workspace_id: str, now: datetime) -> Load:
    values = {"workspace_id": workspace_id, "since": to_us(now - _NODE_IS_THERE)}
    return Load(*connection.execute(_LOAD, values).one())


def is_within_plan(connection: Connection, workspace_id: str, limits: Mapping[str, int]) -> bool:
    """Asked in the transaction that has just claimed a run; `limits` by plan. The workspace's row is written for the
    reason that is told at `is_within_limit`."""
    own = workspaces.c
    touch = update(workspaces).where(own.id == workspace_id).values(plan=own.plan).returning(own.plan)
    limit = limits.get(connection.execute(touch).scalar_one())
    query = select(func.count()).where(runs.c.status.in_(_ON_NODE), runs.c.workspace_id == workspace_id)
    return limit is None or int(connection.execute(query).scalar_one()) <= limit


def is_within_limit(connection: Connection, workspace_id: str, name: str) -> bool:
    """Asked in the transaction that has just claimed a run of the group. Two such transactions cannot both commit at
    once: the group's row is written, so that on PostgreSQL the second one starts over and counts the first one's."""
    own = concurrency_groups.c
    written = connection.execute(_touch(workspace_id, name).values(most=own.most).returning(own.most)).scalar()
    return count_on_nodes(connection, workspace_id).get(name, 0) <= (1 if written is None else written)


def _touch(workspace_id: str, name: str):  # type: ignore[no-untyped-def]
    own = concurrency_groups.c
    return update(concurrency_groups).where(own.workspace_id == workspace_id, own.name == name)
