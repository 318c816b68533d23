"""Brings the database's schema up to date at start. An empty database gets the newest schema at once; Alembic, which
takes 9 MB and half a second, is imported only when an older one is to be migrated."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from oneoff.errors import SchemaTooNew
from oneoff.store import deploy_tables as deploy_tables
from oneoff.store import log_stream_tables as log_stream_tables
from oneoff.store import usage_tables as usage_tables
from oneoff.store import webhook_tables as webhook_tables
from oneoff.store.tables import conditions_for_postgres, metadata

HEAD = "0005"  # the newest file of migrations/versions; a test compares
_MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(connection: Connection) -> bool:
    """Make or migrate it, in the caller's transaction. True when there was something to do.

    Raises SchemaTooNew when the database was written by a newer Oneoff.
    """
    version = _version(connection)
    if version == HEAD:
        return False
    if version is not None and version > HEAD:
        raise SchemaTooNew(version, HEAD)
    if version is None:
        _create(connection)
    else:
        migrate(connection)
    return True


def migrate(connection: Connection, revision: str = "head") -> None:
    """Run the migrations that are missing; on an empty database all of them, which makes the same schema. Tests stop at
    an earlier one."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    if not connection.in_transaction():
        connection.begin()  # else Alembic begins one itself, and commits what is the caller's
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    with EnvironmentContext(config, script) as environment:
        environment.configure(
            connection=connection,
            fn=lambda at, _: script._upgrade_revs(revision, at),
            render_as_batch=connection.dialect.name == "sqlite",
            transactional_ddl=False,
        )
        environment.run_migrations()


def _create(connection: Connection) -> None:
    if connection.dialect.name != "sqlite":
        conditions_for_postgres()
    metadata.create_all(connection, checkfirst=False)
    # As Alembic makes it.
    column = "version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)"
    connection.execute(text(f"CREATE TABLE alembic_version ({column})"))
    connection.execute(text("INSERT INTO alembic_version (version_num) VALUES (:head)"), {"head": HEAD})


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
