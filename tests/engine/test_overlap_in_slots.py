"""Runs that overlap policies hold back get no slot until the others have ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from sqlalchemy import Connection, insert, update

from oneoff.core.clock import to_us
from oneoff.core.run import Trigger
from oneoff.drivers.fake_engine import Script
from oneoff.store import tables
from tests.engine.conftest import StartServer
from tests.engine.world import START, World, eventually

pytestmark = pytest.mark.anyio
CRON, JOB = "cron-" + "0" * 20, "jdf-" + "0" * 20


async def accept_of_job(world: World, service: str, outcome: str | None, due: datetime = START) -> str:
    """A run of the one job; of its cron, with a tick of this outcome, unless that is None."""

    def add_tick(connection: Connection, run_id: str) -> None:
        change = {"job_id": JOB, "cron_id": None if outcome is None else CRON, "scheduled_for": to_us(due)}
        connection.execute(update(tables.runs).where(tables.runs.c.id == run_id).values(change))
        if outcome is not None:
            row = {"cron_id": CRON, "due_at": to_us(due), "outcome": outcome, "run_id": run_id}
            connection.execute(insert(tables.ticks).values({**row, "decided_at": to_us(due)}))

    # In one transaction, as the scheduler does it: nobody sees the run without its tick.
    return await world.accept(service, trigger=Trigger.API if outcome is None else Trigger.CRON, also=add_tick)


@pytest.mark.parametrize("outcome", ["queued", "replaced"])
async def test_a_held_run_starts_when_the_others_have_ended(
    world: World, start_server: StartServer, outcome: str
) -> None:
    world.engine.default_script = Script(code=None)
    service = await world.add_service("web")
    first = await accept_of_job(world, service, None)
    held = await accept_of_job(world, service, outcome)
    server = await start_server()
    await world.until_status(first, "running")
    await server.dispatcher.tick()
    assert (await world.get(held)).status == "queued"
    world.engine.finish(first)
    await world.until_ended(first)
    await world.until_status(held, "running")
    world.engine.finish(held)
    await world.until_ended(held)


async def test_a_run_that_may_overlap_starts_beside_the_others(world: World, start_server: StartServer) -> None:
    world.engine.default_script = Script(code=None)
    service = await world.add_service("web")
    both = [await accept_of_job(world, service, None), await accept_of_job(world, service, "fired")]
    await start_server()
    for run_id in both:
        await world.until_status(run_id, "running")
    for run_id in both:
        world.engine.finish(run_id)
        await world.until_ended(run_id)


async def test_held_runs_do_not_keep_others_of_their_service_out_of_the_slots(
    world: World, start_server: StartServer
) -> None:
    world.settings = replace(world.settings, slots=2)
    world.engine.default_script = Script(code=None)
    service = await world.add_service("web")
    going = await accept_of_job(world, service, None)
    server = await start_server()
    await world.until_status(going, "running")
    for minute in range(5):
        await accept_of_job(world, service, "queued", START.replace(minute=minute))
    stranger = await world.accept(service)
    await world.until_status(stranger, "running")
    await eventually(lambda: len(server.dispatcher.going) == 2)
