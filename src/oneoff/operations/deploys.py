"""Deploys: an image becomes the live image of a service, held by its digest. Used by the API and at server start."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

from oneoff.core.command import KEEP, Entrypoint, entrypoint_warning
from oneoff.core.image import ImageRef, parse_image_ref
from oneoff.core.limits import format_duration
from oneoff.drivers.driver import PreparedImage, RegistryCredentials
from oneoff.engine.spec import password_place
from oneoff.errors import DriverError, ImageUnavailable
from oneoff.operations.context import Context
from oneoff.operations.ids import check_id
from oneoff.store import deploys, idempotency, services
from oneoff.store.deploys import Deploy as Deploy
from oneoff.store.deploys import DeployStatus
from oneoff.store.dialect import Connection
from oneoff.store.idempotency import Idempotency
from oneoff.store.services import Service

# Deploys of one service go one after another; a line lives as long as somebody stands in it.
_lines: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()


async def create_deploy(
    context: Context,
    service_id: str,
    image: str,
    actor: str,
    *,
    credentials: RegistryCredentials | None = None,
    request: Idempotency | None = None,
) -> Deploy:
    """The deploy in its final status: `live`, `image_unavailable`, or `canceled` when a newer one was faster.

    `credentials` are kept with the service from now on. Raises NotFound, InvalidImageRef, and a temporary DriverError
    when the engine did not answer: the deploy is `canceled` then, and the same request may be sent again.
    """
    check_id("service", service_id)
    ref = parse_image_ref(image)
    line = _lines.setdefault((context.instance, service_id), asyncio.Lock())
    async with line:
        service, deploy, is_new = await _begin(context, service_id, image, actor, request)
        if not is_new:
            return deploy
        if credentials is not None:
            service = await _keep_credentials(context, service, credentials)
        return await _finish(context, service, deploy, ref, request)


async def prepare_image(context: Context, ref: ImageRef, credentials: RegistryCredentials | None) -> PreparedImage:
    """Make an image local within the time a start may take. Raises ImageUnavailable, EngineUnavailable."""
    limit = context.settings.start_timeout_seconds
    try:
        return await asyncio.wait_for(context.driver.prepare(ref, credentials), limit)
    except TimeoutError:
        raise ImageUnavailable(
            str(ref), f"it was not here after {format_duration(limit)} (setting start_timeout_seconds)"
        ) from None


async def get_deploy(context: Context, deploy_id: str) -> tuple[Deploy, Service]:
    """Raises NotFound."""
    check_id("deploy", deploy_id)

    def work(connection: Connection) -> tuple[Deploy, Service]:
        deploy = deploys.get_deploy(connection, deploy_id)
        return deploy, services.get_service(connection, deploy.service_id)

    return await context.database.read(work)


async def list_deploys(
    context: Context, service_id: str, limit: int, before: str | None
) -> tuple[list[Deploy], Service]:
    """Newest first. Raises NotFound."""
    check_id("service", service_id)

    def work(connection: Connection) -> tuple[list[Deploy], Service]:
        service = services.get_service(connection, service_id)
        return deploys.list_deploys(connection, service_id, limit, before), service

    return await context.database.read(work)


async def cancel_unfinished_deploys(context: Context) -> int:
    """Those a server left behind when it was killed. Called at start, before requests are taken; returns how many."""
    now = context.clock.now()

    def work(connection: Connection) -> int:
        message = "the server was restarted meanwhile: deploy again"
        left = deploys.list_unfinished(connection)
        return sum(deploys.end_if_created(connection, each, DeployStatus.CANCELED, message, now) for each in left)

    return await context.database.run(work)


def warning_of(deploy: Deploy, service_path: str, entrypoint: Entrypoint) -> str | None:
    """A sentence with the fix when commands may be swallowed by the image's entrypoint."""
    if deploy.image_config is None or entrypoint != KEEP:
        return None
    return entrypoint_warning(deploy.image_config, service_path)


def open_credentials(context: Context, service: Service) -> RegistryCredentials | None:
    if service.registry_username is None or service.registry_password_sealed is None:
        return None
    password = context.sealer.open(service.registry_password_sealed, password_place(service.id))
    return RegistryCredentials(service.registry_username, password.decode())


def seal_credentials(context: Context, service_id: str, credentials: RegistryCredentials | None) -> dict[str, Any]:
    """The columns of a service that keep them; None forgets them."""
    if credentials is None:
        return {"registry_username": None, "registry_password_sealed": None}
    box = context.sealer.seal(credentials.password.encode(), password_place(service_id))
    return {"registry_username": credentials.username, "registry_password_sealed": box}


async def _begin(
    context: Context, service_id: str, image: str, actor: str, request: Idempotency | None
) -> tuple[Service, Deploy, bool]:
    now = context.clock.now()
    deploy_id = context.new_id("deploy")
    new = Deploy(deploy_id, service_id, DeployStatus.CREATED, image, None, None, None, None, actor, now, None)

    def work(connection: Connection) -> tuple[Service, Deploy, bool]:
        service = services.get_service(connection, service_id)
        if (earlier := idempotency.find_resource(connection, request)) is not None:
            return service, deploys.get_deploy(connection, earlier), False
        deploys.save_new(connection, new)
        idempotency.save_resource(connection, request, deploy_id, now)
        return service, new, True

    return await context.database.run(work)


async def _keep_credentials(context: Context, service: Service, credentials: RegistryCredentials) -> Service:
    columns = seal_credentials(context, service.id, credentials)
    await context.database.run(lambda c: services.save_changes(c, service.id, columns))
    return await context.database.read(lambda c: services.get_service(c, service.id))


async def _finish(
    context: Context, service: Service, deploy: Deploy, ref: ImageRef, request: Idempotency | None
) -> Deploy:
    try:
        prepared = await prepare_image(context, ref, open_credentials(context, service))
    except DriverError as problem:
        if problem.temporary:
            await _end(context, deploy, DeployStatus.CANCELED, str(problem), forget=request)
            raise
        return await _end(context, deploy, DeployStatus.IMAGE_UNAVAILABLE, str(problem))
    live = replace(
        deploy,
        image_ref=prepared.ref,
        digest=prepared.digest,
        image_config=prepared.config,
        finished_at=context.clock.now(),
    )
    if not await context.database.run(lambda c: deploys.make_live_if_newest(c, live)):
        return await _end(context, deploy, DeployStatus.CANCELED, "a newer deploy of the service went live meanwhile")
    return await context.database.read(lambda c: deploys.get_deploy(c, deploy.id))


async def _end(
    context: Context, deploy: Deploy, status: DeployStatus, message: str, forget: Idempotency | None = None
) -> Deploy:
    now = context.clock.now()

    def work(connection: Connection) -> Deploy:
        deploys.end_if_created(connection, deploy.id, status, message, now)
        idempotency.forget(connection, forget)
        return deploys.get_deploy(connection, deploy.id)

    return await context.database.run(work)
