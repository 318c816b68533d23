"""What runs have used: those that are there, and what remains of those that the history has dropped. Called by the
operations; the same seconds as `core.money` counts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, literal, select

from oneoff.core.run import Reason
from oneoff.core.usage import By, UsageRow
from oneoff.store.tables import runs
from oneoff.store.usage_tables import usage

_MICRO = 1_000_000
_DAY_US = 86_400 * _MICRO

_UNTIL = case(
    (runs.c.reason == Reason.LOST.value, func.coalesce(runs.c.seen_at, runs.c.started_at)), else_=runs.c.finished_at
)
_WHOLE = (_UNTIL - runs.c.started_at + (_MICRO - 1)) // _MICRO
BILLED_SECONDS: ColumnElement[int] = case((_WHOLE < 1, 1), else_=_WHOLE)
DAY: ColumnElement[int] = runs.c.finished_at // _DAY_US


def fetch_usage(connection: Connection, workspace_id: str, days: range, by: Collection[By]) -> list[UsageRow]:
    """Of runs that ended on one of `days` (since 1970, UTC), by what is asked for and the price. A consistent view: no
    run is counted twice while it is dropped."""
    first, last = days.start, days.stop
    there = (
        runs.c.workspace_id == workspace_id,
        runs.c.started_at.is_not(None),
        runs.c.finished_at.is_not(None),
        runs.c.finished_at >= first * _DAY_US,
        runs.c.finished_at < last * _DAY_US,
    )
    of_runs = {"day": DAY, "service_id": runs.c.service_id, "job_id": func.coalesce(runs.c.job_id, "")}
    found = _sum(connection, of_runs, runs, (func.count(), BILLED_SECONDS), there, by)
    kept = (usage.c.workspace_id == workspace_id, usage.c.day >= first, usage.c.day < last)
    of_kept = {name: usage.c[name] for name in of_runs}
    return found + _sum(connection, of_kept, usage, (func.sum(usage.c.runs), usage.c.seconds), kept, by)


def _sum(
    connection: Connection,
    parts: Mapping[str, ColumnElement[Any]],
    table: Any,
    counted: tuple[ColumnElement[Any], ColumnElement[Any]],
    guards: Collection[ColumnElement[bool]],
    by: Collection[By],
) -> list[UsageRow]:
    asked = {By.DAY: "day", By.SERVICE: "service_id", By.JOB: "job_id"}
    groups = [parts[name].label(name) for kind, name in asked.items() if kind in by]
    rest = [parts[name] for kind, name in asked.items() if kind in by]
    price = [table.c.instance_type, func.coalesce(table.c.terms, "")]
    service = func.max(table.c.service) if By.SERVICE in by else literal(None)
    query = (
        select(*groups, *(column.label(name) for name, column in zip(("type", "terms"), price, strict=True)))
        .add_columns(service.label("service"), counted[0].label("runs"), func.sum(counted[1]).label("seconds"))
        .where(*guards)
        .group_by(*rest, *price)
    )
    return [
        UsageRow(
            day=row.day if By.DAY in by else None,
            service_id=row.service_id if By.SERVICE in by else None,
            service=row.service,
            job_id=row.job_id or None if By.JOB in by else None,
            instance_type=row.type,
            terms=row.terms or None,
            runs=int(row.runs),
            seconds=int(row.seconds),
        )
        for row in connection.execute(query)
    ]
