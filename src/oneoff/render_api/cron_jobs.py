"""/cron-jobs/{id}/runs, and what a cron job of Render is in Oneoff: a `crn-` service with one job and its crons."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from oneoff.core.run import Run, RunStatus
from oneoff.core.service import ServiceType
from oneoff.entrance.requests import caller_of, context_of, idempotency_of, trigger_of
from oneoff.errors import NotFound
from oneoff.operations import jobs, runs, services
from oneoff.operations.context import Context
from oneoff.operations.jobs import NO_OVERRIDES, Job
from oneoff.operations.runs import Origin
from oneoff.operations.services import Service
from oneoff.operations.whole_services import find_scheduled_job, no_scheduled_job
from oneoff.render_api.answers import answer, answer_nothing, to_time, without_unset
from oneoff.render_api.routing import at
from oneoff.render_api.selecting import fetch_all
from oneoff.render_api.service_shapes import CronFacts
from oneoff.store.runs import RunFilter

_GOING = (RunStatus.QUEUED, RunStatus.STARTING, RunStatus.RUNNING)
STATUSES = {RunStatus.SUCCEEDED: "successful", RunStatus.FAILED: "unsuccessful", RunStatus.CANCELED: "canceled"}


def routes() -> list[BaseRoute]:
    return [at("/cron-jobs/{service_id}/runs", POST=run_now, DELETE=cancel_going)]


async def run_now(request: Request) -> Response:
    """The runs of its job that are going are canceled. Sent again under its key, the request touches no newer one."""
    context, caller = context_of(request), caller_of(request).name
    job = await _get_job(context, request.path_params["service_id"])
    going = await _list_going(context, job)
    idempotency = await idempotency_of(request)
    run = await jobs.run_job(context, job.id, NO_OVERRIDES, Origin(caller, trigger_of(request)), idempotency)
    for each in (each for each in going if each.id != run.id and each.created_at <= run.created_at):
        await runs.cancel_run(context, each.id, caller)
    return answer(_to_cron_run(run))


async def cancel_going(request: Request) -> Response:
    context = context_of(request)
    job = await _get_job(context, request.path_params["service_id"])
    for each in await _list_going(context, job):
        await runs.cancel_run(context, each.id, caller_of(request).name)
    return answer_nothing(204)


async def find_facts(context: Context, service: Service) -> CronFacts | None:
    """Of a cron job; None of another service."""
    if service.type is not ServiceType.CRON_JOB:
        return None
    job, cron = await find_scheduled_job(context, service.id)
    if job is None:
        return CronFacts()
    good = await runs.list_runs(context, RunFilter(service.id, status=[RunStatus.SUCCEEDED]), 1, None)
    return CronFacts(job.command, cron.expression if cron else "", good[0].finished_at if good else None)


def to_cron_run_id(run_id: str) -> str:
    """Runs of cron jobs have no prefix of their own in the document: they are jobs as well."""
    return "job-" + run_id.removeprefix("run-")


async def _get_job(context: Context, service_id: str) -> Job:
    """Raises NotFound, InvalidBody."""
    service = await services.get_service(context, service_id)
    if service.type is not ServiceType.CRON_JOB:
        raise NotFound("cron job", service_id, f"it is a {service.type.value}")
    job, _ = await find_scheduled_job(context, service_id)
    if job is None:
        raise no_scheduled_job(service)
    return job


async def _list_going(context: Context, job: Job) -> list[Run]:
    return await fetch_all(partial(runs.list_runs, context, RunFilter(job_id=job.id, status=_GOING)))


def _to_cron_run(run: Run) -> dict[str, Any]:
    return without_unset(
        {
            "id": to_cron_run_id(run.id),
            "status": STATUSES.get(run.status, "pending"),
            "startedAt": None if run.started_at is None else to_time(run.started_at),
            "finishedAt": None if run.finished_at is None else to_time(run.finished_at),
            "triggeredBy": run.actor,
            "canceledBy": run.stop_actor,
        }
    )
