"""Images of services: made local, with the credentials that are kept with the service. Used by deploys and services."""

from __future__ import annotations

import asyncio
from typing import Any

from oneoff.core.image import ImageRef
from oneoff.core.limits import format_duration
from oneoff.drivers.driver import PreparedImage, RegistryCredentials
from oneoff.engine.spec import password_place
from oneoff.errors import ImageUnavailable
from oneoff.operations.context import Context
from oneoff.store.services import Service


async def prepare_image(context: Context, ref: ImageRef, credentials: RegistryCredentials | None) -> PreparedImage:
    """Make an image local within the time a start may take. Raises ImageUnavailable, EngineUnavailable."""
    limit = context.settings.start_timeout_seconds
    try:
        return await asyncio.wait_for(context.driver.prepare(ref, credentials), limit)
    except TimeoutError:
        raise ImageUnavailable(
            str(ref), f"it was not here after {format_duration(limit)} (setting start_timeout_seconds)"
        ) from None


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
