"""Services, and what a run needs of one when it is accepted. Called by the operations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, select, update

from oneoff.core.clock import from_us, to_us
from oneoff.core.command import Entrypoint
from oneoff.core.service import ServicePath, ServiceType
from oneoff.errors import AmbiguousPath, NotFound
from oneoff.store.configuration import change_version
from oneoff.store.deploy_tables import deploy_gates
from oneoff.store.dialect import insert_if_absent
from oneoff.store.log_streams import delete_stream
from oneoff.store.tables import deploys, services, variables, workspaces

_JSON = frozenset({"networks", "entrypoint", "capabilities"})
_HINT = "`oneoff service list` shows them"


@dataclass(frozen=True, slots=True)
class Service:
    """`image` and `digest` are those of the live deploy; None before the first one."""

    id: str
    workspace_id: str
    environment_id: str
    name: str
    path: str
    type: ServiceType
    instance_type: str
    networks: tuple[str, ...]
    entrypoint: Entrypoint
    capabilities: tuple[str, ...]
    read_only_root: bool
    user: str | None
    sandbox: str | None
    suspended: bool
    live_deploy_id: str | None
    registry_username: str | None
    registry_password_sealed: bytes | None = field(repr=False)
    created_at: datetime
    image: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """Of a service what the acceptance of a run needs. The fields from `deploy_id` on are None without a live image."""

    service_id: str
    workspace_id: str
    plan: str
    environment_id: str
    path: str
    type: ServiceType
    instance_type: str
    entrypoint: Entrypoint
    deploy_id: str | None
    image: str | None
    image_ref: str | None
    digest: str | None


_OWN = [field.name for field in fields(Service) if field.name not in ("image", "digest")]
_SELECT = select(*(services.c[name] for name in _OWN), deploys.c.image, deploys.c.digest).outerjoin_from(
    services, deploys, services.c.live_deploy_id == deploys.c.id
)
_BY_ID = _SELECT.where(services.c.id == bindparam("service_id"))
# The row is locked on PostgreSQL, so that the service cannot vanish between this and the commit of the run.
_LAUNCH = (
    select(
        services.c.id.label("service_id"),
        services.c.workspace_id,
        workspaces.c.plan,
        services.c.environment_id,
        services.c.path,
        services.c.type,
        services.c.instance_type,
        services.c.entrypoint,
        deploys.c.id.label("deploy_id"),
        deploys.c.image,
        deploys.c.image_ref,
        deploys.c.digest,
    )
    .select_from(
        services.join(workspaces, services.c.workspace_id == workspaces.c.id).outerjoin(
            deploys, services.c.live_deploy_id == deploys.c.id
        )
    )
    .where(services.c.id == bindparam("service_id"))
    .with_for_update(read=True, key_share=True, of=services)
)


def save_new(connection: Connection, service: Service) -> bool:
    """False when its path is taken."""
    return insert_if_absent(connection, services, _to_row({name: getattr(service, name) for name in _OWN}))


def find_service(connection: Connection, service_id: str) -> Service | None:
    row = connection.execute(_BY_ID, {"service_id": service_id}).one_or_none()
    return None if row is None else _to_service(row)


def get_service(connection: Connection, service_id: str) -> Service:
    """Raises NotFound."""
    if (service := find_service(connection, service_id)) is None:
        raise NotFound("service", service_id, _HINT)
    return service


def find_by_path(connection: Connection, workspace_id: str, path: ServicePath) -> Service | None:
    """The one service that `path` names. Raises AmbiguousPath when only the environment is given and has several."""
    query = _SELECT.where(services.c.workspace_id == workspace_id)
    if path.service is not None:
        row = connection.execute(query.where(services.c.path == str(path))).one_or_none()
        return None if row is None else _to_service(row)
    prefix = f"{path}/"
    inside = func.substr(services.c.path, 1, len(prefix)) == prefix
    rows = connection.execute(query.where(inside).order_by(services.c.path)).all()
    if len(rows) > 1:
        raise AmbiguousPath(str(path), [row.path for row in rows])
    return _to_service(rows[0]) if rows else None


def list_services(connection: Connection, workspace_id: str, limit: int, before: str | None) -> list[Service]:
    """Newest first. Ids are compared without their prefix, as cron services have another one."""
    age = func.substr(services.c.id, 5)
    query = _SELECT.where(services.c.workspace_id == workspace_id).order_by(age.desc()).limit(limit)
    if before is not None:
        query = query.where(age < before[4:])
    return [_to_service(row) for row in connection.execute(query)]


def get_launch(connection: Connection, service_id: str) -> Launch:
    """Raises NotFound."""
    row = connection.execute(_LAUNCH, {"service_id": service_id}).one_or_none()
    if row is None:
        raise NotFound("service", service_id, _HINT)
    values: dict[str, Any] = dict(row._mapping)
    values["type"] = ServiceType(values["type"])
    values["entrypoint"] = _to_entrypoint(values["entrypoint"])
    return Launch(**values)


def save_changes(connection: Connection, service_id: str, changes: Mapping[str, Any]) -> None:
    """`changes` are values by the names of Service's fields."""
    if changes:
        change_version(connection)
        connection.execute(update(services).where(services.c.id == service_id).values(_to_row(changes)))


def delete_with_deploys(connection: Connection, service_id: str) -> None:
    """Its runs stay: history outlives the service."""
    change_version(connection)
    connection.execute(delete(variables).where(variables.c.owner_id == service_id))
    of_service = select(deploys.c.id).where(deploys.c.service_id == service_id)
    connection.execute(delete(deploy_gates).where(deploy_gates.c.deploy_id.in_(of_service)))
    connection.execute(delete(deploys).where(deploys.c.service_id == service_id))
    delete_stream(connection, service_id)
    connection.execute(delete(services).where(services.c.id == service_id))


def lock_service(connection: Connection, service_id: str) -> None:
    """Until the commit nobody else accepts a run of it. Nothing to do on SQLite, where one writes at a time."""
    connection.execute(select(services.c.id).where(services.c.id == service_id).with_for_update())


def _to_service(row: Row[*tuple[Any, ...]]) -> Service:
    values: dict[str, Any] = dict(row._mapping)
    values["type"] = ServiceType(values["type"])
    values["networks"] = tuple(json.loads(values["networks"]))
    values["capabilities"] = tuple(json.loads(values["capabilities"]))
    values["entrypoint"] = _to_entrypoint(values["entrypoint"])
    values["read_only_root"] = bool(values["read_only_root"])
    values["suspended"] = bool(values["suspended"])
    values["created_at"] = from_us(values["created_at"])
    return Service(**values)


def _to_entrypoint(text: str) -> Entrypoint:
    entrypoint = json.loads(text)
    return entrypoint if isinstance(entrypoint, str) else tuple(entrypoint)


def _to_row(values: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {n: json.dumps(value) if n in _JSON else value for n, value in values.items()}
    if "created_at" in row:
        row["created_at"] = to_us(row["created_at"])
    if "type" in row:
        row["type"] = str(row["type"])
    return row
