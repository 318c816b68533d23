"""Events in the order of commits, on both databases: a reader that goes by `seq` never misses one."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from oneoff.core.ids import make_id
from oneoff.errors import NotFound
from oneoff.store import events, installation
from oneoff.store.database import open_database
from oneoff.store.events import Event, EventFilter
from oneoff.store.schema import migrate, upgrade
from tests.engine.world import eventually

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
WORKSPACE = "tea-" + "0" * 20
ANY = EventFilter()


def event_of(number: int, kind: str = "run.ended", **more: Any) -> Event:
    event_id = make_id("event", NOW, number.to_bytes(8))
    return Event(event_id, WORKSPACE, kind, f"run-{number}", NOW + timedelta(seconds=number), {"n": number}, **more)


@pytest.fixture
async def opened(database: Any, anyio_backend: str) -> Any:
    await database.run(upgrade)
    await database.run(lambda c: installation.save_workspace_if_absent(c, WORKSPACE, "w", "team", NOW))
    return database


async def save(database: Any, *made: Event) -> None:
    def work(connection: Connection) -> None:
        for event in made:
            events.save_new(connection, event)

    await database.run(work)


async def after(database: Any, seq: int, limit: int = 1000, wanted: EventFilter = ANY) -> list[Event]:
    listed: list[Event] = await database.read(lambda c: events.list_after(c, WORKSPACE, wanted, limit, seq))
    return listed


async def test_a_later_commit_has_a_higher_number_whatever_began_first(opened: Any) -> None:
    """The first transaction records its event and stays open while others begin and commit."""
    recorded, may_end = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        events.save_new(connection, event_of(1))
        recorded.set()
        may_end.wait(30)

    first = asyncio.create_task(opened.run(slow))
    await asyncio.to_thread(recorded.wait, 30)
    second = asyncio.create_task(save(opened, event_of(2)))
    await asyncio.wait({second}, timeout=0.3)  # PostgreSQL commits it now; SQLite has one writer
    seen = await after(opened, 0)
    may_end.set()
    await asyncio.gather(first, second)
    rest = await after(opened, seen[-1].seq if seen else 0)
    assert sorted(each.body["n"] for each in [*seen, *rest]) == [1, 2]
    assert [each.body["n"] for each in seen] in ([], [2])


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_nobody_gets_a_number_between_anothers_number_and_its_commit(opened: Any) -> None:
    def begin(number: int) -> tuple[Any, Any]:
        connection = opened.engine.connect()
        transaction = connection.begin()
        events.save_new(connection, event_of(number))
        return connection, transaction

    (slow, slow_transaction), (fast, fast_transaction) = begin(1), begin(2)
    assert events.write_pending(slow)
    waiting = asyncio.create_task(asyncio.to_thread(events.write_pending, fast))
    await asyncio.wait({waiting}, timeout=0.3)
    assert not waiting.done(), "it would be readable before the other one, with a higher number"
    slow_transaction.commit()
    await asyncio.wait_for(waiting, 30)
    fast_transaction.commit()
    for connection in (slow, fast):
        connection.close()
    assert [each.body["n"] for each in await after(opened, 0)] == [1, 2]


async def test_a_reader_beside_many_writers_misses_none(opened: Any) -> None:
    wanted, found = 120, []

    async def read_all() -> None:
        last = 0
        while len(found) < wanted:
            some = await after(opened, last, 7)
            found.extend(each.body["n"] for each in some)
            last = some[-1].seq if some else last

    writers = [save(opened, event_of(n), event_of(n + 1)) for n in range(0, wanted, 2)]
    await asyncio.wait_for(asyncio.gather(read_all(), *writers), 60)
    assert sorted(found) == list(range(wanted))


async def test_what_a_failed_transaction_recorded_never_happened(opened: Any) -> None:
    told: list[int] = []
    opened.on_events(lambda: told.append(1))

    def broken(connection: Connection) -> None:
        events.save_new(connection, event_of(1))
        raise KeyError("no")

    with pytest.raises(KeyError):
        await opened.run(broken)
    await opened.run(lambda c: None)
    assert (await after(opened, 0), told) == ([], [])
    await save(opened, event_of(2))
    assert [each.body for each in await after(opened, 0)] == [{"n": 2}]
    await eventually(lambda: told)
    assert told == [1]


def test_a_loop_that_is_gone_does_not_end_the_thread_that_writes(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'oneoff.db'}")

    async def open_and_listen() -> None:
        await database.run(upgrade)
        await database.run(lambda c: installation.save_workspace_if_absent(c, WORKSPACE, "w", "team", NOW))
        database.on_events(lambda: None)

    asyncio.run(open_and_listen())
    for number in range(2):
        asyncio.run(asyncio.wait_for(save(database, event_of(number)), 30))
    assert len(asyncio.run(after(database, 0))) == 2
    database.close()


async def test_lists_go_both_ways_with_every_filter(opened: Any) -> None:
    kinds = ("run.started", "run.ended", "cron.overdue")
    made = [event_of(n, kinds[n % 3], service_id=f"srv-{n % 2}") for n in range(9)]
    await save(opened, *made)

    async def numbers(**wanted: Any) -> list[int]:
        return [each.body["n"] for each in await after(opened, 0, wanted=EventFilter(**wanted))]

    assert await numbers() == list(range(9))
    assert await numbers(kinds=["run.ended", "cron.overdue"]) == [1, 2, 4, 5, 7, 8]
    assert await numbers(kinds=["run.ended"], service_id="srv-1") == [1, 7]
    assert await numbers(subject_id="run-3") == [3]
    assert await numbers(kinds=["run.failed"]) == []
    newest = await opened.read(lambda c: events.list_events(c, WORKSPACE, EventFilter(kinds), 2, None))
    assert [each.body["n"] for each in newest] == [8, 7]
    older = await opened.read(lambda c: events.list_events(c, WORKSPACE, ANY, 2, newest[-1].seq))
    assert [each.body["n"] for each in older] == [6, 5]
    assert await opened.read(lambda c: events.get_event(c, WORKSPACE, newest[0].id)) == newest[0]
    with pytest.raises(NotFound):
        await opened.read(lambda c: events.get_event(c, "tea-other", newest[0].id))


async def test_old_ones_go_some_at_a_time_and_their_numbers_never_come_again(opened: Any) -> None:
    await save(opened, *(event_of(n) for n in range(6)))
    last = await opened.read(events.find_last_seq)
    before = NOW + timedelta(seconds=100)
    assert await opened.run(lambda c: events.forget_old(c, NOW + timedelta(seconds=1), None, 4)) == 1
    assert await opened.run(lambda c: events.forget_old(c, before, last - 2, 2)) == 2
    assert await opened.run(lambda c: events.forget_old(c, before, last - 2, 10)) == 1
    assert await opened.run(lambda c: events.forget_old(c, before, last - 2, 10)) == 0
    assert await opened.run(lambda c: events.forget_old(c, before, None, 10)) == 2
    await save(opened, event_of(7))
    assert [each.seq > last for each in await after(opened, 0)] == [True]


async def test_those_of_before_the_migration_are_kept_in_the_order_of_their_ids(database: Any) -> None:
    def fill(connection: Connection) -> None:
        connection.execute(text("INSERT INTO workspaces (id, name, plan, created_at) VALUES ('w', 'w', 'team', 1)"))
        for name in ("evt-b", "evt-a"):
            values = f"('{name}', 'w', 'cron.overdue', 'cron-1', '{{}}', 1)"
            names = "id, workspace_id, kind, subject_id, body, created_at"
            connection.execute(text(f"INSERT INTO events ({names}) VALUES {values}"))

    await database.run(lambda c: migrate(c, "0002"))
    await database.run(fill)
    await database.run(migrate)
    kept = await database.read(lambda c: events.list_after(c, "w", ANY, 10, 0))
    assert [(each.id, each.seq) for each in kept] == [("evt-a", 1), ("evt-b", 2)]
