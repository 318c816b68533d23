"""Which configuration of services, live images and variables is in force: a random version, changed with any of it.

Called by the store's modules that change configuration, and by the acceptance of runs, which asks this one value
instead of reading everything again.
"""

from __future__ import annotations

import os

from sqlalchemy import Connection, bindparam, select, update

from oneoff.store.dialect import fetch_fast
from oneoff.store.tables import installation, services

NAME = "configuration"
# The service's row is locked on PostgreSQL: it cannot vanish between this and the commit of its run.
_VERSION = (
    select(installation.c.value)
    .select_from(services)
    .join(installation, installation.c.name == NAME)
    .where(services.c.id == bindparam("service_id"))
    .with_for_update(read=True, key_share=True, of=services)
)
VERSION = select(installation.c.value).where(installation.c.name == NAME).scalar_subquery()  # for other queries
_CHANGE = update(installation).where(installation.c.name == NAME).values(value=bindparam("version"))


def new_version() -> str:
    """Random, not counted: one that was rolled back never comes again."""
    return os.urandom(12).hex()


def find_version(connection: Connection, service_id: str) -> str | None:
    """None when there is no such service."""
    found = fetch_fast(connection, _VERSION, {"service_id": service_id})
    return str(found[0][0]) if found else None


def change_version(connection: Connection) -> None:
    """In the transaction that changes any configuration."""
    connection.execute(_CHANGE, {"version": new_version()})
