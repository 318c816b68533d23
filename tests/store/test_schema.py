"""The schema of an empty database, and the one that migrations make."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, inspect, text

from oneoff.errors import SchemaTooNew
from oneoff.store import schema
from oneoff.store.tables import metadata

pytestmark = pytest.mark.anyio


async def test_an_empty_database_gets_the_very_schema_that_the_migrations_make(database: Any) -> None:
    assert await database.run(schema.upgrade)
    made = await database.run(look)
    await database.run(drop)
    await database.run(schema.migrate)
    migrated = await database.run(look)
    assert made == migrated
    assert made["alembic_version"]["rows"] == [schema.HEAD]


async def test_a_database_that_is_up_to_date_is_left_alone(database: Any) -> None:
    await database.run(schema.migrate)
    assert not await database.run(schema.upgrade)


async def test_a_database_of_a_newer_version_is_left_alone(database: Any) -> None:
    await database.run(schema.upgrade)
    await database.run(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(SchemaTooNew, match=f"9999 and this one knows {schema.HEAD}"):
        await database.run(schema.upgrade)


def look(connection: Connection) -> dict[str, Any]:
    inspector = inspect(connection)
    inspector.clear_cache()
    found: dict[str, Any] = {
        name: {
            "columns": {c["name"]: (str(c["type"]), c["nullable"], c["default"]) for c in inspector.get_columns(name)},
            "primary key": inspector.get_pk_constraint(name),
            "unique": sorted(map(str, inspector.get_unique_constraints(name))),
            "foreign keys": sorted(map(str, inspector.get_foreign_keys(name))),
            "indexes": sorted(map(_words, inspector.get_indexes(name))),
        }
        for name in inspector.get_table_names()
    }
    found["alembic_version"]["rows"] = list(
        connection.execute(text("SELECT version_num FROM alembic_version")).scalars()
    )
    return found


def _words(index: Any) -> str:
    """With the text of its condition, not the address of the object that holds it."""
    options = {name: str(value) for name, value in index.get("dialect_options", {}).items()}
    return str({**index, "dialect_options": options})


def drop(connection: Connection) -> None:
    metadata.drop_all(connection)
    connection.execute(text("DROP TABLE alembic_version"))
