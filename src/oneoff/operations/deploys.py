"""Deploys: asked for, listed, canceled. Used by the API; `deploying` brings them forward."""

from __future__ import annotations

from oneoff.core.command import KEEP, Entrypoint, entrypoint_warning
from oneoff.core.image import parse_image_ref
from oneoff.drivers.driver import RegistryCredentials
from oneoff.engine.loop import sleep_unless
from oneoff.errors import DriverError
from oneoff.operations import deploying
from oneoff.operations.context import Context
from oneoff.operations.ids import check_id
from oneoff.operations.images import seal_credentials
from oneoff.operations.room import check_room
from oneoff.store import deploys, gates, idempotency, services
from oneoff.store.deploys import Deploy as Deploy
from oneoff.store.deploys import DeployStatus
from oneoff.store.dialect import Connection
from oneoff.store.gates import DeployGate as DeployGate
from oneoff.store.idempotency import Idempotency
from oneoff.store.services import Service

_LOOK_AGAIN_SECONDS = 1.0

# A deploy with the jobs that gate it or follow it.
Gated = tuple[Deploy, list[DeployGate]]


async def create_deploy(
    context: Context,
    service_id: str,
    image: str,
    actor: str,
    *,
    credentials: RegistryCredentials | None = None,
    request: Idempotency | None = None,
) -> Deploy:
    """The deploy, when it has ended, or its gates are going, or it waits for an earlier deploy whose gates are.

    `credentials` are kept with the service from now on. Raises NotFound, InvalidImageRef, and a temporary DriverError
    when the engine did not answer: the deploy is `canceled` then, and the same request may be sent again.
    """
    deploy = await begin_deploy(context, service_id, image, actor, credentials=credentials, request=request)
    with context.signals.watch(service_id) as changed:
        while deploy.status is DeployStatus.CREATED:
            changed.clear()
            try:
                deploy, before = await deploying.advance(context, deploy.id)
                if before is not None and not before.waits_for_gates:
                    await deploying.advance(context, before.deploy_id)
                    deploy, before = await deploying.advance(context, deploy.id)
            except DriverError as problem:
                await deploying.give_up(context, deploy, str(problem), request)
                raise
            if before is not None and before.waits_for_gates:
                break
            if deploy.status is DeployStatus.CREATED:
                await sleep_unless(changed, context.clock, _LOOK_AGAIN_SECONDS)
    return deploy


async def begin_deploy(
    context: Context,
    service_id: str,
    image: str,
    actor: str,
    *,
    credentials: RegistryCredentials | None = None,
    request: Idempotency | None = None,
) -> Deploy:
    """The deploy, `created` and durable; the deployer brings it forward. Raises NotFound, InvalidImageRef, DiskFull."""
    check_id("service", service_id)

    def work(connection: Connection) -> Deploy:
        service = services.get_service(connection, service_id)
        if (earlier := idempotency.find_resource(connection, request)) is not None:
            return deploys.get_deploy(connection, earlier)
        deploy = insert_deploy(context, connection, service, image, actor)
        if credentials is not None:
            services.save_changes(connection, service_id, seal_credentials(context, service_id, credentials))
        idempotency.save_resource(connection, request, deploy.id, deploy.created_at)
        return deploy

    deploy = await context.database.run(work)
    context.signals.deploy_changed(service_id)
    return deploy


def insert_deploy(context: Context, connection: Connection, service: Service, image: str, actor: str) -> Deploy:
    """`begin_deploy` inside the caller's transaction, who calls `signals.deploy_changed` after the commit."""
    parse_image_ref(image)
    check_room(context.settings, context.clock)
    deploy_id, now = context.new_id("deploy"), context.clock.now()
    deploy = Deploy(deploy_id, service.id, DeployStatus.CREATED, image, None, None, None, None, actor, now, None)
    deploys.save_new(connection, deploy)
    deploying.tell(context, connection, "deploy.started", deploy, service.path)
    return deploy


async def cancel_deploy(context: Context, deploy_id: str, actor: str) -> Deploy:
    """A waiting one ends at once; one whose gates are going ends with them, which are asked to end; an ended one stays
    as it is. Raises NotFound."""
    check_id("deploy", deploy_id)
    deploy = await deploying.cancel(context, deploy_id, actor)
    context.signals.deploy_changed(deploy.service_id)
    return deploy


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


async def fetch_gates(context: Context, listed: list[Deploy]) -> dict[str, list[DeployGate]]:
    """By deploy, those before it first."""
    found: dict[str, list[DeployGate]] = {deploy.id: [] for deploy in listed}
    for gate in await context.database.read(lambda c: gates.list_gates(c, list(found))):
        found[gate.deploy_id].append(gate)
    return found


def warning_of(deploy: Deploy, service_path: str, entrypoint: Entrypoint) -> str | None:
    """A sentence with the fix when commands may be swallowed by the image's entrypoint."""
    if deploy.image_config is None or entrypoint != KEEP:
        return None
    return entrypoint_warning(deploy.image_config, service_path)
