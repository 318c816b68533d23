"""Saved jobs. Called by the operations."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, select, update

from oneoff.core.clock import from_us, to_us
from oneoff.core.command import Command
from oneoff.core.gates import Gate
from oneoff.core.job import Job
from oneoff.errors import NotFound
from oneoff.store.dialect import insert_if_absent
from oneoff.store.tables import crons, jobs, services
from oneoff.store.words import read_words, write_words

_OWN = [field.name for field in fields(Job) if field.name not in ("service", "command")]
_SELECT = select(
    *(jobs.c[name] for name in _OWN), jobs.c.command, jobs.c.shell, services.c.path.label("service")
).join_from(jobs, services, jobs.c.service_id == services.c.id)
_NAMES = tuple(_SELECT.selected_columns.keys())
_BY_ID = _SELECT.where(jobs.c.id == bindparam("job_id"))

_STANDING = select(jobs.c.name, jobs.c.failing_since).where(jobs.c.id == bindparam("job_id"))


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job's runs end at present: `failing_since` is the first failure after its last success, if so."""

    name: str
    failing_since: datetime | None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a list shows; None = any."""

    service_id: str | None = None
    name: str | None = None


def save_new(connection: Connection, job: Job) -> bool:
    """False when its service has a job of that name."""
    return insert_if_absent(connection, jobs, _to_row(job))


def find_job(connection: Connection, job_id: str) -> Job | None:
    row = connection.execute(_BY_ID, {"job_id": job_id}).one_or_none()
    return None if row is None else _to_job(row)


def get_job(connection: Connection, job_id: str) -> Job:
    """Raises NotFound."""
    if (job := find_job(connection, job_id)) is None:
        raise NotFound("job", job_id, "`oneoff job list` shows them")
    return job


def fetch_jobs(connection: Connection, job_ids: Collection[str]) -> dict[str, Job]:
    """By id."""
    return {row.id: _to_job(row) for row in connection.execute(_SELECT.where(jobs.c.id.in_(job_ids)))}


def find_by_name(connection: Connection, service_id: str, name: str) -> Job | None:
    row = connection.execute(_SELECT.where(jobs.c.service_id == service_id, jobs.c.name == name)).one_or_none()
    return None if row is None else _to_job(row)


def list_of_gate(connection: Connection, service_id: str, gate: Gate) -> list[Job]:
    """By name."""
    query = _SELECT.where(jobs.c.service_id == service_id, jobs.c.gate == gate.value).order_by(jobs.c.name)
    return [_to_job(row) for row in connection.execute(query)]


def list_managed_by(connection: Connection, workspace_id: str, managed_by: str) -> list[Job]:
    """Those that a job file made, by their age."""
    mine = (jobs.c.workspace_id == workspace_id, jobs.c.managed_by == managed_by)
    return [_to_job(row) for row in connection.execute(_SELECT.where(*mine).order_by(jobs.c.id))]


def list_jobs(
    connection: Connection, workspace_id: str, wanted: JobFilter, limit: int, before: str | None
) -> list[Job]:
    """Newest first; `before` is the id of the last job of the page before."""
    query = _SELECT.where(jobs.c.workspace_id == workspace_id).order_by(jobs.c.id.desc()).limit(limit)
    if wanted.service_id is not None:
        query = query.where(jobs.c.service_id == wanted.service_id)
    if wanted.name is not None:
        query = query.where(jobs.c.name == wanted.name)
    if before is not None:
        query = query.where(jobs.c.id < before)
    return [_to_job(row) for row in connection.execute(query)]


def replace_job(connection: Connection, job: Job) -> None:
    """Everything but its id is as in `job` from now on. Its name was looked up before, in the same transaction."""
    row = {name: value for name, value in _to_row(job).items() if name != "id"}
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(row))


def find_standing(connection: Connection, job_id: str) -> Standing | None:
    """None when the job was deleted."""
    row = connection.execute(_STANDING, {"job_id": job_id}).one_or_none()
    return None if row is None else Standing(row[0], None if row[1] is None else from_us(row[1]))


def set_failing_since(connection: Connection, job_id: str, since: datetime | None) -> None:
    value = None if since is None else to_us(since)
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(failing_since=value))


def count_of_service(connection: Connection, service_id: str) -> int:
    return int(connection.execute(select(func.count()).where(jobs.c.service_id == service_id)).scalar_one())


def count_crons(connection: Connection, job_id: str) -> int:
    return int(connection.execute(select(func.count()).where(crons.c.job_id == job_id)).scalar_one())


def delete_with_crons(connection: Connection, job_id: str) -> None:
    """Its runs and the ledger of its crons stay: history outlives the job."""
    connection.execute(delete(crons).where(crons.c.job_id == job_id))
    connection.execute(delete(jobs).where(jobs.c.id == job_id))


def delete_of_service(connection: Connection, service_id: str) -> None:
    """All of them, with their crons."""
    of_service = select(jobs.c.id).where(jobs.c.service_id == service_id)
    connection.execute(delete(crons).where(crons.c.job_id.in_(of_service)))
    connection.execute(delete(jobs).where(jobs.c.service_id == service_id))


def _to_job(row: Row[*tuple[Any, ...]]) -> Job:
    values: dict[str, Any] = dict(zip(_NAMES, row, strict=True))
    argv = values.pop("command")
    values["command"] = Command(None if argv is None else read_words(argv), values.pop("shell"))
    if values["entrypoint"] is not None:
        values["entrypoint"] = read_words(values["entrypoint"])
    values["variables_sealed"] = bytes(values["variables_sealed"])
    for name in ("created_at", "updated_at"):
        values[name] = from_us(values[name])
    return Job(**values)


def _to_row(job: Job) -> Mapping[str, Any]:
    values: dict[str, Any] = {name: getattr(job, name) for name in _OWN}
    values["command"] = None if job.command.argv is None else write_words(job.command.argv)
    values["shell"] = job.command.shell
    values["entrypoint"] = None if job.entrypoint is None else write_words(job.entrypoint)
    for name in ("created_at", "updated_at"):
        values[name] = to_us(values[name])
    return values
