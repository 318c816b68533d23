"""Services: made with their project and environment, changed, suspended, deleted. Used by the API."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from oneoff.core.command import KEEP, make_entrypoint
from oneoff.core.image import ImageRef, parse_image_ref
from oneoff.core.service import DEFAULT_NAME, ServicePath, ServiceType, check_capabilities, parse_path
from oneoff.drivers.driver import RegistryCredentials
from oneoff.engine.events import record_service
from oneoff.errors import AlreadyExists, InvalidBody, ServiceBusy, ServiceHasJobs
from oneoff.operations.context import Context
from oneoff.operations.ids import check_id
from oneoff.operations.images import prepare_image, seal_credentials
from oneoff.operations.limits import choose_size
from oneoff.operations.networks import check_joinable, check_names
from oneoff.operations.pauses import settle_within
from oneoff.store import batches, environments, idempotency, jobs, runs, services
from oneoff.store import deploys as deploy_rows
from oneoff.store.crons import CronFilter
from oneoff.store.deploys import Deploy, DeployStatus
from oneoff.store.dialect import Connection
from oneoff.store.environments import Place
from oneoff.store.idempotency import Idempotency
from oneoff.store.services import Service as Service

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?")


@dataclass(frozen=True, slots=True)
class NewService:
    """`settings` are those of SETTINGS that the caller gave, unchecked."""

    path: str
    type: ServiceType
    image: str | None
    credentials: RegistryCredentials | None
    settings: Mapping[str, Any] = field(default_factory=dict)


async def create_service(
    context: Context,
    new: NewService,
    actor: str,
    request: Idempotency | None = None,
    equip: Callable[[Connection, Service], None] | None = None,
) -> Service:
    """Nothing is made when its image cannot be had. `equip` makes what belongs to it, in the same transaction.

    Raises InvalidInput, AlreadyExists, ImageUnavailable, EngineUnavailable.
    """
    path = parse_path(new.path)
    path = replace(path, service=path.service or DEFAULT_NAME)
    ref = None if new.image is None else parse_image_ref(new.image)
    service = _make(context, path, new)
    earlier = await context.database.read(lambda c: _find_earlier(c, service, request))
    if earlier is not None:
        return earlier
    await check_joinable(context, service.networks)
    deploy = None if ref is None else await _first_deploy(context, service, ref, new, actor)
    place = Place(context.workspace_id, path.project, path.environment)

    def work(connection: Connection) -> Service:
        if (earlier := _find_earlier(connection, service, request)) is not None:
            return earlier
        environment_id = environments.make_environment(connection, place, context.new_id, service.created_at)
        live = None if deploy is None else deploy.id
        if not services.save_new(connection, replace(service, environment_id=environment_id, live_deploy_id=live)):
            raise _taken(service.path)
        if deploy is not None:
            deploy_rows.save_new(connection, deploy)
        record_service(context, connection, "service.created", service)
        if equip is not None:
            equip(connection, services.get_service(connection, service.id))
        idempotency.save_resource(connection, request, service.id, service.created_at)
        return services.get_service(connection, service.id)

    return await context.database.run(work)


async def get_service(context: Context, service_id: str) -> Service:
    """Raises NotFound."""
    check_id("service", service_id)
    return await context.database.read(lambda c: services.get_service(c, service_id))


async def find_service(context: Context, path: str) -> Service | None:
    """By its path; project/environment is enough for an only one. Raises AmbiguousPath, InvalidPath, InvalidName."""
    parsed = parse_path(path)
    return await context.database.read(lambda c: services.find_by_path(c, context.workspace_id, parsed))


async def list_services(context: Context, limit: int, before: str | None) -> list[Service]:
    return await context.database.read(lambda c: services.list_services(c, context.workspace_id, limit, before))


async def change_service(context: Context, service_id: str, given: Mapping[str, Any]) -> Service:
    """`given` are settings to change (None = back to the default) and perhaps `credentials`. Raises NotFound,
    InvalidInput. Going runs keep what they were made with."""
    check_id("service", service_id)
    if names := check_names(given.get("networks")):
        present = (await get_service(context, service_id)).networks
        await check_joinable(context, [name for name in names if name not in present])

    return await context.database.run(lambda c: update_service(context, c, services.get_service(c, service_id), given))


def update_service(context: Context, connection: Connection, service: Service, given: Mapping[str, Any]) -> Service:
    """`change_service` inside the caller's transaction, who has asked before whether its networks can be joined."""
    settings = {name: value for name, value in given.items() if name != "credentials"}
    columns = check_settings(context, service.type, settings)
    if "credentials" in given:
        columns |= seal_credentials(context, service.id, given["credentials"])
    services.save_changes(connection, service.id, columns)
    return services.get_service(connection, service.id)


async def set_suspended(context: Context, service_id: str, suspended: bool) -> Service:
    """Going runs are not interrupted; crons do not fire while it lasts. Raises NotFound."""
    check_id("service", service_id)

    def work(connection: Connection) -> Service:
        if services.get_service(connection, service_id).suspended is not suspended:
            settle_within(context, connection, CronFilter(service_id=service_id), suspended)
            services.save_changes(connection, service_id, {"suspended": suspended})
            kind = "service.suspended" if suspended else "service.resumed"
            record_service(context, connection, kind, services.get_service(connection, service_id))
        return services.get_service(connection, service_id)

    service = await context.database.run(work)
    context.signals.crons_changed()
    return service


async def delete_service(context: Context, service_id: str, *, with_jobs: bool = False) -> None:
    """With its deploys and variables; its runs stay in the history. Raises NotFound, ServiceBusy, ServiceHasJobs."""
    check_id("service", service_id)

    def work(connection: Connection) -> None:
        services.lock_service(connection, service_id)
        service = services.get_service(connection, service_id)
        waiting = batches.count_unfinished_items(connection, service_id)
        if going := runs.count_going(connection, service_id) + waiting:
            raise ServiceBusy(service.path, going)
        if (count := jobs.count_of_service(connection, service_id)) and not with_jobs:
            raise ServiceHasJobs(service.path, count)
        jobs.delete_of_service(connection, service_id)
        services.delete_with_deploys(connection, service_id)
        environments.delete_if_empty(connection, service.environment_id)
        record_service(context, connection, "service.deleted", service)

    await context.database.run(work)


def check_settings(context: Context, kind: ServiceType, given: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that `given` settings become; None stands for the default. Raises InvalidInput."""
    return {name: SETTINGS[name](context, kind, value) for name, value in given.items()}


def _make(context: Context, path: ServicePath, new: NewService) -> Service:
    kind = new.type
    service_id = context.new_id("cron_service" if kind is ServiceType.CRON_JOB else "service")
    given = dict.fromkeys(SETTINGS) | dict(new.settings)
    return Service(
        id=service_id,
        workspace_id=context.workspace_id,
        environment_id="",
        name=path.service or DEFAULT_NAME,
        path=str(path),
        type=kind,
        suspended=False,
        live_deploy_id=None,
        created_at=context.clock.now(),
        **check_settings(context, kind, given),
        **seal_credentials(context, service_id, new.credentials),
    )


async def _first_deploy(context: Context, service: Service, ref: ImageRef, new: NewService, actor: str) -> Deploy:
    """Its image is local then. Raises ImageUnavailable, EngineUnavailable."""
    prepared = await prepare_image(context, ref, new.credentials)
    return Deploy(
        id=context.new_id("deploy"),
        service_id=service.id,
        status=DeployStatus.LIVE,
        image=new.image or str(ref),
        image_ref=prepared.ref,
        digest=prepared.digest,
        image_config=prepared.config,
        message=None,
        actor=actor,
        created_at=service.created_at,
        finished_at=context.clock.now(),
    )


def _find_earlier(connection: Connection, service: Service, request: Idempotency | None) -> Service | None:
    """What the same request made before. Raises AlreadyExists when somebody else took the path."""
    if (earlier := idempotency.find_resource(connection, request)) is not None:
        return services.get_service(connection, earlier)
    if services.find_by_path(connection, service.workspace_id, parse_path(service.path)) is not None:
        raise _taken(service.path)
    return None


def _taken(path: str) -> AlreadyExists:
    return AlreadyExists("service", path, f"`oneoff deploy {path} --image REF` gives it another image")


def _check_instance_type(context: Context, kind: ServiceType, asked: str | None) -> str:
    return choose_size(context, asked, kind).id


def _check_user(_context: Context, _kind: ServiceType, asked: str | None) -> str | None:
    if asked is not None and not _USER.fullmatch(asked):
        raise InvalidBody(f"{asked!r} is no user: write a name or number, or user:group", "user")
    return asked


def _check_sandbox(context: Context, _kind: ServiceType, asked: str | None) -> str | None:
    able = context.driver.capabilities().sandboxes
    if asked is not None and asked not in able:
        can = f"use one of {', '.join(able)}" if able else "it has none"
        raise InvalidBody(f"the {context.driver.name} driver cannot run in the sandbox {asked!r}: {can}", "sandbox")
    return asked


# Each takes what the caller gave (None = the default) and returns what is kept.
SETTINGS: Mapping[str, Callable[[Context, ServiceType, Any], Any]] = {
    "instance_type": _check_instance_type,
    "networks": lambda _context, _kind, asked: check_names(asked),
    "entrypoint": lambda _context, _kind, asked: make_entrypoint(asked) or KEEP,
    "capabilities": lambda _context, _kind, asked: check_capabilities(list(asked or ())),
    "read_only_root": lambda _context, _kind, asked: bool(asked),
    "user": _check_user,
    "sandbox": _check_sandbox,
}
