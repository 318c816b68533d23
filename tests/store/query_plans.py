"""How SQLite would answer what a store function asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from sqlalchemy import Connection, event

from oneoff.store import dialect


def steps_of(connection: Connection, ask: Callable[[Connection], object]) -> list[str]:
    """The steps of EXPLAIN QUERY PLAN of each statement that `ask` executes."""
    asked: list[tuple[str, Any]] = []
    driver = connection.connection.driver_connection

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    class NotingDriver:
        def execute(self, statement: str, parameters: Any) -> Any:
            asked.append((statement, parameters))
            return driver.execute(statement, parameters)  # type: ignore[union-attr]

    event.listen(connection, "before_cursor_execute", note)
    with patch.object(dialect, "_driver", lambda _: NotingDriver()):
        ask(connection)
    event.remove(connection, "before_cursor_execute", note)
    found = [
        connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", tuple(parameters))
        for statement, parameters in asked
    ]
    return [row[3] for rows in found for row in rows]
