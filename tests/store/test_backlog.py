"""How much is going on, found without reading through the history."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from oneoff.store import backlog
from tests.engine.conftest import world as world
from tests.engine.world import START, World
from tests.store.query_plans import steps_of

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
    def ask(connection: Connection) -> None:
        backlog.count_going(connection)
        backlog.find_oldest_waiting(connection, START)

    steps = [step for step in await world.database.read(lambda c: steps_of(c, ask)) if " runs" in step]
    assert len(steps) == 4
    assert [step for step in steps if "INDEX ix_runs_status (status=?)" not in step] == []
