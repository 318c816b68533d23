"""Deploys: each transition is one guarded UPDATE. Called by the operations, the deployer and the janitor."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, or_, select, update

from oneoff.core.clock import from_us, to_us
from oneoff.core.deploy import UNFINISHED
from oneoff.core.deploy import DeployStatus as DeployStatus
from oneoff.core.image import ImageConfig
from oneoff.errors import NotFound
from oneoff.store.configuration import change_version
from oneoff.store.tables import deploys, services

_UNFINISHED = sorted(status.value for status in UNFINISHED)
_IN_PROGRESS = DeployStatus.PRE_DEPLOY_IN_PROGRESS.value


@dataclass(frozen=True, slots=True)
class Deploy:
    """`image` is as the user wrote it; `image_ref` makes the very same image local again. `canceled_by` asked for its
    end while its gates were going."""

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
    canceled_by: str | None = None

    @property
    def is_finished(self) -> bool:
        return self.status not in UNFINISHED


_SELECT = select(deploys)


def save_new(connection: Connection, deploy: Deploy) -> None:
    row = {
        "id": deploy.id,
        "service_id": deploy.service_id,
        "status": deploy.status.value,
        "image": deploy.image,
        **_image_of(deploy),
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
        raise NotFound("deploy", deploy_id, "`oneoff deploys list PATH` shows those of a service")
    return _to_deploy(row)


def list_deploys(connection: Connection, service_id: str, limit: int, before: str | None) -> list[Deploy]:
    query = _SELECT.where(deploys.c.service_id == service_id).order_by(deploys.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(deploys.c.id < before)
    return [_to_deploy(row) for row in connection.execute(query)]


def take_turn(connection: Connection, service_id: str) -> None:
    """Of two servers that are about to begin deploys of one service, the second begins its transaction again: on
    PostgreSQL it would not see what the first has written. Raises NotFound."""
    same = services.c.id == service_id
    touched = connection.execute(update(services).where(same).values(live_deploy_id=services.c.live_deploy_id))
    if touched.rowcount != 1:
        raise NotFound("service", service_id, "it was deleted meanwhile")


def find_before(connection: Connection, deploy: Deploy) -> tuple[str, DeployStatus] | None:
    """The unfinished deploy of the same service that goes first, if there is one: that whose gates are going, else the
    oldest."""
    others = (deploys.c.service_id == deploy.service_id, deploys.c.id != deploy.id)
    goes_first = or_(deploys.c.status == _IN_PROGRESS, deploys.c.id < deploy.id)
    query = select(deploys.c.id, deploys.c.status).where(*others, deploys.c.status.in_(_UNFINISHED), goes_first)
    order = ((deploys.c.status == _IN_PROGRESS).desc(), deploys.c.id)
    row = connection.execute(query.order_by(*order).limit(1)).one_or_none()
    return None if row is None else (row.id, DeployStatus(row.status))


def save_message_if_created(connection: Connection, deploy_id: str, message: str | None) -> None:
    """What it waits for."""
    guard = (deploys.c.id == deploy_id, deploys.c.status == DeployStatus.CREATED.value)
    connection.execute(update(deploys).where(*guard).values(message=message))


def begin_gates_if_created(connection: Connection, deploy: Deploy) -> bool:
    """created -> pre_deploy_in_progress with the prepared image of `deploy`."""
    guard = (deploys.c.id == deploy.id, deploys.c.status == DeployStatus.CREATED.value)
    values = {"status": _IN_PROGRESS, "message": None, **_image_of(deploy)}
    return connection.execute(update(deploys).where(*guard).values(values)).rowcount == 1


def make_live_if_newest(connection: Connection, deploy: Deploy) -> bool:
    """From the status of `deploy`, which is unfinished, to live with its prepared image; the live one before ->
    deactivated. False when its status is another by now, somebody asked for its end, or a newer deploy went live
    meanwhile; nothing is changed then."""
    at = None if deploy.finished_at is None else to_us(deploy.finished_at)
    newest = select(services.c.live_deploy_id).where(services.c.id == deploy.service_id).with_for_update()
    live = connection.execute(newest).scalar_one_or_none()
    if live is not None and live > deploy.id:
        return False
    guard = (deploys.c.id == deploy.id, deploys.c.status == deploy.status.value, deploys.c.canceled_by.is_(None))
    values = {"status": DeployStatus.LIVE.value, "finished_at": at, "message": None, **_image_of(deploy)}
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


def end_if_unchanged(connection: Connection, deploy: Deploy, status: DeployStatus, message: str, at: datetime) -> bool:
    """From the status of `deploy`, which is unfinished, to one that never was live."""
    guard = (deploys.c.id == deploy.id, deploys.c.status == deploy.status.value)
    values = {"status": status.value, "message": message, "finished_at": to_us(at)}
    return connection.execute(update(deploys).where(*guard).values(values)).rowcount == 1


def request_cancel(connection: Connection, deploy_id: str, actor: str) -> bool:
    """Commit who asks for the end of a deploy whose gates are going. The first request stays."""
    guard = (deploys.c.id == deploy_id, deploys.c.status == _IN_PROGRESS, deploys.c.canceled_by.is_(None))
    return connection.execute(update(deploys).where(*guard).values(canceled_by=actor)).rowcount == 1


def list_unfinished(connection: Connection) -> Sequence[str]:
    query = select(deploys.c.id).where(deploys.c.finished_at.is_(None)).order_by(deploys.c.id)
    return connection.execute(query).scalars().all()


def fetch_live_digests(connection: Connection) -> set[str]:
    """Digests of all images that are live, or will be when their gates open: the janitor keeps them."""
    kept = deploys.c.status.in_([DeployStatus.LIVE.value, _IN_PROGRESS])
    query = select(deploys.c.digest).where(kept, deploys.c.digest.is_not(None))
    return {digest for digest in connection.execute(query.distinct()).scalars() if digest}


def _to_deploy(row: Row[Any]) -> Deploy:
    values: dict[str, Any] = dict(row._mapping)
    values["status"] = DeployStatus(values["status"])
    values["created_at"] = from_us(values["created_at"])
    values["finished_at"] = None if values["finished_at"] is None else from_us(values["finished_at"])
    values["image_config"] = None if values["image_config"] is None else _to_config(values["image_config"])
    return Deploy(**values)


def _image_of(deploy: Deploy) -> dict[str, Any]:
    config = None if deploy.image_config is None else _to_json(deploy.image_config)
    return {"image_ref": deploy.image_ref, "digest": deploy.digest, "image_config": config}


def _to_json(config: ImageConfig) -> str:
    return json.dumps(asdict(config))


def _to_config(text: str) -> ImageConfig:
    values = json.loads(text)
    values["entrypoint"] = tuple(values["entrypoint"])
    values["command"] = tuple(values["command"])
    return ImageConfig(**values)
