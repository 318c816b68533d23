"""/batches, and the batches of services and jobs: create, list, look at, cancel, run what failed again."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from oneoff.api.answers import answer
from oneoff.api.batch_answers import to_batch, to_item, to_statuses
from oneoff.api.batch_shapes import (
    BatchShape,
    CreateJobBatch,
    CreateServiceBatch,
    ItemFilter,
    ItemShape,
)
from oneoff.api.door import API
from oneoff.api.jobs import to_overrides
from oneoff.api.requests import (
    Cursor,
    Limit,
    caller_of,
    context_of,
    idempotency_of,
    read_cursor,
    read_words_cursor,
    to_cursor,
    to_page,
)
from oneoff.api.runs import to_request
from oneoff.api.shapes import Page
from oneoff.core.batch import BatchStatus
from oneoff.operations import batches
from oneoff.operations.batch_reruns import Rerun, rerun_failed
from oneoff.operations.batches import BatchFilter
from oneoff.operations.runs import find_service_id

router = APIRouter(prefix=API, tags=["batches"])
_INDEX = re.compile(r"[0-9]{1,6}")


@router.post("/services/{service_id}/batches", status_code=201, response_model=BatchShape)
async def create_service_batch(service_id: str, body: CreateServiceBatch, request: Request) -> Response:
    """Run one command once for each item, in the service's live image. All items are durable when this answers; the
    image, the variables and the limits are those of this moment. A body may have 64 MB."""
    context = context_of(request)
    ask = batches.of_service(service_id, to_request(context, body))
    idempotency = await idempotency_of(request)
    made = await batches.create_batch(context, ask, body.to_new(), caller_of(request).name, idempotency)
    return answer(to_batch(made), 201)


@router.post("/jobs/{job_id}/batches", status_code=201, response_model=BatchShape)
async def create_job_batch(job_id: str, body: CreateJobBatch, request: Request) -> Response:
    """Run a job once for each item, as the job is at this moment. Its retries apply to each item."""
    context = context_of(request)
    ask = batches.of_job(context, job_id, to_overrides(body))
    idempotency = await idempotency_of(request)
    made = await batches.create_batch(context, ask, body.to_new(), caller_of(request).name, idempotency)
    return answer(to_batch(made), 201)


@router.get("/batches", response_model=Page[BatchShape])
async def list_batches(
    request: Request,
    limit: Limit = 50,
    cursor: Cursor = None,
    service: Annotated[str | None, Query(max_length=300, description="A service's id or path.")] = None,
    job: Annotated[str | None, Query(max_length=40, pattern=r"^[^\x00]*$", description="A job's id.")] = None,
    status: BatchStatus | None = None,
) -> Response:
    """Batches, newest first."""
    context = context_of(request)
    wanted = BatchFilter(await find_service_id(context, service), job, status)
    listed = await batches.list_batches(context, wanted, limit + 1, read_cursor(cursor, "batch"))
    return answer(to_page([to_batch(each) for each in listed], limit))


@router.get("/batches/{batch_id}", response_model=BatchShape)
async def get_batch(batch_id: str, request: Request) -> Response:
    """One batch, with its items counted by status."""
    return answer(to_batch(await batches.get_batch(context_of(request), batch_id)))


@router.get("/batches/{batch_id}/items", response_model=Page[ItemShape])
async def list_items(
    batch_id: str,
    request: Request,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[list[ItemFilter], Query(description="May be given several times.")] = [],  # noqa: B006
) -> Response:
    """Items in the order of their indices, each with its newest attempt."""
    match = read_words_cursor(cursor, _INDEX)
    after = None if match is None else int(match[0])
    batch, listed = await batches.list_items(context_of(request), batch_id, to_statuses(status), limit + 1, after)
    return answer(_to_item_page([to_item(batch, *each) for each in listed], limit))


@router.post("/batches/{batch_id}/cancel", response_model=BatchShape)
async def cancel_batch(batch_id: str, request: Request) -> Response:
    """Items that wait or are queued end at once; going ones get TERM now and KILL after the grace. A batch that has
    ended stays as it is."""
    return answer(to_batch(await batches.cancel_batch(context_of(request), batch_id, caller_of(request).name)))


@router.post("/batches/{batch_id}/rerun-failed", status_code=201, response_model=BatchShape)
async def rerun_failed_items(
    batch_id: str,
    request: Request,
    with_canceled: Annotated[bool, Query(description="Also the items that somebody canceled.")] = False,
    live_image: Annotated[
        bool, Query(description="In the image that is live now, instead of the one the batch was created with.")
    ] = False,
) -> Response:
    """A new batch of the items that failed, and of those that never started because another one failed: the same image
    by digest, command, variables and limits. Items keep their index, and are told the old count."""
    rerun = Rerun(caller_of(request).name, with_canceled, live_image)
    idempotency = await idempotency_of(request)
    made = await rerun_failed(context_of(request), batch_id, rerun, idempotency)
    return answer(to_batch(made), 201)


def _to_item_page(items: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """An item has no id: its index is the cursor."""
    last = items[limit - 1]["index"] if len(items) > limit else None
    return {"items": items[:limit], "next_cursor": None if last is None else to_cursor(str(last))}
