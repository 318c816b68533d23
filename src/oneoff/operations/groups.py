"""Concurrency groups: their limits, set and listed. Used by the API."""

from __future__ import annotations

from dataclasses import dataclass

from oneoff.core.groups import Group, make_group
from oneoff.operations.context import Context
from oneoff.store import concurrency
from oneoff.store.dialect import Connection


@dataclass(frozen=True, slots=True)
class GroupLoad:
    group: Group
    going: int


async def set_limit(context: Context, name: str, limit: int) -> GroupLoad:
    """Makes the group when it is new. Going runs are not touched by a lower limit. Raises InvalidGroup."""
    group = make_group(name, limit)

    def work(connection: Connection) -> GroupLoad:
        concurrency.save_group(connection, context.workspace_id, group)
        return GroupLoad(group, concurrency.count_on_nodes(connection, context.workspace_id).get(name, 0))

    load = await context.database.run(work)
    context.signals.run_accepted()  # a higher limit lets waiting runs start
    return load


async def list_groups(context: Context) -> list[GroupLoad]:
    """By name."""

    def work(connection: Connection) -> list[GroupLoad]:
        going = concurrency.count_on_nodes(connection, context.workspace_id)
        found = concurrency.fetch_groups(connection, context.workspace_id)
        return [GroupLoad(group, going.get(name, 0)) for name, group in found.items()]

    return await context.database.read(work)
