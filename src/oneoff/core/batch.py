"""Batches: what they are, how far they have come, which items go next and which are run again. Pure; used by the
operations and the batcher."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from oneoff.core.command import Entrypoint
from oneoff.core.run import NOTHING_YET, Run, RunStatus, Trigger
from oneoff.core.variables import MOST_BYTES_IN_ALL, check_variables
from oneoff.errors import InvalidBatch, InvalidVariables

MOST_ITEMS = 10_000
MOST_PARALLEL = 1_000
DEFAULT_PARALLEL = 4


class BatchStatus(StrEnum):
    RUNNING = "running"  # until every item has ended
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class ItemStatus(StrEnum):
    """Of an item, as the batch keeps it. Callers see a going one as queued or running, a stopped one as canceled."""

    WAITING = "waiting"  # not in the queue yet
    GOING = "going"  # queued, starting, running, or between two attempts
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"  # because somebody wanted it so
    STOPPED = "stopped"  # because another item failed


_ENDED = {
    RunStatus.SUCCEEDED: ItemStatus.SUCCEEDED,
    RunStatus.FAILED: ItemStatus.FAILED,
    RunStatus.CANCELED: ItemStatus.CANCELED,
}


@dataclass(frozen=True, slots=True)
class Progress:
    """How many items have come how far; those that were stopped count as canceled."""

    items: int
    going: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0

    @property
    def waiting(self) -> int:
        return self.items - self.going - self.succeeded - self.failed - self.canceled

    @property
    def has_ended(self) -> bool:
        return self.waiting == 0 and self.going == 0

    def begin(self, count: int) -> Progress:
        """So many that waited go now."""
        return replace(self, going=self.going + count)

    def end(self, statuses: Collection[ItemStatus]) -> Progress:
        """Of items that were going."""
        ended = list(statuses)
        succeeded, failed = ended.count(ItemStatus.SUCCEEDED), ended.count(ItemStatus.FAILED)
        return Progress(
            self.items,
            self.going - len(ended),
            self.succeeded + succeeded,
            self.failed + failed,
            self.canceled + len(ended) - succeeded - failed,
        )

    def give_up(self, count: int) -> Progress:
        """So many that waited will never go."""
        return replace(self, canceled=self.canceled + count)


@dataclass(frozen=True, slots=True)
class Template:
    """What the runs of all items share. The image is pinned when the batch is created, so that a deploy in the middle
    does not mix. The fields are those of Run."""

    service: str
    deploy_id: str | None
    image: str
    image_ref: str
    digest: str
    command: tuple[str, ...] | None
    shell: str | None
    entrypoint: Entrypoint
    instance_type: str
    terms: str | None
    timeout_seconds: int
    grace_seconds: int
    retries: str | None
    concurrency_group: str | None
    must_end_at: datetime | None
    warn_seconds: int | None


TEMPLATE_FIELDS = tuple(each.name for each in fields(Template))


@dataclass(frozen=True, slots=True)
class Batch:
    """`index_count` is what the items are told as ONEOFF_BATCH_COUNT; `stopped_index` the item whose failure stopped
    the batch."""

    id: str
    workspace_id: str
    service_id: str
    job_id: str | None
    status: BatchStatus
    max_parallel: int
    stop_on_failure: bool
    index_count: int
    progress: Progress
    template: Template
    rerun_of: str | None
    actor: str
    canceled_by: str | None
    stopped_index: int | None
    created_at: datetime
    finished_at: datetime | None


def to_template(run: Run) -> Template:
    return Template(**{name: getattr(run, name) for name in TEMPLATE_FIELDS})


def to_item_run(batch: Batch, **own: Any) -> Run:
    """The first run of an item; `own` are at least its id, `batch_index`, `created_at`, `command` and `shell`."""
    return Run(
        **{
            **NOTHING_YET,
            **{name: getattr(batch.template, name) for name in TEMPLATE_FIELDS},
            **dict.fromkeys(("cron_id", "retry_of", "rerun_of", "scheduled_for", "not_before")),
            "workspace_id": batch.workspace_id,
            "service_id": batch.service_id,
            "job_id": batch.job_id,
            "batch_id": batch.id,
            "attempt": 1,
            "trigger": Trigger.BATCH,
            "actor": batch.actor,
            **own,
        }
    )


def item_status_of(status: RunStatus) -> ItemStatus:
    """Of an item whose newest attempt has this final status."""
    return _ENDED[status]


def items_to_begin(progress: Progress, max_parallel: int) -> int:
    """So many that wait enter the queue now: at most `max_parallel` of a batch are queued, starting, running or between
    two attempts."""
    return max(0, min(progress.waiting, max_parallel - progress.going))


def stopping_index(stop_on_failure: bool, failed: Iterable[int]) -> int | None:
    """The item whose failure stops the batch; None when it goes on."""
    return min(failed, default=None) if stop_on_failure else None


def conclude_batch(progress: Progress, *, is_canceled: bool) -> BatchStatus:
    """`is_canceled` tells whether somebody canceled the batch; that counts where it kept an item from its own end."""
    if not progress.has_ended:
        return BatchStatus.RUNNING
    if is_canceled and progress.canceled:
        return BatchStatus.CANCELED
    if progress.failed:
        return BatchStatus.FAILED
    return BatchStatus.CANCELED if progress.canceled else BatchStatus.SUCCEEDED


def rerun_statuses(*, with_canceled: bool) -> frozenset[ItemStatus]:
    """Which items are run again: what failed, what that kept from running, and what was canceled if that is wanted."""
    failed = frozenset({ItemStatus.FAILED, ItemStatus.STOPPED})
    return failed | {ItemStatus.CANCELED} if with_canceled else failed


def check_batch(items: int, max_parallel: int) -> None:
    """Raises InvalidBatch."""
    if not items:
        raise InvalidBatch("there are no items: give at least one", "items")
    if items > MOST_ITEMS:
        raise InvalidBatch(f"there are {items} items, a batch has at most {MOST_ITEMS}: split them", "items")
    if not 1 <= max_parallel <= MOST_PARALLEL:
        raise InvalidBatch(f"max_parallel must be 1 to {MOST_PARALLEL}", "max_parallel")


def check_item_variables(own: Mapping[str, str], shared: Mapping[str, int], shared_bytes: int) -> None:
    """Of one item. `shared` are the sizes of the variables it gets beside its own, by name, `shared_bytes` their sum.
    Raises InvalidVariables."""
    check_variables(own)
    total = shared_bytes + sum(size_of(name, value) - shared.get(name, 0) for name, value in own.items())
    if total > MOST_BYTES_IN_ALL:
        raise InvalidVariables(
            f"with those of the service the variables have {total} bytes in all, the limit is {MOST_BYTES_IN_ALL}: "
            "put large values in a file"
        )


def size_of(name: str, value: str) -> int:
    """Bytes of one variable, as `core.variables` counts them."""
    return len(name) + len(value.encode()) + 2
