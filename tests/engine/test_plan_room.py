"""The plan's runs at once: never exceeded, told to those that wait, and none of them is forgotten."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from sqlalchemy import update

from oneoff.core.plan import PLANS, Plan
from oneoff.drivers.fake_engine import Script
from oneoff.engine.admission import fetch_queue
from oneoff.engine.executor import Executor
from oneoff.engine.spec import prepare_image
from oneoff.operations.runs import view_run
from oneoff.store import concurrency, runs, tables
from tests.engine.conftest import StartServer
from tests.engine.world import WORKSPACE, World, eventually

pytestmark = pytest.mark.anyio
TWO = Plan("Two", 3600, runs_at_once=1, requests_per_minute=1)


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The workspace's plan lets one run go at once; the node has two slots."""
    monkeypatch.setitem(PLANS, "team", TWO)  # type: ignore[arg-type]
    return TWO


async def going(world: World) -> int:
    return (await world.database.read(lambda c: concurrency.fetch_load(c, WORKSPACE, world.clock.now()))).going


async def test_runs_beyond_the_plan_wait_in_the_queue_and_say_so(
    world: World, start_server: StartServer, plan: Plan
) -> None:
    world.engine.scripts[("job",)] = Script(code=None)
    service = await world.add_service("web")
    waiting = [await world.accept(service, "job") for _ in range(4)]
    server = await start_server()
    for left in (3, 2, 1, 0):
        first = waiting.pop(0)
        await world.until_status(first, "running")
        views = [await view_run(server.context, each) for each in waiting]
        assert [(v.queue_position, v.waiting_for) for v in views] == [
            (place + 1, "the plan's 1 runs at once") for place in range(left)
        ]
        assert await going(world) == 1
        world.engine.finish(first)
        await world.until_ended(first)
        world.clock.turn(3)
    assert Counter(world.engine.starts.values()) == {1: 4}


async def test_two_servers_that_claim_at_once_do_not_exceed_the_plan(
    world: World, start_server: StartServer, plan: Plan
) -> None:
    world.engine.scripts[("job",)] = Script(code=None)
    service = await world.add_service("web")
    for _ in range(4):
        await world.accept(service, "job")
    await asyncio.gather(start_server(), start_server("other-node"))

    async def one_goes() -> bool:
        return await going(world) == 1

    await eventually(one_goes)
    for _ in range(5):
        world.clock.turn(3)
        await asyncio.sleep(0.02)
        assert await going(world) == 1


async def test_a_claim_that_another_server_was_faster_with_is_not_committed(
    world: World, start_server: StartServer, plan: Plan
) -> None:
    world.engine.scripts[("job",)] = Script(code=None)
    service = await world.add_service("web")
    first = await world.accept(service, "job")
    server = await start_server()
    await world.until_status(first, "running")
    second = await world.accept(service, "job")
    queue = await world.database.read(lambda c: fetch_queue(server.context, c, 10, world.clock.now()))
    assert (queue.room, queue.is_tight) == (0, True)
    run = await world.get(second)
    facts = await world.database.read(lambda c: runs.fetch_start_facts(c, second))
    image = await prepare_image(server.context, run, facts)
    async with asyncio.timeout(10):
        await Executor(server.context).execute(second, image, is_tight=True)
    assert (await world.get(second)).status == "queued"
    assert second not in world.engine.starts


async def test_what_was_accepted_waits_under_a_plan_without_runs_and_goes_on_when_the_plan_is_gone(
    world: World, start_server: StartServer
) -> None:
    service = await world.add_service("web")
    change = update(tables.workspaces)
    await world.database.run(lambda c: c.execute(change.values(plan="starter")) and None)
    run_id = await world.accept(service, "true")
    server = await start_server()
    world.clock.turn(3)
    view = await view_run(server.context, run_id)
    assert (view.run.status, view.queue_position) == ("queued", 1)
    assert view.waiting_for == "another plan: the Starter plan has no runs (`oneoff plan set`)"
    await world.database.run(lambda c: c.execute(change.values(plan="gold")) and None)
    server.signals.run_accepted()
    await world.until_ended(run_id)
