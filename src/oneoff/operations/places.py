"""Projects, environments and nodes, as lists. Used by the API."""

from __future__ import annotations

from dataclasses import dataclass

from oneoff.core.service import parse_path
from oneoff.errors import InvalidPath, OneoffError
from oneoff.operations.context import Context
from oneoff.store import environments, installation, nodes, runs
from oneoff.store.dialect import Connection
from oneoff.store.environments import Environment as Environment
from oneoff.store.environments import Project as Project
from oneoff.store.nodes import Node as Node


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """A node and how many of its slots are taken."""

    node: Node
    taken: int


async def get_workspace_name(context: Context) -> str:
    return await context.database.read(lambda c: installation.get_workspace_name(c, context.workspace_id))


async def list_projects(context: Context, limit: int, before: str | None) -> list[Project]:
    return await context.database.read(lambda c: environments.list_projects(c, context.workspace_id, limit, before))


async def list_environments(context: Context, path: str | None, limit: int, before: str | None) -> list[Environment]:
    """`path` (project/environment) makes it a list of 0 or 1. Raises InvalidPath, InvalidName."""
    if path is not None and parse_path(path).service is not None:
        raise InvalidPath(path)
    return await context.database.read(
        lambda c: environments.list_environments(c, context.workspace_id, path, limit, before)
    )


async def list_nodes(context: Context) -> list[NodeLoad]:
    def work(connection: Connection) -> list[NodeLoad]:
        return [
            NodeLoad(node, len(runs.list_on_node(connection, node.node, node.driver)))
            for node in nodes.list_nodes(connection)
        ]

    return await context.database.read(work)


async def find_trouble(context: Context) -> OneoffError | None:
    """What keeps this server from working now: its database or its engine. None when both answer."""
    try:
        await context.database.read(lambda _connection: None)
        await context.driver.check()
    except OneoffError as problem:
        return problem
    return None
