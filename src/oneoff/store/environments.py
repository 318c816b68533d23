"""Projects and environments: made with their first service, gone with their last one. Called by the operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, exists, select

from oneoff.core.clock import from_us, to_us
from oneoff.errors import NotFound
from oneoff.store.dialect import insert_if_absent
from oneoff.store.tables import environments, projects, services, variables

_ENVIRONMENT_COLUMNS = (
    environments.c.id,
    environments.c.project_id,
    environments.c.name,
    environments.c.created_at,
    projects.c.name.label("project"),
)


@dataclass(frozen=True, slots=True)
class Project:
    id: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Environment:
    id: str
    project_id: str
    path: str  # project/environment
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Place:
    """Where a new service goes."""

    workspace_id: str
    project: str
    environment: str


def make_environment(connection: Connection, place: Place, new_id: Callable[[str], str], at: datetime) -> str:
    """The id of the environment at `place`, made with its project when it was not there."""
    owner = {"workspace_id": place.workspace_id, "name": place.project}
    insert_if_absent(connection, projects, {"id": new_id("project"), **owner, "created_at": to_us(at)})
    same_project = (projects.c.workspace_id == place.workspace_id, projects.c.name == place.project)
    project_id = connection.execute(select(projects.c.id).where(*same_project)).scalar_one()
    row = {"project_id": project_id, "name": place.environment}
    insert_if_absent(connection, environments, {"id": new_id("environment"), **row, "created_at": to_us(at)})
    same = (environments.c.project_id == project_id, environments.c.name == place.environment)
    return str(connection.execute(select(environments.c.id).where(*same)).scalar_one())


def delete_if_empty(connection: Connection, environment_id: str) -> None:
    """An environment without services goes, with its variables; then its project, when that was the last one."""
    if connection.execute(select(exists().where(services.c.environment_id == environment_id))).scalar_one():
        return
    query = select(environments.c.project_id).where(environments.c.id == environment_id)
    project_id = connection.execute(query).scalar_one()
    connection.execute(delete(variables).where(variables.c.owner_id == environment_id))
    connection.execute(delete(environments).where(environments.c.id == environment_id))
    has_more = exists().where(environments.c.project_id == project_id)
    connection.execute(delete(projects).where(projects.c.id == project_id, ~has_more))


def list_projects(connection: Connection, workspace_id: str, limit: int, before: str | None) -> list[Project]:
    query = select(projects).where(projects.c.workspace_id == workspace_id).order_by(projects.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(projects.c.id < before)
    return [Project(row.id, row.name, from_us(row.created_at)) for row in connection.execute(query)]


def list_environments(
    connection: Connection, workspace_id: str, path: str | None, limit: int, before: str | None
) -> list[Environment]:
    """Newest first; `path` (project/environment) makes it a list of 0 or 1."""
    query = (
        select(*_ENVIRONMENT_COLUMNS)
        .join_from(environments, projects)
        .where(projects.c.workspace_id == workspace_id)
        .order_by(environments.c.id.desc())
        .limit(limit)
    )
    if path is not None:
        query = query.where(projects.c.name + "/" + environments.c.name == path)
    if before is not None:
        query = query.where(environments.c.id < before)
    return [
        Environment(row.id, row.project_id, f"{row.project}/{row.name}", from_us(row.created_at))
        for row in connection.execute(query)
    ]


def check_environment(connection: Connection, environment_id: str) -> None:
    """Raises NotFound."""
    if not connection.execute(select(exists().where(environments.c.id == environment_id))).scalar_one():
        raise NotFound("environment", environment_id, "GET /api/v1/environments lists them")
