"""Crons: saved, listed, and those that are due. Called by the operations and the scheduler.

The cursor of a cron moves only under its version: whoever read an older one loses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, or_, select, update

from oneoff.core.clock import from_us, to_us
from oneoff.core.dst import DstPolicy
from oneoff.core.overlap import Overlap
from oneoff.core.ticks import CatchUp
from oneoff.errors import NotFound
from oneoff.store import configuration
from oneoff.store.dialect import fetch_fast, insert_if_absent, update_fast
from oneoff.store.tables import crons, deploys, environments, jobs, services, workspaces


@dataclass(frozen=True, slots=True)
class Cron:
    """Every instant up to `cursor` is in the ledger. The fields from `job` on belong to the rows around it.

    Whatever its ticks and their runs are made from is one of the fields, or has its version in one: equal crons make
    equal runs."""

    id: str
    workspace_id: str
    job_id: str
    name: str
    expression: str
    zone: str
    overlap: Overlap
    dst_policy: DstPolicy
    catch_up: CatchUp
    catch_up_seconds: int
    jitter_seconds: int
    starts_at: datetime | None
    ends_at: datetime | None
    paused: bool
    hold_during_deploy: bool
    alert_after_ticks: int | None
    alerted_at: datetime | None
    managed_by: str | None
    cursor: datetime
    next_due_at: datetime | None
    version: int
    created_at: datetime
    job: str = ""
    service_id: str = ""
    environment_id: str = ""
    plan: str = ""
    live_deploy_id: str | None = None
    job_updated_at: datetime | None = None
    configuration: str | None = None
    suspended: bool = False
    environment_paused: bool = False
    workspace_paused: bool = False

    @property
    def is_paused(self) -> bool:
        return self.paused or self.environment_paused or self.workspace_paused


@dataclass(frozen=True, slots=True)
class CronFilter:
    """Which crons a list shows; None = any."""

    job_id: str | None = None
    service_id: str | None = None
    environment_id: str | None = None


@dataclass(frozen=True, slots=True)
class CursorMove:
    """Of a cron as it was read, with this version: where its ledger ends now, and when it is looked at again."""

    cron_id: str
    version: int
    cursor: datetime
    next_due_at: datetime | None
    alerted_at: datetime | None


_OWN = [field.name for field in fields(Cron)][: [field.name for field in fields(Cron)].index("job")]
_TIMES = ("starts_at", "ends_at", "alerted_at", "cursor", "next_due_at", "created_at", "job_updated_at")
# By value: looking one up takes a tenth of the time of calling its class, and crons are read by the thousand.
_ENUMS: Mapping[str, Mapping[str, Any]] = {
    name: {member.value: member for member in kind}
    for name, kind in (("overlap", Overlap), ("dst_policy", DstPolicy), ("catch_up", CatchUp))
}
_FLAGS = ("paused", "hold_during_deploy", "suspended", "environment_paused", "workspace_paused")
_SELECT = (
    select(
        *(crons.c[name] for name in _OWN),
        (services.c.path + ":" + jobs.c.name).label("job"),
        jobs.c.service_id,
        services.c.environment_id,
        workspaces.c.plan,
        services.c.live_deploy_id,
        jobs.c.updated_at.label("job_updated_at"),
        configuration.VERSION.label("configuration"),
        services.c.suspended,
        environments.c.crons_paused.label("environment_paused"),
        workspaces.c.crons_paused.label("workspace_paused"),
    )
    .join_from(crons, jobs, crons.c.job_id == jobs.c.id)
    .join(services, jobs.c.service_id == services.c.id)
    .join(environments, services.c.environment_id == environments.c.id)
    .join(workspaces, crons.c.workspace_id == workspaces.c.id)
)
_NAMES = tuple(_SELECT.selected_columns.keys())
_MOST_REMEMBERED = 2048
_BY_ID = _SELECT.where(crons.c.id == bindparam("cron_id"))
_COMING = (
    _SELECT.where(crons.c.next_due_at <= bindparam("now"))
    .order_by(crons.c.next_due_at, crons.c.id)
    .limit(bindparam("most"))
)
# Rows that another server's scheduler has in hand are its business.
_DUE = _COMING.with_for_update(of=crons, skip_locked=True)
_MOVE = (
    update(crons)
    .where(crons.c.id == bindparam("cron_id"), crons.c.version == bindparam("old"))
    .values(
        cursor=bindparam("to"),
        next_due_at=bindparam("due"),
        alerted_at=bindparam("alerted"),
        version=crons.c.version + 1,
    )
)


def save_new(connection: Connection, cron: Cron) -> bool:
    """False when its job has a cron of that name."""
    return insert_if_absent(connection, crons, _to_row({name: getattr(cron, name) for name in _OWN}))


def find_cron(connection: Connection, cron_id: str) -> Cron | None:
    row = connection.execute(_BY_ID, {"cron_id": cron_id}).one_or_none()
    return None if row is None else _to_cron(tuple(row))


def get_cron(connection: Connection, cron_id: str) -> Cron:
    """Raises NotFound."""
    if (cron := find_cron(connection, cron_id)) is None:
        raise NotFound("cron", cron_id, "`oneoff cron list` shows them")
    return cron


def list_crons(
    connection: Connection, workspace_id: str, wanted: CronFilter, limit: int, before: str | None
) -> list[Cron]:
    """Newest first; `before` is the id of the last cron of the page before."""
    query = _SELECT.where(crons.c.workspace_id == workspace_id).order_by(crons.c.id.desc()).limit(limit)
    if wanted.job_id is not None:
        query = query.where(crons.c.job_id == wanted.job_id)
    if wanted.service_id is not None:
        query = query.where(jobs.c.service_id == wanted.service_id)
    if wanted.environment_id is not None:
        query = query.where(services.c.environment_id == wanted.environment_id)
    if before is not None:
        query = query.where(crons.c.id < before)
    return [_to_cron(tuple(row)) for row in connection.execute(query)]


def list_managed_by(connection: Connection, workspace_id: str, managed_by: str) -> list[Cron]:
    """Those that a job file made, by their age."""
    mine = (crons.c.workspace_id == workspace_id, crons.c.managed_by == managed_by)
    return [_to_cron(tuple(row)) for row in connection.execute(_SELECT.where(*mine).order_by(crons.c.id))]


def list_names(connection: Connection, job_id: str) -> set[str]:
    return set(connection.execute(select(crons.c.name).where(crons.c.job_id == job_id)).scalars())


def save_changes(connection: Connection, cron_id: str, changes: Mapping[str, Any]) -> None:
    """`changes` are values by the names of Cron's own fields. A scheduler that has read it before loses."""
    row = {**_to_row(changes), "version": crons.c.version + 1}
    connection.execute(update(crons).where(crons.c.id == cron_id).values(row))


def delete_cron(connection: Connection, cron_id: str) -> None:
    """Its job, its runs and its ledger stay."""
    connection.execute(delete(crons).where(crons.c.id == cron_id))


def fetch_due(connection: Connection, now: datetime, most: int) -> list[Cron]:
    """Those that have something to do, the longest waiting first; locked until the commit."""
    return [_to_cron(tuple(row)) for row in fetch_fast(connection, _DUE, {"now": to_us(now), "most": most})]


def fetch_coming(connection: Connection, until: datetime, most: int) -> list[Cron]:
    """As `fetch_due`, of those that will have something to do by then; not locked."""
    return [_to_cron(tuple(row)) for row in fetch_fast(connection, _COMING, {"now": to_us(until), "most": most})]


def fetch_due_within(connection: Connection, wanted: CronFilter, workspace_id: str, now: datetime) -> list[Cron]:
    """All due ones of a job, a service, an environment, or of the workspace; locked until the commit."""
    query = _SELECT.where(crons.c.workspace_id == workspace_id, crons.c.next_due_at <= to_us(now))
    if wanted.service_id is not None:
        query = query.where(jobs.c.service_id == wanted.service_id)
    if wanted.environment_id is not None:
        query = query.where(services.c.environment_id == wanted.environment_id)
    query = query.order_by(crons.c.id).with_for_update(of=crons)
    return [_to_cron(tuple(row)) for row in connection.execute(query)]


def find_next_due(connection: Connection) -> datetime | None:
    """When the earliest of all crons has something to do."""
    found = connection.execute(select(func.min(crons.c.next_due_at))).scalar()
    return None if found is None else from_us(found)


def fetch_deploy_times(
    connection: Connection, waiting: Sequence[Cron]
) -> dict[str, list[tuple[datetime, datetime | None]]]:
    """By service: from when to when its deploys went that may have held one of these crons since its cursor."""
    if not waiting:
        return {}
    found: dict[str, list[tuple[datetime, datetime | None]]] = {}
    earliest = min(cron.cursor for cron in waiting)
    is_near = or_(deploys.c.finished_at.is_(None), deploys.c.finished_at > to_us(earliest))
    query = select(deploys.c.service_id, deploys.c.created_at, deploys.c.finished_at).where(
        deploys.c.service_id.in_({cron.service_id for cron in waiting}), is_near
    )
    for service_id, begin, end in connection.execute(query):
        found.setdefault(service_id, []).append((from_us(begin), None if end is None else from_us(end)))
    return found


def move_cursors_if_unchanged(connection: Connection, moves: Sequence[CursorMove]) -> bool:
    """False when one of them was changed since it was read: then nothing of this transaction may stand."""
    if not moves:
        return True
    values = [
        {
            "cron_id": each.cron_id,
            "old": each.version,
            "to": to_us(each.cursor),
            "due": None if each.next_due_at is None else to_us(each.next_due_at),
            "alerted": None if each.alerted_at is None else to_us(each.alerted_at),
        }
        for each in moves
    ]
    return update_fast(connection, _MOVE, values) == len(moves)


def put_off(connection: Connection, cron_id: str, until: datetime) -> None:
    """Look at it again then; its cursor stays, so that nothing is left out."""
    row = {"next_due_at": to_us(until), "version": crons.c.version + 1}
    connection.execute(update(crons).where(crons.c.id == cron_id).values(row))


def is_environment_paused(connection: Connection, environment_id: str) -> bool:
    """Raises NotFound."""
    query = select(environments.c.crons_paused).where(environments.c.id == environment_id)
    if (found := connection.execute(query).scalar_one_or_none()) is None:
        raise NotFound("environment", environment_id, "GET /api/v1/environments lists them")
    return bool(found)


def is_workspace_paused(connection: Connection, workspace_id: str) -> bool:
    query = select(workspaces.c.crons_paused).where(workspaces.c.id == workspace_id)
    return bool(connection.execute(query).scalar_one())


def find_plan(connection: Connection, workspace_id: str) -> str:
    return str(connection.execute(select(workspaces.c.plan).where(workspaces.c.id == workspace_id)).scalar_one())


def pause_environment(connection: Connection, environment_id: str, paused: bool) -> None:
    connection.execute(update(environments).where(environments.c.id == environment_id).values(crons_paused=paused))


def pause_workspace(connection: Connection, workspace_id: str, paused: bool) -> None:
    connection.execute(update(workspaces).where(workspaces.c.id == workspace_id).values(crons_paused=paused))


@lru_cache(maxsize=_MOST_REMEMBERED)
def _to_cron(row: tuple[Any, ...]) -> Cron:
    """A row that was read before its instant and is still the same gives the same cron again."""
    values: dict[str, Any] = dict(zip(_NAMES, row, strict=True))
    for name in _TIMES:
        if values[name] is not None:
            values[name] = from_us(values[name])
    for name, members in _ENUMS.items():
        values[name] = members[values[name]]
    for name in _FLAGS:
        values[name] = bool(values[name])
    return Cron(**values)


def _to_row(values: Mapping[str, Any]) -> dict[str, Any]:
    row = dict(values)
    for name in _TIMES:
        if row.get(name) is not None:
            row[name] = to_us(row[name])
    for name in ("overlap", "dst_policy", "catch_up"):
        if name in row:
            row[name] = str(row[name])
    return row
