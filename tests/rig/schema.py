"""Databases that have today's schema already, as pytest fixtures: copying one takes a tenth of the time of making it.

Loaded by tests/conftest.py.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from oneoff.store.database import PostgresDatabase
from oneoff.store.schema import upgrade
from oneoff.store.sqlite import SqliteDatabase
from tests.rig.postgres import Postgres

_FILE = "oneoff.db"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("schema") / _FILE
    database = SqliteDatabase(f"sqlite:///{file}")
    asyncio.run(database.run(upgrade))
    database.close()
    return file


@pytest.fixture
def data_dir(sqlite_template: Path, tmp_path: Path) -> Path:
    """The test's `tmp_path`, as the data folder of a server that made its embedded database and nothing else yet."""
    shutil.copy(sqlite_template, tmp_path / _FILE)
    return tmp_path


@pytest.fixture(scope="session")
def postgres_template(postgres: Postgres) -> str:
    """The name of a database nobody is connected to."""
    url = postgres.fresh_database()
    database = PostgresDatabase(url)
    with database.engine.begin() as connection:
        upgrade(connection)
    database.close()
    return url.rpartition("/")[2]


@pytest.fixture
def schema_url(postgres: Postgres, postgres_template: str) -> Iterator[str]:
    """A PostgreSQL database of this test's own, with the schema and no rows."""
    url = postgres.fresh_database(postgres_template)
    yield url
    postgres.drop_database(url)
