"""A year of a five-minute cron, with the server killed at random: what an oracle outside says about the ledger, the
runs and the overlap policy."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from oneoff.core.ids import make_id
from oneoff.core.run import Run, RunStatus
from oneoff.engine.scheduler import Scheduler
from oneoff.operations import crons
from oneoff.operations.crons import Cron
from oneoff.store import runs, ticks
from oneoff.store.crons import find_next_due
from oneoff.store.runs import RunFilter
from tests.engine.test_scheduler import Town
from tests.operations.home import open_home
from tests.operations.test_crons import START, StillClock

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]
STEP = timedelta(minutes=5)
ALMOST = timedelta(seconds=1)
_TIMED = len("run-012345678")  # of an id
FIRST = START.replace(minute=5, second=0)


class Killed(BaseException):
    """The server is gone: whatever it was doing is not done, or done and not told."""


class DyingDatabase:
    """Before a transaction, in the middle of it, or right behind its commit, the server dies now and then."""

    def __init__(self, database: Any, chance: random.Random) -> None:
        self._database, self._chance = database, chance
        self.is_armed = False

    async def run(self, work: Callable[[Any], Any]) -> Any:
        place = self._chance.random() if self.is_armed else 1.0

        def dying(connection: Any) -> Any:
            result = work(connection)
            if place < 0.04:
                raise Killed
            return result

        if place < 0.02:
            raise Killed
        result = await self._database.run(dying)
        if place < 0.06:
            raise Killed
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


@dataclass
class Container:
    """What the oracle saw: nobody else writes here."""

    run: Run
    begins: datetime
    ends: datetime
    is_stopped: bool = False


class Machine:
    """Starts what may start, and ends it after a while."""

    def __init__(self, town: Town, chance: random.Random) -> None:
        self._town, self._chance = town, chance
        self.containers: list[Container] = []
        self._going: list[Container] = []

    async def work(self) -> None:
        town, now = self._town, self._town.clock.time
        for container in [each for each in self._going if each.ends <= now]:
            await town.home.finish(container.run.id)
            self._going.remove(container)
        for container in self._going:
            current = await town.context.database.read(lambda c, i=container.run.id: runs.get_run(c, i))
            if current.stop_kind is not None and not container.is_stopped:
                container.is_stopped, container.ends = True, now + timedelta(seconds=self._chance.randint(1, 400))
        waiting = RunFilter(job_id=town.job_id, status=[RunStatus.QUEUED])
        for run in await town.context.database.read(lambda c: runs.list_runs(c, waiting, 100, None)):
            if not await town.is_held_back(run):
                await town.home.start(run.id)
                length = timedelta(seconds=self._chance.choice((10, 200, 290, 400, 1000, 2000)))
                self._going.append(Container(run, now, now + length))
                self.containers.append(self._going[-1])


async def live(town: Town, machine: Machine, chance: random.Random, until: datetime) -> int:
    """Returns how often the server was killed."""
    database = DyingDatabase(town.context.database, chance)
    town.context = replace(town.context, database=database)  # type: ignore[arg-type]
    kills = 0
    while town.clock.time < until:
        scheduler = town.new_scheduler()
        try:
            database.is_armed = True
            for _ in range(chance.randint(1, 20)):
                await scheduler.tick()
                if chance.random() < 0.3:
                    await come_to_an_instant(town, scheduler, chance)
                database.is_armed = False
                await machine.work()
                if chance.random() < 0.03:
                    await town.run_now()
                database.is_armed = True
                town.clock.time += STEP * chance.choice((0.3, 0.5, 1, 1))
        except Killed:
            kills += 1
        database.is_armed = False
        town.clock.time += STEP * chance.choice((0, 0.1, 2, 300, 1200, 3000)) * chance.random()
        await machine.work()
    await town.new_scheduler().tick()
    return kills


async def come_to_an_instant(town: Town, scheduler: Scheduler, chance: random.Random) -> None:
    """Awake a second before it, so that its run is made ahead, and then on time or a little late."""
    due = await town.context.database.read(find_next_due)
    if due is not None and due - ALMOST > town.clock.time:
        town.clock.time = due - ALMOST
        await scheduler.tick()
        town.clock.time = due + timedelta(seconds=chance.choice((0, 0.1, 1.5, 2.5)))
        await scheduler.tick()


def is_made_ahead(run: Run) -> bool:
    """The time in its id is not that of its acceptance."""
    return run.id[:_TIMED] < make_id("run", run.created_at, bytes(8))[:_TIMED]


async def check_ledger(town: Town, cron: Cron) -> None:
    """Each instant, counted by the oracle in steps of five minutes, is in exactly one row."""
    listed = await town.context.database.read(lambda c: ticks.list_ticks(c, cron.id, None, 10**9, None))
    expected = FIRST
    for row in reversed(listed):
        assert row.due_at == expected, (row, expected)
        assert row.count == ((row.until or row.due_at) - row.due_at) / STEP + 1
        assert row.decided_at >= (row.until or row.due_at)
        assert (row.run_id is not None) == (row.outcome in ("fired", "queued", "replaced"))
        expected = (row.until or row.due_at) + STEP
    assert expected > town.clock.time
    fired = [row for row in listed if row.run_id]
    wanted = RunFilter(cron_id=cron.id)
    made = await town.context.database.read(lambda c: runs.list_runs(c, wanted, 10**9, None))
    assert {(row.run_id, row.due_at) for row in fired} == {(run.id, run.scheduled_for) for run in made}
    assert len(made) == len(fired) == len({run.scheduled_for for run in made}) > 0
    assert len([run for run in made if is_made_ahead(run)]) > len(made) / 40


@pytest.fixture
def memory() -> Iterator[Path]:
    """The server dies here, the machine does not: tens of thousands of commits need not reach a disk."""
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.parametrize(("overlap", "days"), [("skip", 365), ("queue", 90), ("replace", 90)])
async def test_every_instant_has_one_row_and_the_policy_holds_however_the_server_dies(
    memory: Path, anyio_backend: str, overlap: str, days: int
) -> None:
    chance = random.Random(f"{overlap} 1")
    home = await open_home(memory)
    town = await Town(home, StillClock()).open()
    machine = Machine(town, chance)
    cron = await town.add_cron(overlap=overlap, catch_up=chance.choice(("latest", "all")))
    kills = await live(town, machine, chance, START + timedelta(days=days))
    assert kills > days / 12
    await check_ledger(town, cron)
    seen = sorted((each for each in machine.containers if each.run.cron_id), key=lambda each: each.begins)
    assert len({each.run.id for each in machine.containers}) == len(machine.containers)
    for before, after in pairwise(seen):
        assert after.begins >= before.ends, "two runs of the cron at once"
    for each in seen:
        others = [other for other in machine.containers if not other.run.cron_id and other.begins < each.begins]
        assert not [
            other for other in others if other.ends > each.begins and other.run.created_at < each.run.created_at
        ]
    assert (await crons.get_cron(town.context, cron.id)).next_due_at is not None
    home.close()
