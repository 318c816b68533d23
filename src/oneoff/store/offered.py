"""Which services and jobs name what an operator, or a plan, offers no more. Called by the operations."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, select

from oneoff.store.tables import jobs, services


@dataclass(frozen=True, slots=True)
class TypeUse:
    """`path` of a service, or of a job with its name behind a colon."""

    path: str
    instance_type: str


def find_other_types(connection: Connection, offered: Collection[str], most: int) -> list[TypeUse]:
    """Services and jobs whose instance type is none of `offered`, by their paths."""
    of_services = select(services.c.path, services.c.instance_type).where(services.c.instance_type.not_in(offered))
    of_jobs = (
        select((services.c.path + ":" + jobs.c.name).label("path"), jobs.c.instance_type)
        .join_from(jobs, services, jobs.c.service_id == services.c.id)
        .where(jobs.c.instance_type.not_in(offered))
    )
    found = [
        TypeUse(*row)
        for query in (of_services, of_jobs)
        for row in connection.execute(query.order_by("path").limit(most))
    ]
    return sorted(found, key=lambda each: each.path)[:most]


@dataclass(frozen=True, slots=True)
class LongJob:
    id: str
    path: str
    timeout_seconds: int


def find_jobs_longer_than(connection: Connection, workspace_id: str, seconds: int) -> list[LongJob]:
    """Jobs whose own time limit is longer, by their paths."""
    path = (services.c.path + ":" + jobs.c.name).label("path")
    query = (
        select(jobs.c.id, path, jobs.c.timeout_seconds)
        .join_from(jobs, services, jobs.c.service_id == services.c.id)
        .where(jobs.c.workspace_id == workspace_id, jobs.c.timeout_seconds > seconds)
        .order_by(path)
    )
    return [LongJob(*row) for row in connection.execute(query)]


def fetch_job_names(connection: Connection, workspace_id: str) -> dict[str, str]:
    """By id."""
    query = select(jobs.c.id, jobs.c.name).where(jobs.c.workspace_id == workspace_id)
    return {row.id: row.name for row in connection.execute(query)}
