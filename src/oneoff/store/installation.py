"""Who this installation is, and its workspaces. Called by the operations when a server starts."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select, update

from oneoff.core.clock import to_us
from oneoff.store.configuration import change_version
from oneoff.store.dialect import insert_if_absent
from oneoff.store.tables import installation, workspaces


def save_value_if_absent(connection: Connection, name: str, value: str) -> str:
    """The value that is kept: `value`, or the one that was there before."""
    if insert_if_absent(connection, installation, {"name": name, "value": value}):
        return value
    return str(connection.execute(select(installation.c.value).where(installation.c.name == name)).scalar_one())


def save_workspace_if_absent(connection: Connection, workspace_id: str, name: str, plan: str, at: datetime) -> None:
    row = {"id": workspace_id, "name": name, "plan": plan, "created_at": to_us(at)}
    insert_if_absent(connection, workspaces, row)


def get_workspace_name(connection: Connection, workspace_id: str) -> str:
    return str(connection.execute(select(workspaces.c.name).where(workspaces.c.id == workspace_id)).scalar_one())


def change_plan(connection: Connection, workspace_id: str, plan: str) -> None:
    """From the next run, tick and request on."""
    change_version(connection)
    connection.execute(update(workspaces).where(workspaces.c.id == workspace_id).values(plan=plan))
