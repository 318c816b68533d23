"""From batches and their items to what the API answers: the shapes of `batch_shapes`, as plain values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from oneoff.api.answers import to_entrypoint, to_time
from oneoff.api.batch_shapes import ItemFilter
from oneoff.core.batch import Batch, ItemStatus
from oneoff.core.run import RunStatus
from oneoff.operations.batch_runs import Item
from oneoff.operations.batches import BatchView, ItemRow

_CANCELED = frozenset({ItemStatus.CANCELED, ItemStatus.STOPPED})


def to_batch(view: BatchView) -> dict[str, Any]:
    batch = view.batch
    template, progress = batch.template, batch.progress
    queued = min(view.queued, progress.going)
    return {
        "id": batch.id,
        "status": batch.status.value,
        "service_id": batch.service_id,
        "service": template.service,
        "job_id": batch.job_id,
        "rerun_of": batch.rerun_of,
        "actor": batch.actor,
        "command": template.command,
        "shell": template.shell,
        "entrypoint": to_entrypoint(template.entrypoint),
        "image": template.image,
        "digest": template.digest,
        "instance_type": template.instance_type,
        "timeout_seconds": template.timeout_seconds,
        "max_parallel": batch.max_parallel,
        "stop_on_failure": batch.stop_on_failure,
        "item_count": progress.items,
        "index_count": batch.index_count,
        "counts": {
            "waiting": progress.waiting,
            "queued": queued,
            "running": progress.going - queued,
            "succeeded": progress.succeeded,
            "failed": progress.failed,
            "canceled": progress.canceled,
        },
        "canceled_by": batch.canceled_by,
        "stopped_index": batch.stopped_index,
        "created_at": to_time(batch.created_at),
        "finished_at": to_time(batch.finished_at),
    }


def to_item(batch: Batch, row: ItemRow, item: Item) -> dict[str, Any]:
    return {
        "index": row.index,
        "status": _shown_status(row),
        "arguments": list(item.arguments),
        "variables": sorted(item.variables),
        "run_id": row.run_id,
        "rerun_of": item.rerun_of,
        "attempt": row.attempt,
        "reason": row.reason,
        "exit_code": row.exit_code,
        "message": row.message or _message(batch, row),
        "started_at": to_time(row.started_at),
        "finished_at": to_time(row.finished_at),
    }


def to_statuses(wanted: Iterable[ItemFilter]) -> list[ItemStatus]:
    """A stopped item is shown as canceled."""
    statuses = [ItemStatus(each.value) for each in wanted]
    return [*statuses, ItemStatus.STOPPED] if ItemStatus.CANCELED in statuses else statuses


def _shown_status(row: ItemRow) -> str:
    if row.status is ItemStatus.GOING:
        return "queued" if row.run_status is RunStatus.QUEUED else "running"
    return "canceled" if row.status in _CANCELED else row.status.value


def _message(batch: Batch, row: ItemRow) -> str | None:
    """Why an item without a run has none."""
    if row.run_id is not None or row.status not in _CANCELED:
        return None
    if row.status is ItemStatus.STOPPED:
        return f"not started: item {batch.stopped_index} of its batch failed"
    return f"canceled with its batch by {batch.canceled_by} before it started"
