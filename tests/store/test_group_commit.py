"""Many callers' work in one commit: what one of them does wrong costs the others nothing, and nobody sees it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from oneoff.store import events, installation
from oneoff.store.counting import when_durable
from oneoff.store.events import Event
from oneoff.store.schema import upgrade
from oneoff.store.sqlite import SqliteDatabase
from tests.engine.world import START

pytestmark = pytest.mark.anyio


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    made = SqliteDatabase(f"sqlite:///{tmp_path / 'oneoff.db'}")
    yield made
    made.close()


class Refusal(Exception):
    pass


def insert(connection: Connection, name: str) -> str:
    connection.execute(text("INSERT INTO installation (name, value) VALUES (:name, '')"), {"name": name})
    return name


def names(connection: Connection) -> set[str]:
    return set(connection.execute(text("SELECT name FROM installation WHERE value = ''")).scalars())


@pytest.mark.parametrize("others", [0, 5])
async def test_of_work_in_one_commit_only_what_fails_is_undone(database: SqliteDatabase, others: int) -> None:
    await database.run(upgrade)
    await database.run(lambda c: installation.save_workspace_if_absent(c, "tea-1", "w", "team", START))
    counted: list[str] = []

    def work(connection: Connection, name: str) -> str:
        insert(connection, name)
        when_durable(connection, lambda: counted.append(name))
        events.save_new(connection, Event(f"evt-{name}", "tea-1", "run.ended", name, START))
        if name == "bad":
            raise Refusal(name)
        return name

    gate = threading.Event()
    held = asyncio.ensure_future(database.run(lambda _: gate.wait(10)))  # so that the others come together
    await asyncio.sleep(0)
    good = [f"good-{number}" for number in range(others)]
    asked = [
        asyncio.ensure_future(database.run(lambda c, n=name: work(c, n))) for name in [*good[:3], "bad", *good[3:]]
    ]
    await asyncio.sleep(0)
    gate.set()
    assert await held
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [each for each in found if isinstance(each, str)] == good
    assert [type(each) for each in found if not isinstance(each, str)] == [Refusal]
    assert await database.read(names) == set(good)
    assert counted == good
    wanted = events.EventFilter()
    told = await database.read(lambda c: events.list_after(c, "tea-1", wanted, 50, 0))
    assert [event.subject_id for event in told] == good
