"""A run from its slot to its end, tick by tick."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from oneoff.core.run import Trigger
from oneoff.drivers.fake_engine import Script
from oneoff.errors import CommandNotFound, EngineUnavailable, ImageUnavailable, StartFailed
from oneoff.operations.runs import view_run
from oneoff.store import runs
from oneoff.store.tables import runs as runs_table
from tests.engine.conftest import StartServer
from tests.engine.world import IMAGE, START, World, eventually

pytestmark = pytest.mark.anyio
GOES_ON = Script(code=None)


async def test_a_command_that_ends_with_zero_has_succeeded(world: World, start_server: StartServer) -> None:
    world.engine.default_script = Script(output=(("stdout", b"out"), ("stderr", b"err")))
    await start_server()
    run_id = await world.accept(await world.add_service("web"))
    run = await world.until_ended(run_id)
    assert (run.status, run.reason, run.exit_code) == ("succeeded", "completed", 0)
    assert (run.stdout_bytes, run.stderr_bytes, run.missing_bytes) == (3, 3, 0)
    assert world.output(run_id) == {"stdout": b"out", "stderr": b"err"}
    await eventually(lambda: not world.engine.containers, "its container was not removed")


@pytest.mark.parametrize(
    ("script", "reason", "code", "signal"),
    [
        (Script(code=7), "nonzero_exit", 7, None),
        (Script(code=126), "nonzero_exit", 126, None),
        (Script(code=137), "killed", 137, 9),
        (Script(code=137, oom=True), "oom_killed", 137, 9),
        (Script(code=3, oom=True), "oom_killed", 3, None),
    ],
)
async def test_the_reason_of_a_failure_is_exact(
    world: World, start_server: StartServer, script: Script, reason: str, code: int, signal: int | None
) -> None:
    world.engine.default_script = script
    await start_server()
    run = await world.until_ended(await world.accept(await world.add_service("web")))
    assert (run.status, run.reason, run.exit_code, run.signal) == ("failed", reason, code, signal)


async def test_out_of_memory_with_exit_code_zero_is_a_success_that_says_so(
    world: World, start_server: StartServer
) -> None:
    world.engine.default_script = Script(code=0, oom=True)
    await start_server()
    run = await world.until_ended(await world.accept(await world.add_service("web")))
    assert (run.status, run.reason, run.oom_seen) == ("succeeded", "completed", True)


async def test_the_time_limit_asks_first_and_kills_after_the_grace(world: World, start_server: StartServer) -> None:
    world.engine.default_script = Script(code=None, code_on_term=None)
    await start_server()
    run_id = await world.accept(await world.add_service("web"), timeout=60)
    await world.until_status(run_id, "running")
    await world.until_noticed(run_id)
    world.clock.turn(59)
    world.clock.turn(2)
    await eventually(lambda: world.engine.container(run_id).terms == 1, "no TERM")
    assert (await world.get(run_id)).stop_kind == "timeout"
    world.clock.turn(10)
    world.engine.expire_grace(run_id)
    run = await world.until_ended(run_id)
    assert (run.status, run.reason, run.exit_code) == ("failed", "timed_out", 137)


async def test_an_end_before_the_committed_request_is_the_commands_own(world: World, start_server: StartServer) -> None:
    world.engine.default_script = GOES_ON
    await start_server()
    run_id = await world.accept(await world.add_service("web"))
    await world.until_status(run_id, "running")
    world.engine.fail("wait", EngineUnavailable("cut"), times=1)
    world.engine.is_away = True
    world.engine.container(run_id).finished_at = world.clock.now()
    world.engine.finish(run_id, 5)
    world.clock.turn(3)
    assert await world.cancel(run_id)
    world.engine.is_away = False

    async def ended() -> bool:
        world.clock.turn(0.1)
        return (await world.get(run_id)).status.is_final

    await eventually(ended)
    run = await world.get(run_id)
    assert (run.status, run.reason, run.exit_code) == ("failed", "nonzero_exit", 5)


async def test_a_running_run_is_canceled_by_who_asked(world: World, start_server: StartServer) -> None:
    world.engine.default_script = GOES_ON
    await start_server()
    run_id = await world.accept(await world.add_service("web"))
    await world.until_status(run_id, "running")
    assert await world.cancel(run_id)
    run = await world.until_ended(run_id)
    assert (run.status, run.reason, run.exit_code, run.stop_actor) == ("canceled", "canceled", 143, "tester")


async def test_a_run_canceled_between_create_and_start_is_never_started(
    world: World, start_server: StartServer
) -> None:
    server = await start_server()
    original = server.driver.create

    async def create(spec):  # type: ignore[no-untyped-def]
        handle = await original(spec)
        await world.cancel(spec.run_id)
        return handle

    server.driver.create = create  # type: ignore[method-assign]
    run_id = await world.accept(await world.add_service("web"))
    run = await world.until_ended(run_id)
    assert (run.status, run.started_at) == ("canceled", None)
    assert world.engine.starts == {}
    await eventually(lambda: not world.engine.containers)


async def test_a_command_that_is_not_there_fails_with_127_and_says_so(world: World, start_server: StartServer) -> None:
    world.engine.default_script = Script(refusal=CommandNotFound("nope"))
    await start_server()
    run = await world.until_ended(await world.accept(await world.add_service("web"), "nope"))
    assert (run.reason, run.exit_code, run.started_at) == ("start_failed", 127, None)
    assert "'nope' was not found in the image" in str(run.message)


async def test_an_engine_that_cannot_start_it_is_quoted(world: World, start_server: StartServer) -> None:
    world.engine.fail("start", StartFailed("the engine could not start it", "no such network"))
    await start_server()
    run = await world.until_ended(await world.accept(await world.add_service("web")))
    assert (run.reason, run.exit_code) == ("start_failed", None)
    assert "no such network" in str(run.message)


async def test_an_image_that_is_gone_is_image_unavailable(world: World, start_server: StartServer) -> None:
    world.engine.fail("prepare", ImageUnavailable(IMAGE, "manifest unknown"))
    await start_server()
    run = await world.until_ended(await world.accept(await world.add_service("web")))
    assert (run.status, run.reason, run.exit_code) == ("failed", "image_unavailable", None)
    assert "manifest unknown" in str(run.message)


async def test_a_run_waits_while_the_engine_is_away_and_says_for_what(world: World, start_server: StartServer) -> None:
    await start_server()
    world.engine.is_away = True
    run_id = await world.accept(await world.add_service("web"))
    world.clock.turn(3)

    async def told() -> bool:
        return "away" in ((await world.get(run_id)).waiting_for or "")

    await eventually(told)
    world.engine.is_away = False
    world.clock.turn(3)
    await eventually(lambda: world.clock.turn(1) or world.engine.starts.get(run_id) == 1)
    assert (await world.until_ended(run_id)).status == "succeeded"


async def test_a_run_whose_image_takes_long_says_so(world: World, start_server: StartServer) -> None:
    server = await start_server()
    prepare, is_here = server.driver.prepare, asyncio.Event()

    async def prepare_slowly(*arguments):  # type: ignore[no-untyped-def]
        await is_here.wait()
        return await prepare(*arguments)

    server.driver.prepare = prepare_slowly  # type: ignore[method-assign]
    run_id = await world.accept(await world.add_service("web"))
    await eventually(lambda: server.dispatcher._preparing)
    assert (await view_run(server.context, run_id)).waiting_for is None

    async def told() -> bool:
        world.clock.turn(1)
        return (await view_run(server.context, run_id)).waiting_for == "its image, which is not on the node yet"

    await eventually(told)
    is_here.set()
    assert (await world.until_ended(run_id)).status == "succeeded"


async def test_a_lost_reply_to_start_never_leads_to_a_second_start(world: World, start_server: StartServer) -> None:
    world.engine.default_script = GOES_ON
    world.engine.fail("start", EngineUnavailable("connection reset"), after_effect=True)
    await start_server()
    run_id = await world.accept(await world.add_service("web"))
    await eventually(lambda: world.clock.turn(1) or world.engine.starts.get(run_id))
    await eventually(lambda: world.clock.turn(1) or True)
    await world.until_status(run_id, "running")
    world.engine.finish(run_id, 4)
    run = await world.until_ended(run_id)
    assert run.exit_code == 4
    assert world.engine.starts == {run_id: 1}


async def test_a_lost_reply_to_create_leaves_one_container(world: World, start_server: StartServer) -> None:
    world.engine.fail("create", EngineUnavailable("connection reset"), after_effect=True)
    await start_server()
    run_id = await world.accept(await world.add_service("web"))
    await eventually(lambda: world.clock.turn(1) or world.engine.starts.get(run_id))
    assert (await world.until_ended(run_id)).status == "succeeded"
    assert world.engine.starts == {run_id: 1}
    await eventually(lambda: not world.engine.containers)


async def test_a_container_that_vanishes_means_lost_at_the_last_moment_it_was_seen(
    world: World, start_server: StartServer
) -> None:
    world.engine.default_script = GOES_ON
    await start_server()
    run_id = await world.accept(await world.add_service("web"))
    await world.until_status(run_id, "running")
    seen_at = START + timedelta(seconds=30)
    await world.database.run(lambda c: runs.save_seen(c, [run_id], seen_at))
    world.engine.vanish(run_id)
    run = await world.until_ended(run_id)
    assert (run.status, run.reason, run.exit_code) == ("failed", "lost", None)
    assert run.finished_at == seen_at


async def test_one_that_vanishes_before_its_start_was_answered_is_lost(world: World, start_server: StartServer) -> None:
    """It may have run: as a failed start it would be tried again."""
    world.engine.fail("start", EngineUnavailable("connection reset"), after_effect=True)
    world.engine.fail("inspect", EngineUnavailable("connection reset"))
    await start_server()
    run_id = await world.accept(await world.add_service("web"))
    await eventually(lambda: world.engine.starts.get(run_id))
    world.engine.vanish(run_id)

    async def ended() -> bool:
        world.clock.turn(world.settings.node_away_seconds + 1)
        return (await world.get(run_id)).finished_at is not None

    await eventually(ended)
    run = await world.get(run_id)
    assert (run.status, run.reason, run.exit_code) == ("failed", "lost", None)
    assert world.engine.starts == {run_id: 1}


async def test_slots_are_never_exceeded_and_go_fairly_between_services(world: World, start_server: StartServer) -> None:
    world.engine.default_script = GOES_ON
    busy, quiet = await world.add_service("busy"), await world.add_service("quiet")
    first = [await world.accept(busy, trigger=Trigger.BATCH) for _ in range(4)]
    late = await world.accept(quiet, trigger=Trigger.BATCH)
    await start_server()
    await eventually(lambda: len(world.engine.starts) == 2)
    assert set(world.engine.starts) == {first[0], late}
    world.engine.finish(first[0])
    await eventually(lambda: len(world.engine.starts) == 3)
    assert first[1] in world.engine.starts
    assert sum(c.state == "running" for c in world.engine.containers.values()) <= 2


async def test_on_one_slot_services_take_turns(world: World, start_server: StartServer) -> None:
    world.settings = replace(world.settings, slots=1)
    world.engine.default_script = GOES_ON
    busy, quiet = await world.add_service("busy"), await world.add_service("quiet")
    first = [await world.accept(busy) for _ in range(3)]
    world.clock.turn(1)
    late = await world.accept(quiet)
    await start_server()
    await eventually(lambda: list(world.engine.starts) == first[:1])
    world.engine.finish(first[0])
    await eventually(lambda: list(world.engine.starts) == [first[0], late])
    world.engine.finish(late)
    await eventually(lambda: list(world.engine.starts) == [first[0], late, first[1]])


async def test_a_person_goes_before_a_batch_of_the_same_service(world: World, start_server: StartServer) -> None:
    world.engine.default_script = GOES_ON
    service = await world.add_service("web")
    batch = [await world.accept(service, trigger=Trigger.BATCH) for _ in range(3)]
    world.clock.turn(1)
    person = await world.accept(service, trigger=Trigger.MANUAL)
    await start_server()
    await eventually(lambda: len(world.engine.starts) == 2)
    assert set(world.engine.starts) == {person, batch[0]}


async def test_variables_reach_the_container_and_lie_sealed_in_the_store(
    world: World, start_server: StartServer
) -> None:
    world.engine.default_script = GOES_ON
    await start_server()
    run_id = await world.accept(await world.add_service("web"))
    await world.until_status(run_id, "running")
    given = world.engine.container(run_id).spec.variables
    assert given == {"A": "1", "ONEOFF_RUN_ID": run_id, "ONEOFF_SERVICE": "shop/production", "ONEOFF_TRIGGER": "api"}
    sealed = await world.database.read(lambda c: c.execute(runs_table.select()).mappings().one()["variables_sealed"])
    assert b"variables" not in sealed


async def test_output_that_cannot_be_read_to_its_end_does_not_cost_the_exit_code(
    world: World, start_server: StartServer
) -> None:
    server = await start_server()

    async def cut(*_):  # type: ignore[no-untyped-def]
        raise EngineUnavailable("the log was rotated away")
        yield

    server.driver.logs = cut  # type: ignore[method-assign]
    world.engine.default_script = Script(code=3)
    run_id = await world.accept(await world.add_service("web"))

    async def ended() -> bool:
        world.clock.turn(1)
        return (await world.get(run_id)).status.is_final

    await eventually(ended)
    run = await world.get(run_id)
    assert (run.reason, run.exit_code) == ("nonzero_exit", 3)
    assert "rotated away" in str(run.message)


async def test_a_container_that_could_not_be_started_is_removed(world: World, start_server: StartServer) -> None:
    world.engine.fail("start", StartFailed("the engine could not start it", "no such network"))
    await start_server()
    await world.until_ended(await world.accept(await world.add_service("web")))
    await eventually(lambda: not world.engine.containers, "its container was left")
