"""One transaction of the batcher: what became of a batch's going items, what goes next, and the end of the batch. Also
called by the operation that cancels a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from oneoff.core.batch import (
    Batch,
    BatchStatus,
    ItemStatus,
    conclude_batch,
    item_status_of,
    items_to_begin,
    stopping_index,
)
from oneoff.core.outcome import Outcome, StopKind
from oneoff.core.run import Reason, Run, RunStatus
from oneoff.engine.context import Context
from oneoff.engine.events import record
from oneoff.engine.retrying import end_if_queued
from oneoff.errors import DiskFull
from oneoff.store import batches, runs
from oneoff.store.batches import SealedItem
from oneoff.store.database import Connection
from oneoff.store.runs import End

_MOST_AT_ONCE = 200  # runs that one transaction makes: others write between two


class MakeRuns(Protocol):
    def __call__(self, connection: Connection, batch: Batch, items: Sequence[SealedItem]) -> list[tuple[Run, bytes]]:
        """Runs of these items with their sealed variables, not saved yet. Raises DiskFull, WrongSecretKey."""


@dataclass(slots=True)
class Advance:
    """What was done, for those who are told after the commit."""

    batch: Batch
    accepted: int = 0
    stopped: list[str] = field(default_factory=list)  # runs
    is_unfinished: bool = False  # there is more to do at once
    has_ended: bool = False  # by this
    disk_full: DiskFull | None = None


def advance(context: Context, connection: Connection, batch_id: str, make_runs: MakeRuns | None) -> Advance:
    """Bring a batch up to date. Without `make_runs` nothing goes next. Raises NotFound."""
    batch = batches.lock_batch(connection, batch_id)
    done = Advance(batch)
    if batch.status is not BatchStatus.RUNNING:
        return done
    now = context.clock.now()
    _settle(connection, done)
    if done.batch.stopped_index is not None and batch.stopped_index is None:
        _stop(context, connection, done, now)
    if make_runs is not None:
        _begin(connection, done, make_runs)
    status = conclude_batch(done.batch.progress, is_canceled=done.batch.canceled_by is not None)
    if status is not BatchStatus.RUNNING:
        done.batch, done.has_ended = replace(done.batch, status=status, finished_at=now), True
        _record_end(context, connection, done.batch)
    if done.batch != batch:
        batches.save_state(connection, done.batch)
    return done


def cancel_all(context: Context, connection: Connection, batch_id: str, actor: str) -> Advance:
    """Those that wait will never go, queued ones end, and going ones are asked to end: in one transaction, so that no
    crash leaves half of it. A batch that has ended stays as it is. Raises NotFound."""
    batch = batches.lock_batch(connection, batch_id)
    if batch.status is not BatchStatus.RUNNING:
        return Advance(batch)
    now = context.clock.now()
    waiting = batches.give_up_waiting(connection, batch_id, ItemStatus.CANCELED)
    canceled_by = batch.canceled_by or actor
    batches.save_state(connection, replace(batch, canceled_by=canceled_by, progress=batch.progress.give_up(waiting)))
    end = End(_CANCELED, now, message=f"canceled with its batch by {actor} before it started", canceled_by=actor)
    stopped = []
    for _, run_id in batches.list_going_runs(connection, batch_id):
        if not end_if_queued(context, connection, runs.get_run(connection, run_id), end):
            runs.request_stop(connection, run_id, StopKind.CANCEL, actor, now)
        stopped.append(run_id)
    done = advance(context, connection, batch_id, None)
    done.stopped += stopped
    return done


def tell(context: Context, done: Advance) -> None:
    """After the commit: whoever gives slots, and whoever looks after a run that is to stop."""
    if done.accepted or done.stopped:
        context.signals.run_accepted()
    for run_id in done.stopped:
        context.signals.run_changed(run_id)
    if done.is_unfinished:
        context.signals.batch_changed(done.batch.id)


_CANCELED = Outcome(RunStatus.CANCELED, Reason.CANCELED)


def _settle(connection: Connection, done: Advance) -> None:
    """Items whose newest run has ended: by its end, or with the attempt that follows it."""
    batch, ended, retried = done.batch, [], []
    for each in batches.fetch_ended(connection, batch.id):
        if each.next_id is not None:
            retried.append((each.index, each.next_id))
        else:
            # A run that the history has forgotten did not succeed as far as anybody can know.
            status = ItemStatus.FAILED if each.status is None else item_status_of(each.status)
            ended.append((each.index, status))
    batches.save_runs(connection, batch.id, ItemStatus.GOING, retried)
    batches.save_ends(connection, batch.id, ended)
    failed = [index for index, status in ended if status is ItemStatus.FAILED]
    stopped_index = batch.stopped_index
    if stopped_index is None and batch.canceled_by is None:
        stopped_index = stopping_index(batch.stop_on_failure, failed)
    progress = batch.progress.end([status for _, status in ended])
    done.batch = replace(batch, progress=progress, stopped_index=stopped_index)
    done.is_unfinished = bool(retried)


def _stop(context: Context, connection: Connection, done: Advance, now: datetime) -> None:
    """An item failed: what has not started never will. What is at work goes on to its own end."""
    batch = done.batch
    waiting = batches.give_up_waiting(connection, batch.id, ItemStatus.STOPPED)
    end = End(_CANCELED, now, message=f"not started: item {batch.stopped_index} of its batch failed")
    stopped = []
    for index, run_id in batches.list_going_runs(connection, batch.id):
        if end_if_queued(context, connection, runs.get_run(connection, run_id), end):
            stopped.append((index, ItemStatus.STOPPED))
            done.stopped.append(run_id)
    batches.save_ends(connection, batch.id, stopped)
    progress = batch.progress.give_up(waiting).end([status for _, status in stopped])
    done.batch = replace(batch, progress=progress)


def _begin(connection: Connection, done: Advance, make_runs: MakeRuns) -> None:
    batch = done.batch
    room = items_to_begin(batch.progress, batch.max_parallel)
    if not room:
        return
    items = batches.fetch_waiting(connection, batch.id, min(room, _MOST_AT_ONCE))
    try:
        made = make_runs(connection, batch, items)
    except DiskFull as problem:
        done.disk_full = problem
        return
    runs.save_all_new(connection, made)
    begun = [(item.index, run.id) for item, (run, _) in zip(items, made, strict=True)]
    batches.save_runs(connection, batch.id, ItemStatus.WAITING, begun)
    done.batch = replace(batch, progress=batch.progress.begin(len(made)))
    done.accepted = len(made)
    done.is_unfinished = done.is_unfinished or room > _MOST_AT_ONCE


def _record_end(context: Context, connection: Connection, batch: Batch) -> None:
    progress = batch.progress
    body = {
        "service": batch.template.service,
        "job_id": batch.job_id,
        "status": batch.status.value,
        "item_count": progress.items,
        "succeeded": progress.succeeded,
        "failed": progress.failed,
        "canceled": progress.canceled,
        "actor": batch.actor,
    }
    record(context, connection, "batch.ended", batch.id, body, batch.service_id)
