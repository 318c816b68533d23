"""Batches and their items. Called by the operations and the batcher.

Whoever changes a batch locks its row first and writes it at last: two servers never decide the same one at once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, bindparam, delete, func, insert, or_, select, update

from oneoff.core.batch import TEMPLATE_FIELDS, Batch, BatchStatus, ItemStatus, Progress, Template
from oneoff.core.clock import from_us, to_us
from oneoff.core.run import RunStatus
from oneoff.errors import NotFound
from oneoff.store.tables import batch_items, batches, runs

_PLAIN = (
    *("id", "workspace_id", "service_id", "job_id", "max_parallel", "stop_on_failure", "index_count"),
    *("rerun_of", "actor", "canceled_by", "stopped_index"),
)
_COUNTS = ("going", "succeeded", "failed", "canceled")
_COLUMNS = [batches.c[name] for name in (*_PLAIN, *_COUNTS, "item_count", "status", "template")]
_SELECT = select(*_COLUMNS, batches.c.created_at, batches.c.finished_at)
_ONE = _SELECT.where(batches.c.id == bindparam("batch_id"))
_LOCKED = _ONE.with_for_update()
_RUNNING = BatchStatus.RUNNING.value
_own = batch_items.c
_INDEX = _own.index.label("item_index")  # `index` is a method of rows


@dataclass(frozen=True, slots=True)
class BatchFilter:
    """Which batches a list shows; None = any."""

    service_id: str | None = None
    job_id: str | None = None
    status: BatchStatus | None = None


@dataclass(frozen=True, slots=True)
class SealedItem:
    index: int
    item_sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item with its newest run; the run's facts are None where it has none, or the history has forgotten it."""

    index: int
    status: ItemStatus
    run_id: str | None
    run_status: RunStatus | None
    reason: str | None
    exit_code: int | None
    attempt: int | None
    message: str | None
    started_at: datetime | None
    finished_at: datetime | None
    item_sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class EndedRun:
    """The run of a going item that has ended; `next_id` is the attempt that follows. A status of None: it is gone."""

    index: int
    status: RunStatus | None
    next_id: str | None


def save_new(connection: Connection, batch: Batch, request_sealed: bytes, items: Sequence[SealedItem]) -> None:
    connection.execute(insert(batches), _to_row(batch) | {"request_sealed": request_sealed})
    rows = [
        {"batch_id": batch.id, "index": each.index, "item_sealed": each.item_sealed, "status": ItemStatus.WAITING.value}
        for each in items
    ]
    connection.execute(insert(batch_items), rows)


def get_batch(connection: Connection, batch_id: str) -> Batch:
    """Raises NotFound."""
    return _required(connection, _ONE, batch_id)


def lock_batch(connection: Connection, batch_id: str) -> Batch:
    """Until the end of the transaction nobody else changes it. Raises NotFound."""
    return _required(connection, _LOCKED, batch_id)


def fetch_request(connection: Connection, batch_id: str) -> bytes:
    """What all items share, sealed."""
    query = select(batches.c.request_sealed).where(batches.c.id == batch_id)
    return bytes(connection.execute(query).scalar_one())


def list_batches(
    connection: Connection, workspace_id: str, wanted: BatchFilter, limit: int, before: str | None
) -> list[Batch]:
    """Newest first; `before` is the id of the last batch of the page before."""
    query = _SELECT.where(batches.c.workspace_id == workspace_id).order_by(batches.c.id.desc()).limit(limit)
    for name in ("service_id", "job_id", "status"):
        if (value := getattr(wanted, name)) is not None:
            query = query.where(batches.c[name] == str(value))
    if before is not None:
        query = query.where(batches.c.id < before)
    return [_to_batch(row) for row in connection.execute(query)]


def list_unfinished(connection: Connection) -> list[str]:
    return list(connection.execute(select(batches.c.id).where(batches.c.status == _RUNNING)).scalars())


def count_unfinished_items(connection: Connection, service_id: str) -> int:
    """Of a service: items that wait to enter the queue."""
    ended = batches.c.going + batches.c.succeeded + batches.c.failed + batches.c.canceled
    query = select(func.coalesce(func.sum(batches.c.item_count - ended), 0))
    guard = (batches.c.service_id == service_id, batches.c.status == _RUNNING)
    return int(connection.execute(query.where(*guard)).scalar_one())


def fetch_needed_digests(connection: Connection) -> set[str]:
    """Digests of images that items of unfinished batches need."""
    query = select(batches.c.template).where(batches.c.status == _RUNNING)
    return {json.loads(text)["digest"] for text in connection.execute(query).scalars()}


def count_queued(connection: Connection, batch_ids: Collection[str]) -> dict[str, int]:
    """Going items whose run has not begun, by batch."""
    query = (
        select(_own.batch_id, func.count())
        .join_from(batch_items, runs, runs.c.id == _own.run_id)
        .where(_own.batch_id.in_(batch_ids), _own.status == ItemStatus.GOING.value)
        .where(runs.c.status == RunStatus.QUEUED.value)
        .group_by(_own.batch_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def list_items(
    connection: Connection,
    batch_id: str,
    statuses: Collection[ItemStatus],
    limit: int | None = None,
    after: int | None = None,
) -> list[ItemRow]:
    """In the order of their indices; `after` is the last index of the page before. No statuses, no limit = any."""
    query = (
        select(
            *(_INDEX, _own.status, _own.run_id, runs.c.status.label("run_status"), runs.c.reason, runs.c.exit_code),
            *(runs.c.attempt, runs.c.message, runs.c.started_at, runs.c.finished_at, _own.item_sealed),
        )
        .join_from(batch_items, runs, runs.c.id == _own.run_id, isouter=True)
        .where(_own.batch_id == batch_id)
        .order_by(_own.index)
        .limit(limit)
    )
    if statuses:
        query = query.where(_own.status.in_([each.value for each in statuses]))
    if after is not None:
        query = query.where(_own.index > after)
    return [_to_item(row) for row in connection.execute(query)]


_next = runs.alias("next")
_ENDED = (
    select(_INDEX, runs.c.status, _next.c.id.label("next_id"))
    .join_from(batch_items, runs, runs.c.id == _own.run_id, isouter=True)
    .join(
        _next,
        and_(
            _next.c.batch_id == _own.batch_id,
            _next.c.batch_index == _own.index,
            _next.c.attempt == runs.c.attempt + 1,
        ),
        isouter=True,
    )
    .where(_own.batch_id == bindparam("batch_id"), _own.status == ItemStatus.GOING.value)
    .where(or_(runs.c.id.is_(None), runs.c.finished_at.is_not(None)))
)


def fetch_ended(connection: Connection, batch_id: str) -> list[EndedRun]:
    """Of its going items, those whose run has ended."""
    return [
        EndedRun(row.item_index, None if row.status is None else RunStatus(row.status), row.next_id)
        for row in connection.execute(_ENDED, {"batch_id": batch_id})
    ]


_WAITING = (
    select(_INDEX, _own.item_sealed)
    .where(_own.batch_id == bindparam("batch_id"), _own.status == ItemStatus.WAITING.value)
    .order_by(_own.index)
    .limit(bindparam("limit"))
)


def fetch_waiting(connection: Connection, batch_id: str, limit: int) -> list[SealedItem]:
    """Those that go next."""
    rows = connection.execute(_WAITING, {"batch_id": batch_id, "limit": limit})
    return [SealedItem(row.item_index, bytes(row.item_sealed)) for row in rows]


def list_going_runs(connection: Connection, batch_id: str) -> list[tuple[int, str]]:
    """Index and id of each of its runs that has not ended."""
    query = select(runs.c.batch_index, runs.c.id).where(runs.c.batch_id == batch_id, runs.c.finished_at.is_(None))
    return [(row[0], row[1]) for row in connection.execute(query)]


_CHANGE = update(batch_items).where(
    _own.batch_id == bindparam("of_batch"), _own.index == bindparam("of_index"), _own.status == bindparam("old_status")
)
_SET_RUN = _CHANGE.values(status=ItemStatus.GOING.value, run_id=bindparam("new_run"))
_SET_STATUS = _CHANGE.values(status=bindparam("new_status"))


def save_runs(connection: Connection, batch_id: str, old: ItemStatus, new: Sequence[tuple[int, str]]) -> None:
    """Which run an item has from now on, by index: waiting items begin to go, going ones get another attempt."""
    if new:
        rows = [
            {"of_batch": batch_id, "of_index": index, "old_status": old.value, "new_run": run_id}
            for index, run_id in new
        ]
        connection.execute(_SET_RUN, rows)


def save_ends(connection: Connection, batch_id: str, ended: Sequence[tuple[int, ItemStatus]]) -> None:
    """Of going items, by index."""
    if ended:
        rows = [
            {"of_batch": batch_id, "of_index": index, "old_status": ItemStatus.GOING.value, "new_status": status.value}
            for index, status in ended
        ]
        connection.execute(_SET_STATUS, rows)


def give_up_waiting(connection: Connection, batch_id: str, status: ItemStatus) -> int:
    """All items that are not in the queue yet. Returns how many."""
    guard = and_(_own.batch_id == batch_id, _own.status == ItemStatus.WAITING.value)
    return connection.execute(update(batch_items).where(guard).values(status=status.value)).rowcount


def save_state(connection: Connection, batch: Batch) -> None:
    """What changes in the life of a batch. Its row was locked in this transaction."""
    row = _to_row(batch)
    changing = ("status", *_COUNTS, "canceled_by", "stopped_index", "finished_at")
    connection.execute(update(batches).where(batches.c.id == batch.id).values({name: row[name] for name in changing}))


def forget_ended_before(connection: Connection, at: datetime, most: int) -> int:
    """With their items, at most so many at a time. Their runs have a history of their own. Returns how many went."""
    query = select(batches.c.id).where(batches.c.finished_at < to_us(at)).limit(most)
    old = list(connection.execute(query).scalars())
    connection.execute(delete(batch_items).where(_own.batch_id.in_(old)))
    connection.execute(delete(batches).where(batches.c.id.in_(old)))
    return len(old)


def _required(connection: Connection, query: Select[Any], batch_id: str) -> Batch:
    row = connection.execute(query, {"batch_id": batch_id}).one_or_none()
    if row is None:
        raise NotFound("batch", batch_id, "`oneoff batch list` shows the newest ones")
    return _to_batch(row)


def _to_batch(row: Row[*tuple[Any, ...]]) -> Batch:
    values = {name: getattr(row, name) for name in _PLAIN}
    return Batch(
        **values,
        status=BatchStatus(row.status),
        progress=Progress(row.item_count, *(getattr(row, name) for name in _COUNTS)),
        template=_to_template(row.template),
        created_at=from_us(row.created_at),
        finished_at=None if row.finished_at is None else from_us(row.finished_at),
    )


def _to_row(batch: Batch) -> dict[str, Any]:
    template = {name: getattr(batch.template, name) for name in TEMPLATE_FIELDS}
    if batch.template.must_end_at is not None:
        template["must_end_at"] = to_us(batch.template.must_end_at)
    return {
        **{name: getattr(batch, name) for name in _PLAIN},
        **{name: getattr(batch.progress, name) for name in _COUNTS},
        "item_count": batch.progress.items,
        "status": batch.status.value,
        "template": json.dumps(template),
        "created_at": to_us(batch.created_at),
        "finished_at": None if batch.finished_at is None else to_us(batch.finished_at),
    }


def _to_template(text: str) -> Template:
    values = json.loads(text)
    for name in ("command", "entrypoint"):
        if isinstance(values[name], list):
            values[name] = tuple(values[name])
    if values["must_end_at"] is not None:
        values["must_end_at"] = from_us(values["must_end_at"])
    return Template(**values)


def _to_item(row: Row[*tuple[Any, ...]]) -> ItemRow:
    return ItemRow(
        index=row.item_index,
        status=ItemStatus(row.status),
        run_id=row.run_id,
        run_status=None if row.run_status is None else RunStatus(row.run_status),
        reason=row.reason,
        exit_code=row.exit_code,
        attempt=row.attempt,
        message=row.message,
        started_at=None if row.started_at is None else from_us(row.started_at),
        finished_at=None if row.finished_at is None else from_us(row.finished_at),
        item_sealed=bytes(row.item_sealed),
    )
