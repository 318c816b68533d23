"""The few things SQLite and PostgreSQL do differently. Called by the other modules of the store only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection as Connection  # how the operations type their work, without knowing the library
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_if_absent(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """False when a row with the same key, or another unique column of it, exists already. Never raises for that: on
    PostgreSQL a failed insert would undo the whole transaction."""
    if connection.dialect.name == "sqlite":
        return connection.execute(sqlite.insert(table).on_conflict_do_nothing(), values).rowcount == 1
    return connection.execute(postgresql.insert(table).on_conflict_do_nothing(), values).rowcount == 1
