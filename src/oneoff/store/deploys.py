"""Deploys: each transition is one guarded UPDATE. Called by the operations, and by the janitor for what is live."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, select, update

from oneoff.core.clock import from_us, to_us
from oneoff.core.image import ImageConfig
from oneoff.errors import NotFound
from oneoff.store.configuration import change_version
from oneoff.store.tables import deploys, services


class DeployStatus(StrEnum):
    CREATED = "created"
    LIVE = "live"
    DEACTIVATED = "deactivated"
    IMAGE_UNAVAILABLE = "image_unavailable"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class Deploy:
    """`image` is as the user wrote it; `image_ref` makes the very same image local again."""

    id: str
    service_id: str
    status: DeployStatus
    image: str
    image_ref: str | None
    digest: str | None
    image_config: ImageConfig | None
    message: str | None
    actor: str
    created_at: datetime
    finished_at: datetime | None


_SELECT = select(deploys)


def save_new(connection: Connection, deploy: Deploy) -> None:
    config = None if deploy.image_config is None else _to_json(deploy.image_config)
    row = {
        "id": deploy.id,
        "service_id": deploy.service_id,
        "status": deploy.status.value,
        "image": deploy.image,
        "image_ref": deploy.image_ref,
        "digest": deploy.digest,
        "image_config": config,
        "message": deploy.message,
        "actor": deploy.actor,
        "created_at": to_us(deploy.created_at),
        "finished_at": None if deploy.finished_at is None else to_us(deploy.finished_at),
    }
    connection.execute(deploys.insert(), row)


def get_deploy(connection: Connection, deploy_id: str) -> Deploy:
    """Raises NotFound."""
    row = connection.execute(_SELECT.where(deploys.c.id == deploy_id)).one_or_none()
    if row is None:
        raise NotFound("deploy", deploy_id)
    return _to_deploy(row)


def list_deploys(connection: Connection, service_id: str, limit: int, before: str | None) -> list[Deploy]:
    query = _SELECT.where(deploys.c.service_id == service_id).order_by(deploys.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(deploys.c.id < before)
    return [_to_deploy(row) for row in connection.execute(query)]


def make_live_if_newest(connection: Connection, deploy: Deploy) -> bool:
    """created -> live with the prepared image of `deploy`, and the live one before -> deactivated. False when it is no
    longer `created`, or a newer deploy went live meanwhile; nothing is changed then."""
    at = None if deploy.finished_at is None else to_us(deploy.finished_at)
    config = None if deploy.image_config is None else _to_json(deploy.image_config)
    image = {"image_ref": deploy.image_ref, "digest": deploy.digest, "image_config": config}
    newest = select(services.c.live_deploy_id).where(services.c.id == deploy.service_id).with_for_update()
    live = connection.execute(newest).scalar_one_or_none()
    if live is not None and live > deploy.id:
        return False
    guard = (deploys.c.id == deploy.id, deploys.c.status == DeployStatus.CREATED.value)
    values = {"status": DeployStatus.LIVE.value, "finished_at": at, **image}
    if connection.execute(update(deploys).where(*guard).values(values)).rowcount != 1:
        return False
    connection.execute(
        update(deploys)
        .where(deploys.c.id == live, deploys.c.status == DeployStatus.LIVE.value)
        .values(status=DeployStatus.DEACTIVATED.value)
    )
    change_version(connection)
    connection.execute(update(services).where(services.c.id == deploy.service_id).values(live_deploy_id=deploy.id))
    return True


def end_if_created(connection: Connection, deploy_id: str, status: DeployStatus, message: str, at: datetime) -> bool:
    """created -> image_unavailable or canceled."""
    guard = (deploys.c.id == deploy_id, deploys.c.status == DeployStatus.CREATED.value)
    values = {"status": status.value, "message": message, "finished_at": to_us(at)}
    return connection.execute(update(deploys).where(*guard).values(values)).rowcount == 1


def list_unfinished(connection: Connection) -> Sequence[str]:
    return (
        connection.execute(select(deploys.c.id).where(deploys.c.status == DeployStatus.CREATED.value)).scalars().all()
    )


def fetch_live_digests(connection: Connection) -> set[str]:
    """Digests of all live images: the janitor keeps them."""
    query = select(deploys.c.digest).where(deploys.c.status == DeployStatus.LIVE.value, deploys.c.digest.is_not(None))
    return {digest for digest in connection.execute(query.distinct()).scalars() if digest}


def _to_deploy(row: Row[Any]) -> Deploy:
    values: dict[str, Any] = dict(row._mapping)
    values["status"] = DeployStatus(values["status"])
    values["created_at"] = from_us(values["created_at"])
    values["finished_at"] = None if values["finished_at"] is None else from_us(values["finished_at"])
    values["image_config"] = None if values["image_config"] is None else _to_config(values["image_config"])
    return Deploy(**values)


def _to_json(config: ImageConfig) -> str:
    return json.dumps(asdict(config))


def _to_config(text: str) -> ImageConfig:
    values = json.loads(text)
    values["entrypoint"] = tuple(values["entrypoint"])
    values["command"] = tuple(values["command"])
    return ImageConfig(**values)
