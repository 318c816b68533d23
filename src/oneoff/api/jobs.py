"""/jobs: create, list, look at, change, delete, and run now."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Request
from starlette.responses import Response

from oneoff.api.answers import answer, to_job, to_run
from oneoff.api.bodies import ChangeJob, CreateJob, RunJob, to_change
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
from oneoff.api.shapes import JobShape, Page, RunShape
from oneoff.operations import jobs
from oneoff.operations.context import Context
from oneoff.operations.jobs import Job, JobFilter, NewJob, Overrides, open_job_variables
from oneoff.operations.runs import Origin, RunView, find_service_id
from oneoff.operations.tokens import check_admin

router = APIRouter(prefix=API, tags=["jobs"])


@router.post("/jobs", status_code=201, response_model=JobShape)
async def create_job(body: CreateJob, request: Request) -> Response:
    """Save a command of a service under a name. Nothing runs yet."""
    context = context_of(request)
    service_id = await find_service_id(context, body.service) or body.service
    settings = body.to_settings()
    new = NewJob(service_id, settings.pop("name"), settings)
    job = await jobs.create_job(context, new, await idempotency_of(request))
    return answer(_show(context, job), 201)


@router.get("/jobs", response_model=Page[JobShape])
async def list_jobs(
    request: Request,
    limit: Limit = 50,
    cursor: Cursor = None,
    service: Annotated[str | None, Query(max_length=300, description="A service's id or path.")] = None,
    name: Annotated[str | None, Query(max_length=100, pattern=r"^[^\x00]*$")] = None,
) -> Response:
    """Jobs, newest first."""
    context = context_of(request)
    wanted = JobFilter(await find_service_id(context, service), name)
    listed = await jobs.list_jobs(context, wanted, limit + 1, read_cursor(cursor, "job"))
    return answer(to_page([_show(context, each) for each in listed], limit))


@router.get("/jobs/{job_id}", response_model=JobShape)
async def get_job(
    job_id: str,
    request: Request,
    reveal: Annotated[bool, Query(description="Show the values of its variables. Takes an admin token.")] = False,
) -> Response:
    """One job."""
    context = context_of(request)
    if reveal:
        check_admin(caller_of(request), "reveal variables")
    return answer(_show(context, await jobs.get_job(context, job_id), reveal=reveal))


@router.patch("/jobs/{job_id}", response_model=JobShape)
async def change_job(job_id: str, body: ChangeJob, request: Request) -> Response:
    """Change what is given; null sets the default. Runs that were accepted keep what they were made with."""
    context = context_of(request)
    return answer(_show(context, await jobs.change_job(context, job_id, body.to_settings())))


@router.delete("/jobs/{job_id}", status_code=204, response_class=Response)
async def delete_job(
    job_id: str,
    request: Request,
    with_crons: Annotated[bool, Query(description="Its crons go with it.")] = False,
) -> Response:
    """Delete a job that has no crons, unless they may go with it. Its runs go on and stay in the history."""
    await jobs.delete_job(context_of(request), job_id, with_crons=with_crons)
    return Response(status_code=204)


@router.post("/jobs/{job_id}/runs", status_code=201, response_model=RunShape)
async def run_job(job_id: str, body: Annotated[RunJob, Body(default_factory=RunJob)], request: Request) -> Response:
    """Run a job now, any number of times, whatever else of it is going."""
    overrides = to_overrides(body)
    origin = Origin(caller_of(request).name, trigger_of(request))
    idempotency = await idempotency_of(request)
    run = await jobs.run_job(context_of(request), job_id, overrides, origin, idempotency)
    return answer(to_run(RunView(run)), 201)


def to_overrides(body: RunJob) -> Overrides:
    return Overrides(
        tuple(body.arguments),
        {name: to_change(value) for name, value in body.variables.items()},
        body.instance_type,
        body.timeout_seconds,
    )


def _show(context: Context, job: Job, *, reveal: bool = False) -> dict[str, object]:
    return to_job(job, open_job_variables(context, job), reveal=reveal)
