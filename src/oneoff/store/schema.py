"""Brings the database's schema up to date at start. Alembic is imported only when there is something to do."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from oneoff.errors import StoreUnavailable

HEAD = "0002"  # the newest file of migrations/versions; a test compares
_MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(connection: Connection) -> bool:
    """Run the migrations that are missing, in the caller's transaction. True when there were any.

    Raises StoreUnavailable when the database was written by a newer Oneoff.
    """
    version = _version(connection)
    if version == HEAD:
        return False
    if version is not None and version > HEAD:
        raise StoreUnavailable(
            f"its schema {version} is newer than this Oneoff knows ({HEAD}): install the newer version"
        )
    _run_alembic(connection)
    return True


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _run_alembic(connection: Connection) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    with EnvironmentContext(config, script) as environment:
        environment.configure(
            connection=connection,
            fn=lambda revision, _: script._upgrade_revs("head", revision),
            render_as_batch=connection.dialect.name == "sqlite",
            transactional_ddl=False,
        )
        environment.run_migrations()
