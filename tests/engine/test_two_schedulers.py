"""Two servers on one PostgreSQL: no instant is fired twice, also when one of them stands still in the middle."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from oneoff.core.run import Run
from oneoff.engine.scheduler import Scheduler
from oneoff.operations import crons
from oneoff.operations.cron_runs import CronRuns
from oneoff.operations.crons import Cron
from oneoff.store import runs
from oneoff.store.runs import RunFilter
from tests.engine.test_scheduler import Town
from tests.operations.home import open_home
from tests.operations.test_crons import StillClock

pytestmark = pytest.mark.anyio


@pytest.fixture
async def towns(schema_url: str, tmp_path: Path, anyio_backend: str) -> AsyncIterator[tuple[Town, Town]]:
    """Two servers of one installation, with one clock."""
    clock = StillClock()
    homes = [await open_home(tmp_path, schema_url) for _ in range(2)]
    first = await Town(homes[0], clock).open()
    second = Town(homes[1], clock)
    second.job_id = first.job_id
    yield first, second
    for home in homes:
        home.close()


async def check_each_once(town: Town, made: list[Cron], ticks_each: int) -> None:
    for cron in made:
        listed = await crons.list_ticks(town.context, cron.id, None, 1000, None)
        fired = await town.context.database.read(
            lambda c, i=cron.id: runs.list_runs(c, RunFilter(cron_id=i), 1000, None)  # type: ignore[misc]
        )
        assert len(listed) == ticks_each
        assert sorted(each.run_id or "" for each in listed if each.run_id) == sorted(run.id for run in fired)
        assert len({run.scheduled_for for run in fired}) == len(fired)


async def test_both_at_once_share_the_work(towns: tuple[Town, Town]) -> None:
    first, second = towns
    made = [await first.add_cron(overlap="allow", name=f"n-{number}") for number in range(30)]
    for _ in range(4):
        first.clock.time += timedelta(minutes=5)
        await asyncio.gather(*(town.scheduler.tick() for town in (first, second, first, second)))
        await first.scheduler.tick()
    await check_each_once(first, made, 4)
    assert len(await first.runs()) == 120


async def test_both_make_the_same_runs_ahead_and_one_of_them_fires_each(towns: tuple[Town, Town]) -> None:
    first, _ = towns
    made = [await first.add_cron(overlap="allow", name=f"n-{number}") for number in range(30)]
    for _ in range(4):
        first.clock.time = first.clock.time.replace(second=59) + timedelta(minutes=4)
        await asyncio.gather(*(town.scheduler.tick() for town in towns))
        first.clock.time += timedelta(seconds=1)
        await asyncio.gather(*(town.scheduler.tick() for town in towns))
        await first.scheduler.tick()
    await check_each_once(first, made, 4)


async def test_two_crons_of_one_job_in_two_servers_do_not_run_it_twice(towns: tuple[Town, Town]) -> None:
    first, second = towns
    made = [await first.add_cron(overlap="skip", name=f"n-{number}") for number in range(6)]
    first.clock.time += timedelta(minutes=5)
    await asyncio.gather(*(town.scheduler.tick() for town in (first, second, first, second)))
    await first.scheduler.tick()
    await check_each_once(first, made, 1)
    assert len(await first.runs()) == 1


async def test_one_that_stands_still_for_a_minute_fires_nothing_again_when_it_goes_on(
    towns: tuple[Town, Town],
) -> None:
    first, second = towns
    made = [await first.add_cron("* * * * *", overlap="allow", name=f"n-{number}") for number in range(3)]
    is_inside, may_go_on = threading.Event(), threading.Event()

    class StandingStill(CronRuns):
        def make(self, cron: Cron, due: datetime, at: datetime) -> tuple[Run, bytes]:
            is_inside.set()
            assert may_go_on.wait(60)
            return super().make(cron, due, at)

    first.clock.time += timedelta(minutes=1)
    stopped = asyncio.create_task(Scheduler(first.context, partial(StandingStill, first.context)).tick())
    await asyncio.to_thread(is_inside.wait, 30)
    late = await second.add_cron("* * * * *", overlap="allow", name="made-meanwhile")
    for _ in range(4):
        first.clock.time += timedelta(seconds=20)
        assert await second.scheduler.tick() > 0
    may_go_on.set()
    await stopped
    for _ in range(3):
        await second.scheduler.tick()
        await first.scheduler.tick()
    await check_each_once(first, made, 2)
    await check_each_once(first, [late], 1)
