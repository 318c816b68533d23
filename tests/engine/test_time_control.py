"""More time, the warning before the end of it, and "must end by" a time of day."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from oneoff.core.clock import to_us
from oneoff.core.retry import RetryPolicy
from oneoff.core.retry_text import to_text
from oneoff.core.run import Reason, Run
from oneoff.drivers.fake_engine import Script
from oneoff.store import events, runs, tables
from oneoff.store.events import EventFilter
from tests.engine.conftest import StartServer
from tests.engine.world import START, WORKSPACE, World, eventually

pytestmark = pytest.mark.anyio


async def accept_with(world: World, timeout: int = 100, service: str = "web", **values: Any) -> str:
    def change(connection: Connection, run_id: str) -> None:
        if values:
            connection.execute(update(tables.runs).where(tables.runs.c.id == run_id).values(values))

    world.engine.scripts[("job",)] = Script(code=None)
    return await world.accept(await world.add_service(service), "job", timeout=timeout, also=change)


async def let_pass(world: World, run_id: str, seconds: int) -> Run:
    """In steps that whoever sleeps takes notice of; stops at the end of the run."""
    run = await world.until_noticed(run_id)
    for _ in range(0, seconds, 5):
        world.clock.turn(5)
        if (run := await world.until_noticed(run_id)).status.is_final:
            break
    return run


async def extend(world: World, run_id: str, timeout: int) -> None:
    assert await world.database.run(lambda c: runs.extend_if_going(c, run_id, timeout))
    for signals in world.signals:
        signals.run_changed(run_id)


async def test_an_extended_run_goes_on_past_its_first_limit_and_ends_at_the_new_one(
    world: World, start_server: StartServer
) -> None:
    run_id = await accept_with(world)
    await start_server()
    await world.until_status(run_id, "running")
    await let_pass(world, run_id, 50)
    await extend(world, run_id, 200)
    assert (await let_pass(world, run_id, 100)).status == "running"
    ended = await let_pass(world, run_id, 200)
    assert ended.reason is Reason.TIMED_OUT
    assert ended.finished_at is not None
    assert ended.finished_at >= START + timedelta(seconds=200)


async def test_the_end_of_an_extended_run_tells_its_new_limit_and_a_retry_of_it_has_that_one(
    world: World, start_server: StartServer
) -> None:
    run_id = await accept_with(world, retries=to_text(RetryPolicy(1, delay_seconds=3600)))
    await start_server()
    await world.until_status(run_id, "running")
    await extend(world, run_id, 200)
    await world.until_noticed(run_id)
    world.engine.finish(run_id, 3)
    assert (await world.until_ended(run_id)).timeout_seconds == 200
    wanted = EventFilter(subject_id=run_id)
    ended = (await world.database.read(lambda c: events.list_after(c, WORKSPACE, wanted, 10, 0)))[-1]
    assert (ended.kind, ended.body["timeout_seconds"]) == ("run.ended", 200)
    again = await world.get(ended.body["retried_by"])
    assert (again.retry_of, again.timeout_seconds) == (run_id, 200)


async def test_a_run_that_is_extended_while_its_time_is_found_to_be_over_goes_on(
    world: World, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def extend_before(connection: Connection, run_id: str, limit: int, at: datetime) -> bool:
        if limit == 100:
            assert runs.extend_if_going(connection, run_id, 200)
        return time_out(connection, run_id, limit, at)

    time_out = runs.time_out
    monkeypatch.setattr(runs, "time_out", extend_before)
    run_id = await accept_with(world)
    await start_server()
    await world.until_status(run_id, "running")
    going = await let_pass(world, run_id, 150)
    assert (going.status, going.timeout_seconds, going.stop_kind) == ("running", 200, None)
    assert (await let_pass(world, run_id, 200)).reason is Reason.TIMED_OUT


async def test_a_driver_that_enforces_deadlines_is_told_also_by_the_server_after_the_one_that_died(
    world: World, start_server: StartServer
) -> None:
    world.engine.capabilities = replace(world.engine.capabilities, enforces_deadline=True)
    run_id = await accept_with(world)
    server = await start_server()
    await world.until_status(run_id, "running")
    container = world.engine.container(run_id)
    assert container.deadline is None
    await extend(world, run_id, 300)
    await eventually(lambda: container.deadline == START + timedelta(seconds=300), "the driver was not told")
    await server.crash()
    await world.database.run(lambda c: runs.extend_if_going(c, run_id, 400))
    world.clock.turn(20)
    await start_server()
    await eventually(lambda: container.deadline == START + timedelta(seconds=400), "the driver was not told")
    world.engine.finish(run_id)
    await world.until_ended(run_id)


async def test_a_warning_is_recorded_once_before_the_limit_and_again_after_an_extension(
    world: World, start_server: StartServer
) -> None:
    run_id = await accept_with(world, warn_seconds=30)
    await start_server()
    await world.until_status(run_id, "running")
    assert (await let_pass(world, run_id, 50)).warned_at is None
    warned = await let_pass(world, run_id, 30)
    assert warned.warned_at is not None
    assert START + timedelta(seconds=70) <= warned.warned_at <= START + timedelta(seconds=80)
    await extend(world, run_id, 200)
    assert (await world.get(run_id)).warned_at is None
    await let_pass(world, run_id, 100)
    kinds = select(tables.events.c.kind).where(tables.events.c.subject_id == run_id)
    found = await world.database.read(lambda c: c.execute(kinds).scalars().all())
    assert found == ["run.started", *["run.time_limit_near"] * 2]
    world.engine.finish(run_id)


async def test_a_run_ends_when_it_must_although_its_limit_is_longer(world: World, start_server: StartServer) -> None:
    run_id = await accept_with(world, timeout=3600, must_end_at=to_us(START + timedelta(seconds=60)))
    await start_server()
    await world.until_status(run_id, "running")
    assert world.engine.container(run_id).spec.deadline == START + timedelta(seconds=60)
    ended = await let_pass(world, run_id, 120)
    assert ended.reason is Reason.TIMED_OUT
    assert ended.finished_at is not None
    assert ended.finished_at <= START + timedelta(seconds=70)


async def test_a_run_that_had_to_end_before_it_got_a_slot_never_starts(world: World, start_server: StartServer) -> None:
    run_id = await accept_with(world, must_end_at=to_us(START - timedelta(seconds=1)))
    await start_server()
    ended = await world.until_ended(run_id)
    assert (ended.reason, ended.started_at) == (Reason.TIMED_OUT, None)
    assert "had no slot before" in (ended.message or "")
    assert run_id not in world.engine.starts


@pytest.mark.parametrize(("others", "group"), [(2, None), (1, "db")])
async def test_a_run_that_waits_for_a_slot_or_its_group_ends_when_it_must(
    world: World, start_server: StartServer, others: int, group: str | None
) -> None:
    of_group: dict[str, Any] = {"timeout": 3600, "concurrency_group": group}
    going = [await accept_with(world, service=f"web-{number}", **of_group) for number in range(others)]
    await start_server()
    for run_id in going:
        await world.until_status(run_id, "running")
    waits = await accept_with(world, must_end_at=to_us(START + timedelta(seconds=60)), **of_group)
    assert (await let_pass(world, waits, 30)).status == "queued"
    ended = await let_pass(world, waits, 60)
    assert (ended.status, ended.reason, ended.started_at) == ("failed", Reason.TIMED_OUT, None)
    for run_id in going:
        assert (await world.get(run_id)).status == "running"
        world.engine.finish(run_id)
