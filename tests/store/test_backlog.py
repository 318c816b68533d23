"""How much is going on, found without reading through the history."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event

from oneoff.store import backlog
from tests.engine.conftest import world as world
from tests.engine.world import START, World

pytestmark = pytest.mark.anyio


async def test_runs_are_counted_by_status_and_the_oldest_that_waits_is_found(world: World) -> None:
    service_id = await world.add_service("web")
    later = START + timedelta(hours=1)

    def ask(connection: Connection) -> tuple[Any, Any]:
        return backlog.count_going(connection), backlog.find_oldest_waiting(connection, later)

    assert await world.database.read(ask) == ({"queued": 0, "starting": 0, "running": 0}, None)
    await world.accept(service_id)
    world.clock.turn(60)
    await world.accept(service_id)
    going, oldest = await world.database.read(ask)
    assert going["queued"] == 2
    assert oldest == START


async def test_the_questions_are_answered_by_an_index_whatever_the_length_of_the_history(world: World) -> None:
    def plans(connection: Connection) -> list[str]:
        asked: list[tuple[str, Any]] = []

        def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            asked.append((statement, parameters))

        event.listen(connection, "before_cursor_execute", note)
        backlog.count_going(connection)
        backlog.find_oldest_waiting(connection, START)
        event.remove(connection, "before_cursor_execute", note)
        found = [
            connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters) for statement, parameters in asked
        ]
        return [row[3] for rows in found for row in rows]

    steps = [step for step in await world.database.read(plans) if " runs" in step]
    assert len(steps) == 4
    assert [step for step in steps if "INDEX ix_runs_status (status=?)" not in step] == []
