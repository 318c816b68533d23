"""What failed of a batch once more, as a new batch. Used by the API."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from oneoff.core.batch import Batch, BatchStatus, Progress, rerun_statuses, to_item_run
from oneoff.core.terms import at_price_of
from oneoff.errors import BatchGoing, NothingToRerun
from oneoff.operations.batch_runs import open_item, open_shared, seal_item, seal_shared
from oneoff.operations.batches import BatchView, accept_batch
from oneoff.operations.context import Context
from oneoff.operations.ids import check_id
from oneoff.operations.launches import get_materials
from oneoff.operations.reruns import check_limits
from oneoff.operations.runs import live_image
from oneoff.store import batches, idempotency
from oneoff.store.batches import ItemRow, SealedItem
from oneoff.store.dialect import Connection
from oneoff.store.idempotency import Idempotency
from oneoff.store.services import Launch


@dataclass(frozen=True, slots=True)
class Rerun:
    """Which items, and in which image: by default the one that the batch was created with."""

    actor: str
    with_canceled: bool = False
    use_live_image: bool = False


async def rerun_failed(context: Context, batch_id: str, rerun: Rerun, request: Idempotency | None = None) -> BatchView:
    """A new batch of the items that failed or were stopped, with the command, variables and limits of the old one. They
    keep their indices, and are told the old count. Raises NotFound, BatchGoing, NothingToRerun, DiskFull,
    NoLiveImage, IdempotencyKeyReused, and what is wrong with the limits where plan or node have less now."""
    check_id("batch", batch_id)
    new_id = context.new_id("batch")
    prepare = partial(_prepare, context, batch_id=batch_id, new_id=new_id, rerun=rerun)
    # Sealed before, so that thousands of items do not keep the one writer from others' work. What has ended stays so.
    prepared = await context.database.read(lambda c: None if idempotency.find_resource(c, request) else prepare(c))

    def insert(connection: Connection) -> Batch:
        old, items, box = prepare(connection) if prepared is None else prepared
        launch = get_materials(context, connection, old.service_id).launch
        batch = replace(_make(context, old, new_id, rerun, launch), progress=Progress(len(items)))
        size = check_limits(context, launch, to_item_run(batch, id=new_id, batch_index=0, **_first(batch)))
        priced = replace(batch.template, terms=at_price_of(batch.template.terms, size))
        batch = replace(batch, template=priced)
        batches.save_new(connection, batch, box, items)
        return batch

    return await accept_batch(context, insert, request)


def _prepare(
    context: Context, connection: Connection, *, batch_id: str, new_id: str, rerun: Rerun
) -> tuple[Batch, list[SealedItem], bytes]:
    """The old batch, the items that run again, and what they share, sealed anew. Raises NotFound, BatchGoing,
    NothingToRerun."""
    old = batches.get_batch(connection, batch_id)
    if old.status is BatchStatus.RUNNING:
        raise BatchGoing(batch_id)
    rows = batches.list_items(connection, batch_id, rerun_statuses(with_canceled=rerun.with_canceled))
    if not rows:
        raise NothingToRerun(batch_id, old.progress.canceled)
    shared = open_shared(context.sealer, batch_id, batches.fetch_request(connection, batch_id))
    items = [_seal_again(context, batch_id, new_id, row) for row in rows]
    return old, items, seal_shared(context.sealer, new_id, shared)


def _make(context: Context, old: Batch, new_id: str, rerun: Rerun, launch: Launch) -> Batch:
    template = replace(old.template, must_end_at=None)
    if rerun.use_live_image:
        live = live_image(launch)
        template = replace(
            template, deploy_id=live.deploy_id, image=live.image, image_ref=live.image_ref, digest=live.digest
        )
    return replace(
        old,
        id=new_id,
        status=BatchStatus.RUNNING,
        template=template,
        rerun_of=old.id,
        actor=rerun.actor,
        canceled_by=None,
        stopped_index=None,
        created_at=context.clock.now(),
        finished_at=None,
    )


def _first(batch: Batch) -> dict[str, Any]:
    return {"created_at": batch.created_at, "command": batch.template.command, "shell": batch.template.shell}


def _seal_again(context: Context, old_id: str, new_id: str, row: ItemRow) -> SealedItem:
    """A box opens only at the place it was sealed for."""
    item = open_item(context.sealer, old_id, SealedItem(row.index, row.item_sealed))
    return seal_item(context.sealer, new_id, row.index, replace(item, rerun_of=row.run_id))
