"""The few things SQLite and PostgreSQL do differently. Called by the other modules of the store only."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import Connection as Connection  # how the operations type their work, without knowing the library
from sqlalchemy import Select, Table, Update, insert, text
from sqlalchemy.dialects import sqlite


def insert_if_absent(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """False when a row with the same key, or another unique column of it, exists already. Never raises for that: on
    PostgreSQL a failed insert would undo the whole transaction."""
    # What comes back tells: the row count of an INSERT is not kept for every driver.
    statement = _insert(connection)(table).on_conflict_do_nothing().returning(next(iter(table.primary_key)))
    return connection.execute(statement, values).first() is not None


def insert_fast(connection: Connection, table: Table, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """Rows of plain values, in the order of `names`. On SQLite the driver itself is called, which takes a fifth of the
    time: for what every run passes."""
    if connection.dialect.name != "sqlite":
        connection.execute(insert(table), [dict(zip(names, row, strict=True)) for row in rows])
        return
    _driver(connection).executemany(_to_insert(table.name, names), rows)


def fetch_fast(connection: Connection, statement: Select[Any], values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    """The rows of a statement that is built once, and not for each call. On SQLite by the driver itself, as above,
    which knows no types but its own: true is 1."""
    if connection.dialect.name != "sqlite":
        return connection.execute(statement, values).all()
    words, order, fixed = _to_words(statement)
    given = {**fixed, **values}
    found: list[tuple[Any, ...]] = _driver(connection).execute(words, [given[name] for name in order]).fetchall()
    return found


def update_fast(connection: Connection, statement: Update, rows: Sequence[Mapping[str, Any]]) -> int:
    """A statement with each of `rows`, its parameters; on SQLite as above. Returns how many rows of the table it
    changed."""
    if connection.dialect.name != "sqlite":
        return connection.execute(statement, rows).rowcount
    words, order, fixed = _to_words(statement)
    values = [[row[name] if name in row else fixed[name] for name in order] for row in rows]
    changed: int = _driver(connection).executemany(words, values).rowcount
    return changed


def insert_or_add(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], counts: Collection[str]
) -> None:
    """Where a row with the same key exists, the columns in `counts` are added to it, and the others stay."""
    statement = _insert(connection)(table)
    sums = {name: table.c[name] + statement.excluded[name] for name in counts}
    connection.execute(statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=sums), rows)


def lock_order(connection: Connection) -> None:
    """Until the end of the transaction nobody else passes here, so that what is numbered behind it is numbered in the
    order of commits. On SQLite only one writes anyway. To be called last: it holds up all who come here."""
    if connection.dialect.name != "sqlite":
        connection.execute(_LOCK_ORDER)


_LOCK_ORDER = text("SELECT pg_advisory_xact_lock(5726623061)")


def _insert(connection: Connection) -> Any:
    """The INSERT that knows ON CONFLICT."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert
    # A tenth of what the server loads at its start, and nothing to those on SQLite.
    from sqlalchemy.dialects import postgresql

    return postgresql.insert


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


@cache
def _to_insert(table: str, names: tuple[str, ...]) -> str:
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608 - ours


@lru_cache(maxsize=256)
def _to_words(statement: Select[Any] | Update) -> tuple[str, list[str], Mapping[str, Any]]:
    """SQL of SQLite, the names of its parameters in their order, and the values that stand in the statement."""
    compiled = statement.compile(dialect=sqlite.dialect())
    return str(compiled), list(compiled.positiontup or ()), compiled.params
