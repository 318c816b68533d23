"""Concurrency groups: their limits hold at every instant, and nobody else waits for them."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from sqlalchemy import update

from oneoff.core.groups import Group
from oneoff.core.run import RunStatus
from oneoff.drivers.driver import ContainerState
from oneoff.drivers.fake_engine import Script
from oneoff.store import concurrency, runs, tables
from tests.engine.conftest import StartServer
from tests.engine.world import WORKSPACE, World, eventually

pytestmark = pytest.mark.anyio


async def accept_in(world: World, service_id: str, group: str | None) -> str:
    run_id = await world.accept(service_id, "job")
    change = update(tables.runs).where(tables.runs.c.id == run_id).values(concurrency_group=group)
    await world.database.run(lambda c: c.execute(change) and None)
    return run_id


async def test_a_group_never_exceeds_its_limit_across_services_and_all_of_it_runs(
    world: World, start_server: StartServer
) -> None:
    world.engine.scripts[("job",)] = Script(code=None)
    services = [await world.add_service(name) for name in ("web", "worker")]
    waiting = [await accept_in(world, services[n % 2], "db") for n in range(6)]
    await start_server()
    ended = 0
    while ended < len(waiting):
        going = await eventually(lambda: [r for r in waiting if is_running(world, r)], "nothing starts")
        assert len(going) == 1
        await world.until_status(going[0], "running")
        statuses = Counter([(await world.get(each)).status for each in waiting])
        assert statuses[RunStatus.STARTING] + statuses[RunStatus.RUNNING] == 1
        world.engine.finish(going[0])
        await world.until_ended(going[0])
        world.clock.turn(3)
        ended += 1
    assert max(world.engine.starts.values()) == 1


def is_running(world: World, run_id: str) -> bool:
    return any(
        c.spec.run_id == run_id and c.state is ContainerState.RUNNING for c in list(world.engine.containers.values())
    )


async def test_runs_outside_a_full_group_start_although_the_group_has_waited_longer(
    world: World, start_server: StartServer
) -> None:
    world.engine.scripts[("job",)] = Script(code=None)
    service = await world.add_service("web")
    first = await accept_in(world, service, "db")
    held = [await accept_in(world, service, "db") for _ in range(8)]
    outside = await accept_in(world, service, None)
    await start_server()
    await world.until_status(first, "running")
    await world.until_status(outside, "running")
    assert {(await world.get(each)).status for each in held} == {RunStatus.QUEUED}
    for run_id in (first, outside):
        world.engine.finish(run_id)
        await world.until_ended(run_id)


async def test_a_higher_limit_lets_more_of_the_group_run(world: World, start_server: StartServer) -> None:
    world.engine.scripts[("job",)] = Script(code=None)
    service = await world.add_service("web")
    both = [await accept_in(world, service, "db") for _ in range(2)]
    await world.database.run(lambda c: concurrency.save_group(c, WORKSPACE, Group("db", 2)))
    await start_server()
    for run_id in both:
        await world.until_status(run_id, "running")
    for run_id in both:
        world.engine.finish(run_id)


async def test_two_servers_that_claim_at_once_do_not_exceed_the_limit(world: World, start_server: StartServer) -> None:
    world.engine.scripts[("job",)] = Script(code=None)
    service = await world.add_service("web")
    waiting = [await accept_in(world, service, "db") for _ in range(4)]
    await asyncio.gather(start_server(), start_server("other-node"))
    await eventually(lambda: [r for r in waiting if is_running(world, r)])
    for _ in range(5):
        world.clock.turn(3)
        await asyncio.sleep(0.02)
        counts = await world.database.read(lambda c: concurrency.count_on_nodes(c, WORKSPACE))
        assert counts == {"db": 1}
    assert len(await world.database.read(lambda c: runs.fetch_waiting(c, 10, world.clock.now()).waiting)) == 3
