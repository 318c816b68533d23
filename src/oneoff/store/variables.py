"""Sealed variables of environments and services. Called by the operations, which open and seal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, bindparam, delete, select

from oneoff.store.configuration import change_version
from oneoff.store.tables import variables


@dataclass(frozen=True, slots=True)
class SealedVariable:
    owner_id: str
    name: str
    secret: bool
    value_sealed: bytes = field(repr=False)


_COLUMNS = (variables.c.owner_id, variables.c.name, variables.c.secret, variables.c.value_sealed)
_OF_ONE = select(*_COLUMNS).where(variables.c.owner_id == bindparam("owner"))
_OF_TWO = select(*_COLUMNS).where(variables.c.owner_id.in_((bindparam("first"), bindparam("second"))))


def fetch_variables(connection: Connection, owner_id: str) -> list[SealedVariable]:
    return [SealedVariable(*row) for row in connection.execute(_OF_ONE, {"owner": owner_id})]


def fetch_layers(connection: Connection, environment_id: str, service_id: str) -> list[SealedVariable]:
    """Those of the environment first, then those of the service, which win."""
    rows = connection.execute(_OF_TWO, {"first": environment_id, "second": service_id})
    found = [SealedVariable(*row) for row in rows]
    found.sort(key=lambda each: each.owner_id == service_id)
    return found


def replace_variables(connection: Connection, owner_id: str, kept: Sequence[SealedVariable]) -> None:
    """Afterwards the owner has exactly those in `kept`."""
    change_version(connection)
    connection.execute(delete(variables).where(variables.c.owner_id == owner_id))
    if kept:
        connection.execute(variables.insert(), [_to_row(each) for each in kept])


def _to_row(each: SealedVariable) -> dict[str, object]:
    return {
        "owner_id": each.owner_id,
        "name": each.name,
        "secret": each.secret,
        "value_sealed": each.value_sealed,
    }
