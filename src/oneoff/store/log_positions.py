"""How far the log of each run was sent. Called by the engine's forwarder.

A run gets its row when the forwarder first hears of it, in a transaction of the forwarder's _own. A server that dies
between the end of a run and that moment finds it all the same: of each node a mark is kept, the id before which every
run has a row or needs none. Runs that are behind the mark, or going, are looked through at start. Rows of what was sent
to its end stay until the mark has passed them, so that nothing is sent a second time.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, func, or_, select, update

from oneoff.core.clock import from_us
from oneoff.core.log_origin import LogOrigin
from oneoff.core.run import FINAL, GOING, ON_NODE
from oneoff.store.dialect import insert_if_absent
from oneoff.store.log_stream_tables import log_marks, log_positions
from oneoff.store.tables import jobs, runs

_FINAL, _GOING, _ON_NODE = ([status.value for status in kinds] for kinds in (FINAL, GOING, ON_NODE))


@dataclass(frozen=True, slots=True)
class Progress:
    """Every line that ends up to `position` was sent; whoever goes on reads from `open_from`."""

    position: int = 0
    open_from: int = 0
    is_complete: bool = False


@dataclass(frozen=True, slots=True)
class LogRun:
    """What the forwarder knows of a run. `dropped_lines` went with its log, and nobody was told yet."""

    origin: LogOrigin
    progress: Progress
    made_at: datetime
    is_final: bool
    is_new: bool  # it has no row yet
    dropped_lines: int = 0


_own = log_positions.c
_FACTS = (
    runs.c.id,
    runs.c.service_id,
    runs.c.service,
    runs.c.attempt,
    runs.c.node,
    runs.c.status,
    runs.c.created_at,
    func.coalesce(jobs.c.name, runs.c.job_id).label("job"),
    _own.position,
    _own.open_from,
    _own.is_complete,
    _own.dropped_lines,
)
_RUNS = (
    select(*_FACTS)
    .select_from(
        runs.outerjoin(jobs, runs.c.job_id == jobs.c.id).outerjoin(log_positions, runs.c.id == _own.run_id),
    )
    .order_by(runs.c.id)
)
_NEW = _RUNS.where(_own.run_id.is_(None))


def find_runs(connection: Connection, node: str, run_ids: Collection[str]) -> list[LogRun]:
    """Of these the ones on this node."""
    return [_to_run(row) for row in connection.execute(_RUNS.where(runs.c.id.in_(run_ids), runs.c.node == node))]


def find_missed(connection: Connection, node: str, mark: str) -> list[LogRun]:
    """Runs of this node without a row: those going, and those behind the mark."""
    going = _NEW.where(runs.c.status.in_(_ON_NODE), runs.c.node == node)
    behind = _NEW.where(runs.c.id >= mark, runs.c.node == node)
    found = {row.id: row for query in (going, behind) for row in connection.execute(query)}
    return [_to_run(row) for row in found.values()]


def list_unsent(connection: Connection, stream_id: str, node: str, limit: int) -> list[LogRun]:
    """Runs of a stream on this node whose log was not sent to its end, oldest first."""
    query = (
        select(log_positions, runs.c.status, runs.c.created_at)
        .outerjoin_from(log_positions, runs, _own.run_id == runs.c.id)
        .where(_own.stream_id == stream_id, or_(_own.node == node, runs.c.node == node), ~_own.is_complete)
        .order_by(_own.run_id)
        .limit(limit)
    )
    return [_to_unsent(row, node) for row in connection.execute(query)]


def find_sealed_variables(connection: Connection, run_ids: Collection[str]) -> dict[str, bytes]:
    """Of these runs, as far as the history still has them."""
    rows = connection.execute(select(runs.c.id, runs.c.variables_sealed).where(runs.c.id.in_(run_ids)))
    return {row.id: bytes(row.variables_sealed) for row in rows}


def save_new(connection: Connection, taken: Iterable[tuple[str, LogRun]]) -> None:
    """Rows for runs, each with the id of its stream."""
    for stream_id, run in taken:
        insert_if_absent(connection, log_positions, _to_row(stream_id, run))


def save_progress(connection: Connection, node: str, progress: Mapping[str, Progress]) -> None:
    """By run. Rows that went with their stream do not come back."""
    for run_id, each in progress.items():
        values = {"node": node, **asdict(each)} | ({"dropped_lines": 0} if each.is_complete else {})
        connection.execute(update(log_positions).where(log_positions.c.run_id == run_id).values(values))


def drop(connection: Connection, lines: Mapping[str, int]) -> None:
    """By run: so many lines of its log were not sent, and the log goes now. In the transaction that lets it go."""
    for run_id, count in lines.items():
        guard = (_own.run_id == run_id, ~_own.is_complete)
        connection.execute(update(log_positions).where(*guard).values(dropped_lines=_own.dropped_lines + count))


def find_unsent(connection: Connection, run_ids: Collection[str]) -> dict[str, Progress]:
    """Of those of these runs whose log was not sent to its end."""
    rows = connection.execute(select(log_positions).where(_own.run_id.in_(run_ids), ~_own.is_complete))
    return {row.run_id: _to_progress(row) for row in rows}


def sum_unsent_bytes(connection: Connection, stream_id: str, node: str) -> int:
    """Of ended runs."""
    query = (
        select(func.sum(runs.c.stdout_bytes + runs.c.stderr_bytes - _own.position))
        .join_from(log_positions, runs, _own.run_id == runs.c.id)
        .where(_own.stream_id == stream_id, _own.node == node, ~_own.is_complete, runs.c.status.in_(_FINAL))
    )
    return int(connection.execute(query).scalar() or 0)


def find_mark(connection: Connection, node: str) -> str | None:
    return connection.execute(select(log_marks.c.run_id).where(log_marks.c.node == node)).scalar()


def find_unmarked(connection: Connection, mark: str) -> list[LogRun]:
    """Runs anywhere that have not ended and have no row, before a mark to be: they need one, as they may yet write."""
    query = _NEW.where(runs.c.status.in_(_GOING), runs.c.id < mark)
    return [_to_run(row) for row in connection.execute(query)]


def move_mark(connection: Connection, node: str, mark: str) -> None:
    """Forward, in the transaction that has given rows to those before it; and rows nobody needs any more go."""
    row = {"node": node, "run_id": mark}
    if not insert_if_absent(connection, log_marks, row):
        guard = (log_marks.c.node == node, log_marks.c.run_id < mark)
        connection.execute(update(log_marks).where(*guard).values(run_id=mark))
    connection.execute(delete(log_positions).where(_own.node == node, _own.is_complete, _own.run_id < mark))
    # Canceled in the queue, for example: no node ever had them.
    never_began = select(runs.c.id).where(runs.c.id == _own.run_id, runs.c.node.is_(None), runs.c.status.in_(_FINAL))
    connection.execute(delete(log_positions).where(_own.node.is_(None), exists(never_began)))


def _to_run(row: Any) -> LogRun:
    origin = LogOrigin(row.id, row.service_id, row.service, row.job, row.attempt, row.node or "")
    is_new = row.position is None
    progress = Progress() if is_new else _to_progress(row)
    return LogRun(origin, progress, from_us(row.created_at), row.status in _FINAL, is_new, row.dropped_lines or 0)


def _to_unsent(row: Row[Any], node: str) -> LogRun:
    origin = replace(LogOrigin(**json.loads(row.origin)), node=node)
    is_gone = row.status is None  # the history dropped it
    made_at = from_us(0 if is_gone else row.created_at)
    return LogRun(origin, _to_progress(row), made_at, is_gone or row.status in _FINAL, False, row.dropped_lines)


def _to_progress(row: Row[Any]) -> Progress:
    return Progress(row.position, row.open_from, bool(row.is_complete))


def _to_row(stream_id: str, run: LogRun) -> dict[str, Any]:
    return {
        "run_id": run.origin.run_id,
        "stream_id": stream_id,
        "node": run.origin.node or None,
        "dropped_lines": 0,
        "origin": json.dumps(asdict(run.origin)),
        **asdict(run.progress),
    }
