"""Ended runs as far as history is concerned: how many there are, the oldest ones, and their end. For the historian.

A line is what is kept together: the runs of a job, or the ad-hoc runs of a service. Both may be gone long since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, case, delete, exists, func, or_, select

from oneoff.core.clock import from_us, to_us
from oneoff.core.retention import KeptRun, Retention, Wish, from_text, oldest_kept, within
from oneoff.core.run import GOING, RunStatus
from oneoff.store.deploy_tables import deploy_gates
from oneoff.store.dialect import insert_or_add
from oneoff.store.tables import batches, crons, deploys, jobs, runs
from oneoff.store.usage import BILLED_SECONDS, DAY
from oneoff.store.usage_tables import usage

_ENDED = runs.c.finished_at.is_not(None)
_FAILED = (runs.c.status == RunStatus.FAILED.value).label("is_failed")
_newer = runs.alias("newer")


@dataclass(frozen=True, slots=True)
class Line:
    """One of the two is None."""

    job_id: str | None = None
    service_id: str | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """Of the ended runs of a line, failed or not: how many, and when the oldest of them ended."""

    total: int = 0
    oldest: datetime | None = None


def find_job_after(connection: Connection, job_id: str) -> str | None:
    """Whose runs come next in the order of ids; begins with ""."""
    return connection.execute(select(func.min(runs.c.job_id)).where(runs.c.job_id > job_id)).scalar()


def find_service_after(connection: Connection, service_id: str) -> str | None:
    return connection.execute(select(func.min(runs.c.service_id)).where(runs.c.service_id > service_id)).scalar()


def find_wish(connection: Connection, job_id: str) -> Wish | None:
    """What the job asks for; None when it asks for nothing, or is gone."""
    return from_text(connection.execute(select(jobs.c.retention).where(jobs.c.id == job_id)).scalar())


def count_ended(connection: Connection, line: Line) -> dict[bool, Count]:
    """Failed ones by True, all others by False."""
    query = select(_FAILED, func.count(), func.min(runs.c.finished_at)).where(_of(line)).group_by(_FAILED)
    found = {bool(row[0]): Count(row[1], from_us(row[2])) for row in connection.execute(query)}
    return {failed: found.get(failed, Count()) for failed in (False, True)}


def fetch_oldest(connection: Connection, line: Line, *, failed: bool, most: int) -> list[KeptRun]:
    """Those that ended first, and whether something that is still open refers to them."""
    needed = or_(_is_of_open_batch(), _is_of_open_deploy(), _is_last_success())
    kind = runs.c.status == RunStatus.FAILED.value if failed else runs.c.status != RunStatus.FAILED.value
    query = (
        select(runs.c.id, runs.c.status, runs.c.finished_at, needed.label("is_needed"))
        .where(_of(line), kind)
        .order_by(runs.c.finished_at, runs.c.id)
        .limit(most)
    )
    return [
        KeptRun(row.id, RunStatus(row.status), from_us(row.finished_at), bool(row.is_needed))
        for row in connection.execute(query)
    ]


def fetch_referred(connection: Connection) -> set[str]:
    """Runs that a going one names: the attempt before it, or the run that it repeats."""
    going = runs.c.status.in_([status.value for status in GOING])
    query = select(runs.c.retry_of, runs.c.rerun_of).where(
        going, or_(runs.c.retry_of.is_not(None), runs.c.rerun_of.is_not(None))
    )
    return {run_id for row in connection.execute(query) for run_id in row if run_id is not None}


def drop_ended(connection: Connection, run_ids: Sequence[str]) -> list[str]:
    """Their rows go, and what they cost stays, in one transaction. Returns those that were there. The caller removes
    their logs."""
    chosen = and_(runs.c.id.in_(run_ids), _ENDED)
    groups = {
        "workspace_id": runs.c.workspace_id,
        "day": DAY,
        "service_id": runs.c.service_id,
        "job_id": func.coalesce(runs.c.job_id, ""),
        "instance_type": runs.c.instance_type,
        "terms": func.coalesce(runs.c.terms, ""),
        "service": runs.c.service,
    }
    sums = {"runs": func.count(), "seconds": func.sum(BILLED_SECONDS)}
    query = (
        select(*(column.label(name) for name, column in (groups | sums).items()))
        .where(chosen, runs.c.started_at.is_not(None))
        .group_by(*groups.values())
    )
    if rows := [dict(row._mapping) for row in connection.execute(query)]:
        insert_or_add(connection, usage, rows, ("runs", "seconds"))
    return list(connection.execute(delete(runs).where(chosen).returning(runs.c.id)).scalars())


def count_beyond(connection: Connection, allowed: Retention, now: datetime) -> int:
    """Ended runs that are more, or older, than `allowed`; needed ones count, too."""
    wishes = {row.id: from_text(row.retention) for row in connection.execute(select(jobs.c.id, jobs.c.retention))}
    edges = {failed: to_us(oldest_kept(allowed, now, failed=failed)) for failed in (False, True)}
    edge = case((_FAILED, edges[True]), else_=edges[False])
    old = func.sum(case((runs.c.finished_at < edge, 1), else_=0))
    beyond = 0
    for owner, is_of_job in ((runs.c.job_id, runs.c.job_id.is_not(None)), (runs.c.service_id, runs.c.job_id.is_(None))):
        query = select(owner, func.count(), old).where(_ENDED, is_of_job).group_by(owner, _FAILED)
        for owner_id, total, too_old in connection.execute(query):
            beyond += max(total - within(wishes.get(owner_id), allowed).most_runs, too_old, 0)
    return beyond


def _of(line: Line) -> ColumnElement[bool]:
    if line.job_id is not None:
        return and_(runs.c.job_id == line.job_id, _ENDED)
    return and_(runs.c.service_id == line.service_id, runs.c.job_id.is_(None), _ENDED)


def _is_of_open_batch() -> ColumnElement[bool]:
    return exists().where(batches.c.id == runs.c.batch_id, batches.c.finished_at.is_(None))


def _is_of_open_deploy() -> ColumnElement[bool]:
    """A gate of a deploy that is still going, or a job that follows it and is not over."""
    gate = deploy_gates.c
    is_gate = exists().where(gate.deploy_id == runs.c.deploy_id, gate.job_id == runs.c.job_id, gate.status.is_(None))
    return or_(is_gate, exists().where(deploys.c.id == runs.c.deploy_id, deploys.c.finished_at.is_(None)))


def _is_last_success() -> ColumnElement[bool]:
    """Of a cron with an alert: without it the cron would seem to have never succeeded."""
    return and_(
        runs.c.status == RunStatus.SUCCEEDED.value,
        exists().where(crons.c.id == runs.c.cron_id, crons.c.alert_after_ticks.is_not(None)),
        ~exists().where(
            _newer.c.cron_id == runs.c.cron_id,
            _newer.c.id > runs.c.id,
            _newer.c.status == RunStatus.SUCCEEDED.value,
            _newer.c.scheduled_for.is_not(None),
        ),
    )
