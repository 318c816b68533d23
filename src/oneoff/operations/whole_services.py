"""A service made with all that belongs to it in one transaction: its variables, and a job with a cron. Used by the
Render-compatible API, whose cron jobs are of one piece."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from oneoff.core.image import ImageConfig
from oneoff.operations.context import Context
from oneoff.operations.crons import NewCron, insert_cron
from oneoff.operations.jobs import NewJob, insert_job
from oneoff.operations.services import NewService, Service, create_service
from oneoff.operations.variables import VariableChange, change_variables
from oneoff.store import deploys
from oneoff.store.dialect import Connection
from oneoff.store.idempotency import Idempotency


@dataclass(frozen=True, slots=True)
class ScheduledJob:
    """`shell` runs under /bin/sh -c; None is the image's own command."""

    name: str
    shell: str | None
    expression: str


@dataclass(frozen=True, slots=True)
class Equipment:
    variables: Mapping[str, VariableChange] = field(default_factory=dict)
    job: ScheduledJob | None = None


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


def _insert_job(context: Context, connection: Connection, service: Service, asked: ScheduledJob) -> None:
    command = {"shell": asked.shell} if asked.shell is not None else {"command": _own_command(connection, service)}
    job = insert_job(context, connection, NewJob(service.id, asked.name, command))
    insert_cron(context, connection, NewCron(job.id, {"expression": asked.expression}))


def _own_command(connection: Connection, service: Service) -> list[str]:
    """Of the live image."""
    config = deploys.get_deploy(connection, service.live_deploy_id).image_config if service.live_deploy_id else None
    return list((config or ImageConfig()).command)
