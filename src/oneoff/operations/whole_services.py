"""A service made, or changed, with all that belongs to it in one transaction: its variables, its image, and a job with
a cron. Used by the Render-compatible API, whose cron jobs are of one piece."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from oneoff.core.image import ImageConfig
from oneoff.errors import InvalidBody
from oneoff.operations.context import Context
from oneoff.operations.crons import NewCron, insert_cron, update_cron
from oneoff.operations.deploys import insert_deploy
from oneoff.operations.ids import check_id
from oneoff.operations.jobs import Job, JobFilter, NewJob, insert_job, update_job
from oneoff.operations.services import NewService, Service, create_service, update_service
from oneoff.operations.variables import VariableChange, change_variables
from oneoff.store import crons, deploys, jobs, services
from oneoff.store.crons import Cron, CronFilter
from oneoff.store.dialect import Connection
from oneoff.store.idempotency import Idempotency

JOB_NAME = "cron"  # of the job that a cron job made here has


@dataclass(frozen=True, slots=True)
class ScheduledJob:
    """`shell` runs under /bin/sh -c; None is the image's own command."""

    shell: str | None
    expression: str


@dataclass(frozen=True, slots=True)
class Equipment:
    variables: Mapping[str, VariableChange] = field(default_factory=dict)
    job: ScheduledJob | None = None


@dataclass(frozen=True, slots=True)
class WholeChange:
    """What is to be otherwise; None stays as it is. A deploy of another image begins. `shell` and `expression` are of
    the service's job and its cron."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    image: str | None = None
    shell: str | None = None
    expression: str | None = None


async def create_whole_service(
    context: Context, new: NewService, equipment: Equipment, actor: str, request: Idempotency | None = None
) -> Service:
    """Raises what `create_service`, `create_job` and `create_cron` raise; nothing is made then."""

    def equip(connection: Connection, service: Service) -> None:
        if equipment.variables:
            change_variables(context, connection, service.id, equipment.variables)
        if equipment.job is not None:
            _insert_job(context, connection, service, equipment.job)

    service = await create_service(context, new, actor, request, equip)
    if equipment.job is not None:
        context.signals.crons_changed()
    return service


async def change_whole_service(context: Context, service_id: str, change: WholeChange, actor: str) -> Service:
    """Raises NotFound, and what changing each of it raises; nothing is changed then."""
    check_id("service", service_id)

    def work(connection: Connection) -> Service:
        service = services.get_service(connection, service_id)
        if change.settings:
            update_service(context, connection, service, change.settings)
        _change_job(context, connection, service, change)
        if change.image is not None and change.image != service.image:
            insert_deploy(context, connection, service, change.image, actor)
        return services.get_service(connection, service_id)

    service = await context.database.run(work)
    context.signals.crons_changed()
    context.signals.deploy_changed(service_id)
    return service


async def find_scheduled_job(context: Context, service_id: str) -> tuple[Job | None, Cron | None]:
    """The one named `cron`, else the only one; and its first cron."""

    def work(connection: Connection) -> tuple[Job | None, Cron | None]:
        job = _find_job(context, connection, service_id)
        return job, None if job is None else _find_cron(context, connection, job)

    return await context.database.read(work)


def no_scheduled_job(service: Service) -> InvalidBody:
    return InvalidBody(
        f"{service.path} needs a job named {JOB_NAME}, or exactly one job, to be run as a cron job: "
        f"`oneoff job create {service.path}:{JOB_NAME} -- COMMAND`"
    )


def _change_job(context: Context, connection: Connection, service: Service, change: WholeChange) -> None:
    if change.shell is None and change.expression is None:
        return
    if (job := _find_job(context, connection, service.id)) is None:
        raise no_scheduled_job(service)
    if change.shell is not None:
        update_job(context, connection, job, {"shell": change.shell})
    if change.expression is None:
        return
    settings = {"expression": change.expression}
    if (cron := _find_cron(context, connection, job)) is not None:
        update_cron(context, connection, cron, settings)
    else:
        insert_cron(context, connection, NewCron(job.id, settings))


def _find_job(context: Context, connection: Connection, service_id: str) -> Job | None:
    if (named := jobs.find_by_name(connection, service_id, JOB_NAME)) is not None:
        return named
    there = jobs.list_jobs(connection, context.workspace_id, JobFilter(service_id), 2, None)
    return there[0] if len(there) == 1 else None


def _find_cron(context: Context, connection: Connection, job: Job) -> Cron | None:
    there = crons.list_crons(connection, context.workspace_id, CronFilter(job_id=job.id), 1, None)
    return there[0] if there else None


def _insert_job(context: Context, connection: Connection, service: Service, asked: ScheduledJob) -> None:
    command = {"shell": asked.shell} if asked.shell is not None else {"command": _own_command(connection, service)}
    job = insert_job(context, connection, NewJob(service.id, JOB_NAME, command))
    insert_cron(context, connection, NewCron(job.id, {"expression": asked.expression}))


def _own_command(connection: Connection, service: Service) -> list[str]:
    """Of the live image."""
    config = deploys.get_deploy(connection, service.live_deploy_id).image_config if service.live_deploy_id else None
    return list((config or ImageConfig()).command)
