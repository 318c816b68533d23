"""Batches on the fake driver: each item runs exactly once, whatever dies in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from oneoff.core.batch import Batch, BatchStatus, ItemStatus
from oneoff.core.command import Command
from oneoff.core.retry import BackOff, RetryPolicy
from oneoff.core.retry_text import to_text
from oneoff.core.run import Run, RunStatus
from oneoff.drivers.fake import FakeDriver
from oneoff.drivers.fake_engine import Script
from oneoff.engine.batcher import Batcher
from oneoff.engine.context import Context
from oneoff.engine.dispatcher import Dispatcher
from oneoff.engine.executor import Executor
from oneoff.engine.janitor import Janitor
from oneoff.engine.loop import keep_ticking
from oneoff.engine.rescuer import Rescuer
from oneoff.engine.signals import Signals
from oneoff.errors import NotFound
from oneoff.operations import batches
from oneoff.operations.batch_runs import ItemRuns
from oneoff.operations.batches import NewBatch, NewItem, of_service
from oneoff.operations.runs import RunRequest, cancel_run
from oneoff.store import batches as rows
from oneoff.store import events, runs
from oneoff.store.events import EventFilter
from oneoff.store.runs import RunFilter
from oneoff.store.tables import batch_items
from tests.engine.world import eventually
from tests.operations.home import Home, open_home
from tests.operations.test_crons import StillClock

pytestmark = pytest.mark.anyio
GOES_ON = Script(code=None, code_on_term=143)


class Plant:
    """A home with a service, and servers on it, one after the other."""

    def __init__(self, home: Home) -> None:
        self.home, self.context = home, home.context
        self.tasks: list[asyncio.Task[None]] = []
        self.service_id = ""

    async def open(self) -> Plant:
        self.service_id = (await self.home.add_service()).id
        return self

    async def start(self, lease: str = "first", **parts: Any) -> Context:
        """A server with four slots; `parts` are other ones of its context."""
        settings = replace(self.home.context.settings, slots=4)
        driver = FakeDriver(self.home.context.instance, self.home.engine)
        changes = {"settings": settings, "driver": driver, "signals": Signals(), "lease": lease} | parts
        context = self.context = self.home.context = replace(self.home.context, **changes)
        self.dispatcher = Dispatcher(context, Executor(context))
        rescuer = Rescuer(context, self.dispatcher)
        await rescuer.tick()
        agents = (self.dispatcher, rescuer, Batcher(context, ItemRuns(context).make))
        self.tasks = [asyncio.create_task(keep_ticking(agent, context.clock)) for agent in agents]
        return context

    async def crash(self) -> None:
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await self.dispatcher.close()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks = []

    async def create(self, *arguments: str, retries: RetryPolicy | None = None, **more: Any) -> str:
        request = RunRequest(Command(("work",)), retries=None if retries is None else to_text(retries))
        new = NewBatch([NewItem((each,)) for each in arguments], **more)
        made = await batches.create_batch(self.context, of_service(self.service_id, request), new, "tester")
        return made.batch.id

    async def get(self, batch_id: str) -> Batch:
        return (await batches.get_batch(self.context, batch_id)).batch

    async def until_ended(self, batch_id: str) -> Batch:
        async def ended() -> Batch | None:
            batch = await self.get(batch_id)
            return batch if batch.finished_at else None

        found: Batch = await eventually(ended, f"it did not end: {await self.get(batch_id)}")
        return found

    async def runs(self, batch_id: str) -> list[Run]:
        """Oldest first."""
        wanted = RunFilter(batch_id=batch_id)
        found = await self.context.database.read(lambda c: runs.list_runs(c, wanted, 1000, None))
        return sorted(found, key=lambda run: run.created_at)

    async def statuses(self, batch_id: str) -> list[ItemStatus]:
        return [row.status for row, _ in (await batches.list_items(self.context, batch_id, (), 1000, None))[1]]

    async def until_running(self, batch_id: str, count: int) -> list[Run]:
        async def reached() -> list[Run] | None:
            running = [run for run in await self.runs(batch_id) if run.status is RunStatus.RUNNING]
            return running if len(running) == count else None

        found: list[Run] = await eventually(reached)
        return found

    def script(self, argument: str, script: Script) -> None:
        self.home.engine.scripts["work", argument] = script


@pytest.fixture
async def plant(data_dir: Path, anyio_backend: str) -> AsyncIterator[Plant]:
    home = await open_home(data_dir)
    made = await Plant(home).open()
    yield made
    await made.crash()
    home.close()


async def test_every_item_runs_once_with_its_arguments_and_the_counts_are_right(plant: Plant) -> None:
    plant.script("3", Script(code=7))
    await plant.start()
    batch_id = await plant.create(*(str(number) for number in range(30)), max_parallel=3)
    batch = await plant.until_ended(batch_id)
    assert batch.status is BatchStatus.FAILED
    assert (batch.progress.succeeded, batch.progress.failed, batch.progress.canceled) == (29, 1, 0)
    made = await plant.runs(batch_id)
    assert sorted((run.batch_index, run.command) for run in made) == [(n, ("work", str(n))) for n in range(30)]
    assert set(plant.home.engine.starts.values()) == {1}
    assert [run.batch_index for run in made] == list(range(30))  # in their order
    listed = await plant.context.database.read(
        lambda c: events.list_events(c, batch.workspace_id, EventFilter(["batch.ended"]), 10, None)
    )
    assert [(each.subject_id, each.body["failed"]) for each in listed] == [(batch_id, 1)]


async def test_no_more_than_its_share_is_in_the_queue(plant: Plant) -> None:
    plant.home.engine.default_script = GOES_ON
    await plant.start()
    batch_id = await plant.create(*"abcdefgh", max_parallel=3)
    first = await plant.until_running(batch_id, 3)
    await asyncio.sleep(0.05)
    assert len(await plant.runs(batch_id)) == 3
    plant.home.engine.finish(first[1].id)
    await eventually(lambda: len(plant.home.engine.starts) == 4)
    assert len([run for run in await plant.runs(batch_id) if run.is_going]) == 3


async def test_an_item_is_its_newest_attempt(plant: Plant) -> None:
    plant.script("b", Script(code=1))
    await plant.start()
    policy = RetryPolicy(2, BackOff.FIXED, delay_seconds=0)
    batch_id = await plant.create("a", "b", "c", retries=policy, max_parallel=1)
    batch = await plant.until_ended(batch_id)
    assert (batch.progress.succeeded, batch.progress.failed) == (2, 1)
    made = await plant.runs(batch_id)
    assert [(run.batch_index, run.attempt) for run in made] == [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1)]
    _, items = await batches.list_items(plant.context, batch_id, [ItemStatus.FAILED], 10, None)
    assert [(row.index, row.run_id, row.attempt) for row, _ in items] == [(1, made[3].id, 3)]


async def test_a_failure_stops_what_has_not_started_and_leaves_what_is_at_work(plant: Plant) -> None:
    plant.script("a", Script(code=None))
    plant.script("b", Script(code=None))
    await plant.start()
    batch_id = await plant.create(*"abcdefghij", max_parallel=6, stop_on_failure=True)
    plant.home.engine.default_script = GOES_ON
    running = await plant.until_running(batch_id, 4)  # as many as there are slots: two are queued, four wait
    plant.home.engine.finish(running[1].id, 5)
    await eventually(lambda: len(plant.home.engine.containers) == 3)

    async def stopped() -> bool:
        return (await plant.statuses(batch_id))[4:] == [ItemStatus.STOPPED] * 6

    await eventually(stopped)
    for run in (running[0], *running[2:]):
        plant.home.engine.finish(run.id)
    batch = await plant.until_ended(batch_id)
    assert (batch.status, batch.stopped_index) == (BatchStatus.FAILED, 1)
    assert (batch.progress.succeeded, batch.progress.failed, batch.progress.canceled) == (3, 1, 6)
    assert await stopped()
    assert len(plant.home.engine.starts) == 4
    assert {run.message for run in (await plant.runs(batch_id))[4:]} == {"not started: item 1 of its batch failed"}


async def test_a_run_that_somebody_canceled_is_no_failure_that_stops(plant: Plant) -> None:
    plant.script("a", GOES_ON)
    context = await plant.start()
    batch_id = await plant.create("a", "b", max_parallel=1, stop_on_failure=True)
    (run,) = await plant.until_running(batch_id, 1)
    await cancel_run(context, run.id, "somebody")
    batch = await plant.until_ended(batch_id)
    assert (batch.status, batch.progress.canceled, batch.progress.succeeded) == (BatchStatus.CANCELED, 1, 1)


async def test_cancel_ends_all_of_it(plant: Plant) -> None:
    plant.home.engine.default_script = GOES_ON
    context = await plant.start()
    batch_id = await plant.create(*"abcdefghij", max_parallel=6)
    await plant.until_running(batch_id, 4)
    view = await batches.cancel_batch(context, batch_id, "somebody")
    assert (view.batch.canceled_by, view.batch.progress.waiting, view.queued) == ("somebody", 0, 0)
    batch = await plant.until_ended(batch_id)
    assert (batch.status, batch.progress.canceled) == (BatchStatus.CANCELED, 10)
    assert not plant.home.engine.containers
    assert len(await plant.runs(batch_id)) == 6
    assert (await batches.cancel_batch(context, batch_id, "another")).batch == batch


async def test_a_cancel_outlives_the_server_that_took_it(plant: Plant) -> None:
    plant.home.engine.default_script = GOES_ON
    await plant.start()
    batch_id = await plant.create(*"abcdef", max_parallel=3)
    await plant.until_running(batch_id, 3)
    await plant.crash()
    await batches.cancel_batch(plant.context, batch_id, "somebody")
    await plant.start("second")
    batch = await plant.until_ended(batch_id)
    assert (batch.status, batch.progress.canceled) == (BatchStatus.CANCELED, 6)
    assert len(plant.home.engine.starts) == 3


class DyingDatabase:
    """The server stops for good behind its n-th commit: nobody hears what was committed."""

    def __init__(self, inner: Any, left: int) -> None:
        self._inner, self.left = inner, left
        self.died = asyncio.Event()

    async def run(self, work: Any) -> Any:
        await self._stop_here_if_dead()
        result = await self._inner.run(work)
        self.left -= 1
        await self._stop_here_if_dead()
        return result

    async def read(self, work: Any) -> Any:
        await self._stop_here_if_dead()
        return await self._inner.read(work)

    async def _stop_here_if_dead(self) -> None:
        if self.left <= 0:
            self.died.set()
            await asyncio.Event().wait()


async def test_the_janitor_forgets_with_its_items_what_ended_longer_ago_than_the_plan_keeps(plant: Plant) -> None:
    context = await plant.start()
    ended = await plant.until_ended(await plant.create("a", "b"))
    plant.home.engine.default_script = GOES_ON
    going = await plant.create("c")
    await plant.until_running(going, 1)
    clock = StillClock()
    janitor = Janitor(replace(context, clock=clock), plant.dispatcher)
    assert ended.finished_at is not None
    clock.time = ended.finished_at + timedelta(days=context.plan("team").retention.days)
    await janitor.tick()
    assert await plant.statuses(ended.id) == [ItemStatus.SUCCEEDED] * 2
    clock.time += timedelta(seconds=1)
    await janitor.tick()
    with pytest.raises(NotFound):
        await plant.get(ended.id)
    left = await context.database.read(lambda c: list(c.execute(select(batch_items.c.batch_id)).scalars()))
    assert left == [going]
    assert len(await plant.runs(ended.id)) == 2, "runs have a history of their own"
    assert (await plant.get(going)).finished_at is None


async def test_killed_at_every_commit_each_item_has_run_once(plant: Plant) -> None:
    plant.script("b", Script(code=1))
    policy = RetryPolicy(1, BackOff.FIXED, delay_seconds=0)
    database = plant.context.database
    for point in range(1, 200):
        dying = DyingDatabase(database, point)
        batch_id = await plant.create(*"abc", retries=policy, max_parallel=2)
        await plant.start(f"dying-{point}", database=dying)
        died = asyncio.create_task(dying.died.wait())
        ended = asyncio.create_task(has_ended(database, batch_id))
        await asyncio.wait([died, ended], return_when=asyncio.FIRST_COMPLETED)
        for task in (died, ended):
            task.cancel()
        is_over = not dying.died.is_set()
        await plant.crash()
        await plant.start(f"next-{point}", database=database)
        batch = await plant.until_ended(batch_id)
        assert (batch.progress.succeeded, batch.progress.failed) == (2, 1), point
        made = Counter((run.batch_index, run.attempt) for run in await plant.runs(batch_id))
        assert made == Counter([(0, 1), (1, 1), (1, 2), (2, 1)]), point
        assert set(plant.home.engine.starts.values()) == {1}, point
        await plant.crash()
        if is_over:
            assert point > 10
            return
    raise AssertionError("it never came to its end")


async def has_ended(database: Any, batch_id: str) -> None:
    """Asked beside the server, which may be dead."""

    async def ended() -> bool:
        batch: Batch = await database.read(lambda c: rows.get_batch(c, batch_id))
        return batch.finished_at is not None

    await eventually(ended)
