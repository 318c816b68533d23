"""/services/{id}/runs and /runs: create, list, look at, cancel."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from oneoff.api.answers import answer, to_difference, to_run
from oneoff.api.bodies import CreateRun, ExtendRun, to_change
from oneoff.api.door import API
from oneoff.api.requests import (
    Cursor,
    Limit,
    caller_of,
    context_of,
    idempotency_of,
    read_cursor,
    to_page,
    trigger_of,
)
from oneoff.api.shapes import Page, RerunShape, RunShape
from oneoff.core.command import make_command, make_entrypoint
from oneoff.core.retry_text import make_retries, to_text
from oneoff.core.run import RunStatus, Trigger
from oneoff.operations import reruns, runs
from oneoff.operations.context import Context
from oneoff.operations.runs import Origin, RunRequest, RunView
from oneoff.operations.time_control import check_must_end_by, check_warning, extend_run, next_end
from oneoff.store.runs import RunFilter

router = APIRouter(prefix=API, tags=["runs"])


@router.post("/services/{service_id}/runs", status_code=201, response_model=RunShape)
async def create_run(service_id: str, body: CreateRun, request: Request) -> Response:
    """Accept a run of one command in the service's live image. It is durable when this answers, and starts as soon as
    a slot is free."""
    asked = to_request(context_of(request), body)
    idempotency = await idempotency_of(request)
    actor, trigger = caller_of(request).name, trigger_of(request)
    run = await runs.accept_run(context_of(request), service_id, asked, Origin(actor, trigger), idempotency)
    return answer(to_run(RunView(run)), 201)


@router.get("/runs", response_model=Page[RunShape])
async def list_runs(
    request: Request,
    limit: Limit = 50,
    cursor: Cursor = None,
    service: Annotated[str | None, Query(max_length=300, description="A service's id or path.")] = None,
    job: Annotated[str | None, Query(max_length=40)] = None,
    cron: Annotated[str | None, Query(max_length=40)] = None,
    batch: Annotated[str | None, Query(max_length=40)] = None,
    status: Annotated[list[RunStatus], Query(description="May be given several times.")] = [],  # noqa: B006
    trigger: Trigger | None = None,
) -> Response:
    """Runs, newest first."""
    context = context_of(request)
    wanted = RunFilter(await runs.find_service_id(context, service), job, cron, batch, status, trigger)
    listed = await runs.list_runs(context, wanted, limit + 1, read_cursor(cursor, "run"))
    return answer(to_page([to_run(RunView(run)) for run in listed], limit))


@router.get("/runs/{run_id}", response_model=RunShape)
async def get_run(run_id: str, request: Request) -> Response:
    """One run; while it is queued, with its place and what it waits for."""
    return answer(to_run(await runs.view_run(context_of(request), run_id)))


@router.post("/runs/{run_id}/cancel", response_model=RunShape)
async def cancel_run(run_id: str, request: Request) -> Response:
    """A queued run ends at once; a going one gets TERM now and KILL after the grace; an ended one stays as it is."""
    run = await runs.cancel_run(context_of(request), run_id, caller_of(request).name)
    return answer(to_run(RunView(run)))


@router.post("/runs/{run_id}/rerun", status_code=201, response_model=RerunShape)
async def rerun(run_id: str, request: Request) -> Response:
    """The same once more: image by digest, command, variables and size are those of that run, whatever was deployed or
    configured since; `difference` tells what that is."""
    origin = Origin(caller_of(request).name, trigger_of(request))
    idempotency = await idempotency_of(request)
    run, difference = await reruns.run_again(context_of(request), run_id, origin, idempotency)
    return answer(to_run(RunView(run)) | {"difference": to_difference(difference)}, 201)


@router.post("/runs/{run_id}/extend", response_model=RunShape)
async def extend(run_id: str, body: ExtendRun, request: Request) -> Response:
    """More time for a run that has not ended, up to the plan's maximum. What it must end by stays."""
    return answer(to_run(RunView(await extend_run(context_of(request), run_id, body.more_seconds))))


def to_request(context: Context, body: CreateRun) -> RunRequest:
    """What runs of this body ask for. Raises InvalidInput."""
    return RunRequest(
        make_command(body.command, body.shell),
        {name: to_change(value) for name, value in body.variables.items()},
        body.instance_type,
        body.timeout_seconds,
        make_entrypoint(body.entrypoint),
        retries=to_text(make_retries(body.retries.model_dump())) if body.retries else None,
        concurrency_group=body.concurrency_group,
        must_end_at=next_end(check_must_end_by(body.must_end_by), context.clock.now()),
        warn_seconds=check_warning(body.warn_seconds, body.timeout_seconds),
    )
