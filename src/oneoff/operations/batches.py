"""Batches: accepted, listed, looked at, canceled. Used by the API; the batcher does the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from oneoff.core.batch import (
    DEFAULT_PARALLEL,
    Batch,
    BatchStatus,
    ItemStatus,
    Progress,
    check_batch,
    check_item_variables,
    size_of,
    to_template,
)
from oneoff.core.command import Command
from oneoff.core.job import with_arguments
from oneoff.core.run import Run, Trigger
from oneoff.core.variables import check_variables
from oneoff.engine.batching import cancel_all, tell
from oneoff.errors import InvalidInput, InvalidItem
from oneoff.operations.batch_runs import Item, open_item, seal_item, seal_shared, shared_of_run
from oneoff.operations.context import Context
from oneoff.operations.ids import check_id
from oneoff.operations.jobs import Overrides, to_request
from oneoff.operations.launches import get_materials
from oneoff.operations.room import check_room
from oneoff.operations.runs import Origin, RunRequest, make_run, save_group_if_absent
from oneoff.operations.variables import VariableChange, Variables, apply_change
from oneoff.store import batches, idempotency, jobs
from oneoff.store.batches import BatchFilter as BatchFilter
from oneoff.store.batches import ItemRow as ItemRow
from oneoff.store.batches import SealedItem
from oneoff.store.dialect import Connection
from oneoff.store.idempotency import Idempotency


@dataclass(frozen=True, slots=True)
class NewItem:
    """Arguments come behind those that all items share; variables on top of theirs."""

    arguments: tuple[str, ...] = ()
    variables: Mapping[str, VariableChange] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewBatch:
    items: Sequence[NewItem]
    max_parallel: int = DEFAULT_PARALLEL
    stop_on_failure: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What all runs of a batch ask for, and of which service."""

    service_id: str
    request: RunRequest
    job_id: str | None = None


Ask = Callable[[Connection], Asked]


@dataclass(frozen=True, slots=True)
class BatchView:
    """`queued` of the going items wait for a slot, or for the back-off of a retry."""

    batch: Batch
    queued: int = 0


def of_service(service_id: str, request: RunRequest) -> Ask:
    """Raises NotFound for what cannot be a service's id."""
    check_id("service", service_id)
    return lambda _: Asked(service_id, request)


def of_job(context: Context, job_id: str, overrides: Overrides) -> Ask:
    """Raises NotFound for what cannot be a job's id; what it returns also raises InvalidInput."""
    check_id("job", job_id)

    def ask(connection: Connection) -> Asked:
        job = jobs.get_job(connection, job_id)
        return Asked(job.service_id, to_request(context, job, overrides), job.id)

    return ask


async def create_batch(
    context: Context, ask: Ask, new: NewBatch, actor: str, request: Idempotency | None = None
) -> BatchView:
    """All items are durable when it returns, and what they share is as configured now: image, variables, limits.

    Raises NotFound, NoLiveImage, InvalidInput (InvalidItem for what is wrong with an item), DiskFull,
    IdempotencyKeyReused.
    """
    check_batch(len(new.items), new.max_parallel)
    batch_id = context.new_id("batch")
    seal = partial(_seal_items, context, ask=ask, batch_id=batch_id, items=new.items)
    # Looked through and sealed before, so that thousands of items do not keep the one writer from others' work.
    sealed = await context.database.read(lambda c: None if idempotency.find_resource(c, request) else seal(c))

    def insert(connection: Connection) -> Batch:
        items = seal(connection) if sealed is None else sealed
        asked = ask(connection)
        origin = Origin(actor, Trigger.BATCH, asked.job_id, batch_id=batch_id)
        materials = get_materials(context, connection, asked.service_id)
        run, box = make_run(context, materials, asked.request, origin, context.clock.now())
        save_group_if_absent(connection, run.workspace_id, run.concurrency_group)
        batch = _make(run, batch_id, new)
        shared = shared_of_run(context.sealer, run.id, box)
        batches.save_new(connection, batch, seal_shared(context.sealer, batch_id, shared), items)
        return batch

    return await accept_batch(context, insert, request)


async def accept_batch(
    context: Context, insert: Callable[[Connection], Batch], request: Idempotency | None
) -> BatchView:
    """The batch that `insert` saves, durable; the batcher knows. The same `request` gives the same batch again.
    Raises DiskFull."""

    def work(connection: Connection) -> Batch:
        if (earlier := idempotency.find_resource(connection, request)) is not None:
            return batches.get_batch(connection, earlier)
        check_room(context.settings, context.clock)
        batch = insert(connection)
        idempotency.save_resource(connection, request, batch.id, batch.created_at)
        return batch

    batch = await context.database.run(work)
    context.signals.batch_changed(batch.id)
    return BatchView(batch)


async def get_batch(context: Context, batch_id: str) -> BatchView:
    """Raises NotFound."""
    check_id("batch", batch_id)

    def work(connection: Connection) -> BatchView:
        batch = batches.get_batch(connection, batch_id)
        return BatchView(batch, batches.count_queued(connection, [batch_id]).get(batch_id, 0))

    return await context.database.read(work)


async def list_batches(context: Context, wanted: BatchFilter, limit: int, before: str | None) -> list[BatchView]:
    """Newest first."""

    def work(connection: Connection) -> list[BatchView]:
        listed = batches.list_batches(connection, context.workspace_id, wanted, limit, before)
        queued = batches.count_queued(connection, [each.id for each in listed if each.progress.going])
        return [BatchView(each, queued.get(each.id, 0)) for each in listed]

    return await context.database.read(work)


async def list_items(
    context: Context, batch_id: str, statuses: Collection[ItemStatus], limit: int, after: int | None
) -> tuple[Batch, list[tuple[ItemRow, Item]]]:
    """In the order of their indices. Raises NotFound."""
    check_id("batch", batch_id)

    def work(connection: Connection) -> tuple[Batch, list[tuple[ItemRow, Item]]]:
        batch = batches.get_batch(connection, batch_id)
        rows = batches.list_items(connection, batch_id, statuses, limit, after)
        opened = [open_item(context.sealer, batch_id, SealedItem(row.index, row.item_sealed)) for row in rows]
        return batch, list(zip(rows, opened, strict=True))

    return await context.database.read(work)


async def cancel_batch(context: Context, batch_id: str, actor: str) -> BatchView:
    """Waiting items never go, going ones are asked to end; a batch that has ended stays as it is. Raises NotFound."""
    check_id("batch", batch_id)
    done = await context.database.run(partial(cancel_all, context, batch_id=batch_id, actor=actor))
    context.signals.batch_changed(batch_id)
    tell(context, done)
    return await get_batch(context, batch_id)


def _make(run: Run, batch_id: str, new: NewBatch) -> Batch:
    """`run` is made as its items' runs will be."""
    count = len(new.items)
    return Batch(
        id=batch_id,
        workspace_id=run.workspace_id,
        service_id=run.service_id,
        job_id=run.job_id,
        status=BatchStatus.RUNNING,
        max_parallel=new.max_parallel,
        stop_on_failure=new.stop_on_failure,
        index_count=count,
        progress=Progress(count),
        template=to_template(run),
        rerun_of=None,
        actor=run.actor,
        canceled_by=None,
        stopped_index=None,
        created_at=run.created_at,
        finished_at=None,
    )


def _seal_items(
    context: Context, connection: Connection, *, ask: Ask, batch_id: str, items: Sequence[NewItem]
) -> list[SealedItem]:
    """Raises InvalidItem, with how many others are wrong, and InvalidVariables for what all items share."""
    asked = ask(connection)
    base: Variables = dict(get_materials(context, connection, asked.service_id).variables)
    for name, change in asked.request.variables.items():
        base[name] = apply_change(name, change, base.get(name))
    check_variables({name: each.value for name, each in base.items()})
    sizes = {name: size_of(name, each.value) for name, each in base.items()}
    check = partial(_check_item, asked.request.command, base, sizes, sum(sizes.values()))
    sealed, wrong = [], []
    for index, item in enumerate(items):
        try:
            sealed.append(seal_item(context.sealer, batch_id, index, check(item)))
        except InvalidInput as problem:
            wrong.append((index, str(problem)))
    if wrong:
        raise InvalidItem(*wrong[0], more=len(wrong) - 1)
    return sealed


def _check_item(command: Command, base: Variables, sizes: Mapping[str, int], shared_bytes: int, item: NewItem) -> Item:
    if item.arguments:
        with_arguments(command, item.arguments)  # raises when it would be too long
    if not item.variables:
        return Item(item.arguments)
    own = {name: apply_change(name, change, base.get(name)) for name, change in item.variables.items()}
    check_item_variables({name: each.value for name, each in own.items()}, sizes, shared_bytes)
    return Item(item.arguments, own)
