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
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    # What comes back tells: the row count of an INSERT is not kept for every driver.
    statement = insert(table).on_conflict_do_nothing().returning(next(iter(table.primary_key)))
    return connection.execute(statement, values).first() is not None
