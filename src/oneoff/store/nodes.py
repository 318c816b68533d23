"""Nodes and when they were last seen. Written by the engine's heartbeat, read by the rescuer and the API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from oneoff.core.clock import from_us, to_us
from oneoff.store.tables import nodes


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that runs containers through one driver; `lease` is the server that drives it."""

    node: str
    driver: str
    lease: str
    engine: str
    cpus: int
    memory_bytes: int
    slots: int
    seen_at: datetime


def save_node(connection: Connection, node: Node) -> None:
    connection.execute(delete(nodes).where(nodes.c.node == node.node, nodes.c.driver == node.driver))
    connection.execute(
        insert(nodes).values(
            node=node.node,
            driver=node.driver,
            lease=node.lease,
            engine=node.engine,
            cpus=node.cpus,
            memory_bytes=node.memory_bytes,
            slots=node.slots,
            seen_at=to_us(node.seen_at),
        )
    )


def list_nodes(connection: Connection) -> list[Node]:
    rows = connection.execute(select(nodes).order_by(nodes.c.node, nodes.c.driver))
    return [Node(**{**row._mapping, "seen_at": from_us(row.seen_at)}) for row in rows]
