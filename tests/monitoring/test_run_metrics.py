"""What the metrics say of runs and crons: each moves by what happened, once, and only when it is durable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from oneoff import metrics
from oneoff.core.run import Trigger
from oneoff.drivers.fake_engine import Script
from oneoff.drivers.observed import observe
from oneoff.engine.loop import keep_ticking
from oneoff.engine.scheduler import Scheduler
from oneoff.errors import EngineUnavailable, ImageUnavailable, StoreUnavailable
from oneoff.operations import crons, runs
from oneoff.operations.cron_runs import CronRuns
from oneoff.operations.crons import NewCron
from oneoff.operations.jobs import NewJob, create_job
from oneoff.store.counting import when_durable
from oneoff.store.tables import installation
from tests.engine.conftest import StartServer
from tests.engine.conftest import start_server as start_server
from tests.engine.conftest import world as world
from tests.engine.world import World, eventually
from tests.monitoring.samples import Moved
from tests.operations.home import Home, open_home
from tests.operations.test_crons import START, StillClock

pytestmark = pytest.mark.anyio
GOES_ON = Script(code=None)


async def test_a_run_is_counted_when_accepted_in_its_slot_started_and_ended(
    world: World, start_server: StartServer
) -> None:
    world.engine.default_script = Script(output=(("stdout", b"out"), ("stderr", b"four")), code=None)
    moved = Moved()
    await start_server()
    run_id = await world.accept(await world.add_service("web"), trigger=Trigger.CRON)
    await world.until_status(run_id, "running")
    await eventually(lambda: moved.by('oneoff_run_start_seconds_count{trigger="cron"}') == 1)
    assert metrics.SLOTS_TAKEN.value() == 1
    world.clock.turn(30)
    world.engine.finish(run_id, 3)
    await world.until_ended(run_id)
    await eventually(lambda: metrics.SLOTS_TAKEN.value() == 0)
    assert moved.by('oneoff_runs_accepted_total{trigger="cron"}') == 1
    assert moved.by('oneoff_run_queue_wait_seconds_count{trigger="cron"}') == 1
    assert moved.by('oneoff_run_start_seconds_count{trigger="cron"}') == 1
    assert moved.by('oneoff_runs_ended_total{status="failed",reason="nonzero_exit",trigger="cron"}') == 1
    assert moved.by('oneoff_run_duration_seconds_sum{status="failed"}') == 30
    assert moved.by('oneoff_log_bytes_total{stream="stdout"}') == 3
    assert moved.by('oneoff_log_bytes_total{stream="stderr"}') == 4
    assert moved.by('oneoff_events_total{kind="run.ended"}') == 1
    assert metrics.IMAGES_PREPARING.value() == 0
    assert moved.by("oneoff_store_commit_seconds_count") > 3
    assert moved.by("oneoff_store_commit_writes_sum") >= moved.by("oneoff_store_commit_writes_count") > 3


async def test_output_beyond_the_cap_is_counted_as_missing(world: World, start_server: StartServer) -> None:
    world.settings = replace(world.settings, log_cap_bytes=64)
    world.engine.default_script = Script(output=tuple(("stdout", b"x" * 16) for _ in range(10)))
    moved = Moved()
    await start_server()
    run = await world.until_ended(await world.accept(await world.add_service("web")))
    assert run.missing_bytes > 0
    await eventually(lambda: moved.by("oneoff_log_missing_bytes_total") == run.missing_bytes)


async def test_a_run_that_is_taken_up_again_is_counted_once(world: World, start_server: StartServer) -> None:
    world.engine.default_script = GOES_ON
    moved = Moved()
    first = await start_server()
    run_id = await world.accept(await world.add_service("web"))
    await world.until_status(run_id, "running")
    await eventually(lambda: moved.by('oneoff_run_start_seconds_count{trigger="api"}') == 1)
    await first.crash()
    await start_server()
    world.engine.finish(run_id)
    await world.until_ended(run_id)
    assert moved.by("oneoff_runs_resumed_total") == 1
    assert moved.by('oneoff_runs_accepted_total{trigger="api"}') == 1
    assert moved.by('oneoff_run_start_seconds_count{trigger="api"}') == 1
    await eventually(
        lambda: moved.by('oneoff_runs_ended_total{status="succeeded",reason="completed",trigger="api"}') == 1
    )


async def test_a_run_without_an_image_and_one_that_is_lost_are_counted(world: World, start_server: StartServer) -> None:
    moved = Moved()
    await start_server()
    service_id = await world.add_service("web")
    world.engine.fail("prepare", ImageUnavailable("shop/web:42", "gone"), times=1)
    await world.until_ended(await world.accept(service_id))
    world.engine.default_script = GOES_ON
    lost = await world.accept(service_id)
    await world.until_status(lost, "running")
    world.engine.lose(lost)
    await world.until_ended(lost)

    def both() -> bool:
        ends = 'oneoff_runs_ended_total{status="failed",reason="%s",trigger="api"}'
        return moved.by(ends % "image_unavailable") == 1 and moved.by(ends % "lost") == 1

    await eventually(both)


@pytest.fixture(params=["sqlite", "postgres"])
async def home(request: pytest.FixtureRequest, data_dir: Path, anyio_backend: str) -> AsyncIterator[Home]:
    url = request.getfixturevalue("schema_url") if request.param == "postgres" else None
    made = await open_home(data_dir, url)
    yield made
    made.close()


async def test_ticks_are_counted_by_what_became_of_them_and_how_late_they_fired(home: Home) -> None:
    clock = StillClock()
    context = home.context = replace(home.context, clock=clock)
    service = await home.add_service()
    job = await create_job(context, NewJob(service.id, "backup", {"command": ["true"]}))
    await crons.create_cron(context, NewCron(job.id, {"expression": "*/5 * * * *"}))
    scheduler = Scheduler(context, partial(CronRuns, context))
    await scheduler.tick()
    moved = Moved()
    clock.time = START.replace(minute=0, second=0) + timedelta(hours=1, seconds=2)
    await scheduler.tick()
    fired, missed = (moved.by(f'oneoff_ticks_total{{outcome="{each}"}}') for each in ("fired", "missed"))
    assert fired == 1
    assert missed > 8
    assert moved.by("oneoff_tick_lateness_seconds_count") == 1
    assert moved.by("oneoff_tick_lateness_seconds_sum") == 2
    assert moved.by('oneoff_runs_accepted_total{trigger="cron"}') == 1
    (run,) = await runs.list_runs(context, runs.RunFilter(job_id=job.id), 5, None)
    for _ in range(2):
        await runs.cancel_run(context, run.id, "tester")
    assert moved.by('oneoff_runs_ended_total{status="canceled",reason="canceled",trigger="cron"}') == 1


async def test_what_a_transaction_counts_is_counted_when_it_is_durable_and_never_when_it_failed(home: Home) -> None:
    counted: list[str] = []

    def good(connection: Connection) -> str:
        when_durable(connection, partial(counted.append, "good"))
        return "".join(counted)  # not yet

    def bad(connection: Connection) -> None:
        when_durable(connection, partial(counted.append, "bad"))
        raise ValueError("undone")

    with pytest.raises(ValueError, match="undone"):
        await home.context.database.run(bad)
    assert await home.context.database.run(good) == ""
    assert counted == ["good"]


async def test_a_commit_that_fails_is_counted(tmp_path: Path) -> None:
    home = await open_home(tmp_path)
    moved = Moved()

    def breaks_the_transaction(connection: Connection) -> None:
        connection.exec_driver_sql("COMMIT")
        connection.execute(installation.select())
        raise ValueError("in no transaction any more")

    try:
        with pytest.raises(StoreUnavailable):
            await home.context.database.run(breaks_the_transaction)
    finally:
        home.close()
    assert moved.by("oneoff_store_failures_total") == 1


async def test_a_race_that_is_lost_on_postgres_is_counted(tmp_path: Path, postgres_url: str) -> None:
    home = await open_home(tmp_path, postgres_url)
    moved = Moved()
    tries: list[int] = []

    def lose_once(connection: Connection) -> None:
        tries.append(1)
        if len(tries) == 1:
            connection.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'race' USING ERRCODE = '40001'; END $$")

    try:
        await home.context.database.run(lose_once)
    finally:
        home.close()
    assert (len(tries), moved.by("oneoff_store_retries_total")) == (2, 1)


async def test_calls_of_the_driver_and_their_errors_are_counted(world: World, start_server: StartServer) -> None:
    world.engine.default_script = GOES_ON
    moved = Moved()
    server = await start_server()
    observe(server.driver)
    world.engine.fail("create", EngineUnavailable("away"), times=1)
    run_id = await world.accept(await world.add_service("web"))

    async def is_running() -> bool:
        world.clock.turn(0.1)
        return (await world.get(run_id)).status == "running"

    await eventually(is_running)
    world.engine.finish(run_id)
    await world.until_ended(run_id)
    assert moved.by('oneoff_driver_errors_total{call="create",error="engine_unavailable"}') == 1
    for call, times in {"prepare": 2, "create": 1, "start": 1}.items():
        assert moved.by(f'oneoff_driver_call_seconds_count{{call="{call}"}}') == times, call


class Failing:
    """An agent that fails once."""

    name = "failing"

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.ticks = 0

    async def tick(self) -> float:
        self.ticks += 1
        if self.ticks == 1:
            raise StoreUnavailable("away")
        return 3600


async def test_a_loop_that_fails_is_counted_and_one_that_comes_round_says_when(world: World) -> None:
    moved, agent = Moved(), Failing()
    looping = asyncio.create_task(keep_ticking(agent, world.clock))

    def came_round() -> Any:
        world.clock.turn(0.1)
        return metrics.AGENT_LAST_TICK.value("failing") is not None

    await eventually(came_round)
    looping.cancel()
    assert moved.by('oneoff_agent_failures_total{agent="failing"}') == 1
    assert agent.ticks == 2
