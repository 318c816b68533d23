"""The server dies at some instruction and another one takes over: "Crash-only" of docs/architecture.md."""

from __future__ import annotations

import pytest

from oneoff.drivers.fake_engine import Script
from oneoff.logs.archive import compress_log
from oneoff.logs.folder import log_folder, part_paths
from oneoff.store import runs
from tests.engine.conftest import StartServer
from tests.engine.world import World, eventually

pytestmark = pytest.mark.anyio
GOES_ON = Script(code=None)


async def crash_behind(world: World, start_server: StartServer, call: str) -> str:
    """A server that dies right behind its n-th `call` of the driver, with the run it was at."""
    server = await start_server()
    original = getattr(server.driver, call)
    reached = []

    async def dying(*arguments, **options):  # type: ignore[no-untyped-def]
        await original(*arguments, **options)
        reached.append(call)
        await server.driver.wait(None)  # type: ignore[arg-type] - never reached alive

    async def never(*_):  # type: ignore[no-untyped-def]
        await world.clock.sleep(1e9)

    server.driver.wait = never  # type: ignore[method-assign]
    setattr(server.driver, call, dying)
    run_id = await world.accept(await world.add_service("web"))
    await eventually(lambda: bool(reached))
    await server.crash()
    return run_id


async def test_killed_between_create_and_its_commit_the_container_is_adopted(
    world: World, start_server: StartServer
) -> None:
    run_id = await crash_behind(world, start_server, "create")
    assert (await world.get(run_id)).engine_id is None
    made = list(world.engine.containers)
    await start_server()
    run = await world.until_ended(run_id)
    assert (run.status, run.engine_id) == ("succeeded", made[0])
    assert world.engine.starts == {run_id: 1}


async def test_killed_between_start_and_its_commit_it_is_not_started_again(
    world: World, start_server: StartServer
) -> None:
    world.engine.default_script = GOES_ON
    run_id = await crash_behind(world, start_server, "start")
    assert (await world.get(run_id)).status == "starting"
    await start_server()
    await world.until_status(run_id, "running")
    world.engine.finish(run_id, 9)
    assert (await world.until_ended(run_id)).exit_code == 9
    assert world.engine.starts == {run_id: 1}


async def test_killed_before_start_the_unstarted_container_is_replaced(world: World, start_server: StartServer) -> None:
    server = await start_server()
    reached = []

    async def dying(handle):  # type: ignore[no-untyped-def]
        reached.append(handle)
        await world.clock.sleep(1e9)

    server.driver.start = dying  # type: ignore[method-assign]
    run_id = await world.accept(await world.add_service("web"))
    await eventually(lambda: bool(reached))
    await server.crash()
    await start_server()
    run = await world.until_ended(run_id)
    assert run.status == "succeeded"
    assert run.engine_id != reached[0].engine_id
    assert world.engine.starts == {run_id: 1}


async def test_killed_together_with_an_engine_that_kept_no_start_it_is_lost(
    world: World, start_server: StartServer
) -> None:
    run_id = await crash_behind(world, start_server, "start")
    world.engine.forget(run_id)
    await start_server()
    run = await world.until_ended(run_id)
    assert (run.reason, run.exit_code) == ("lost", None)
    assert world.engine.starts == {run_id: 1}
    assert not world.engine.containers


async def test_killed_while_it_runs_the_log_goes_on_where_it_stopped(world: World, start_server: StartServer) -> None:
    world.engine.default_script = GOES_ON
    server = await start_server()
    run_id = await world.accept(await world.add_service("web"))
    await world.until_status(run_id, "running")
    world.engine.emit(run_id, "stdout", b"one ")
    world.engine.emit(run_id, "stderr", b"oops ")
    await eventually(lambda: world.output(run_id)["stderr"])
    await server.crash()
    world.engine.emit(run_id, "stdout", b"two")
    await start_server()
    world.engine.finish(run_id)
    assert (await world.until_ended(run_id)).status == "succeeded"
    assert world.output(run_id) == {"stdout": b"one two", "stderr": b"oops "}


async def test_ended_while_the_server_was_away_it_has_its_own_exit_code(
    world: World, start_server: StartServer
) -> None:
    world.engine.default_script = GOES_ON
    server = await start_server()
    run_id = await world.accept(await world.add_service("web"), timeout=60)
    await world.until_status(run_id, "running")
    await server.crash()
    world.engine.emit(run_id, "stdout", b"last line without newline")
    world.clock.turn(30)
    world.engine.finish(run_id, 3)
    world.clock.turn(1000)
    await start_server()
    run = await world.until_ended(run_id)
    assert (run.reason, run.exit_code) == ("nonzero_exit", 3)
    assert world.output(run_id)["stdout"] == b"last line without newline"


async def test_its_time_limit_passed_while_the_server_was_away(world: World, start_server: StartServer) -> None:
    world.engine.default_script = GOES_ON
    server = await start_server()
    run_id = await world.accept(await world.add_service("web"), timeout=60)
    await world.until_status(run_id, "running")
    await server.crash()
    world.clock.turn(100)
    await start_server()
    run = await world.until_ended(run_id)
    assert (run.reason, run.exit_code) == ("timed_out", 143)


async def test_a_stop_that_was_committed_but_not_sent_is_sent_by_the_next_server(
    world: World, start_server: StartServer
) -> None:
    world.engine.default_script = GOES_ON
    server = await start_server()
    run_id = await world.accept(await world.add_service("web"))
    await world.until_status(run_id, "running")
    await server.crash()
    await world.cancel(run_id)
    await start_server()
    run = await world.until_ended(run_id)
    assert (run.status, run.exit_code) == ("canceled", 143)


@pytest.mark.parametrize("happened", ["vanish", "lose"])
async def test_what_cannot_be_known_is_lost(world: World, start_server: StartServer, happened: str) -> None:
    world.engine.default_script = GOES_ON
    server = await start_server()
    run_id = await world.accept(await world.add_service("web"))
    await world.until_status(run_id, "running")
    await server.crash()
    getattr(world.engine, happened)(run_id)
    await start_server()
    run = await world.until_ended(run_id)
    assert (run.reason, run.exit_code) == ("lost", None)
    await eventually(lambda: not world.engine.containers)


async def test_a_run_of_another_node_is_left_alone_until_the_node_was_away_too_long(
    world: World, start_server: StartServer
) -> None:
    world.engine.default_script = GOES_ON
    server = await start_server("node-a")
    run_id = await world.accept(await world.add_service("web"))
    await world.until_status(run_id, "running")
    await server.crash()
    other = await start_server("node-b")
    world.clock.turn(599)
    await other.rescuer.tick()
    assert (await world.get(run_id)).status == "running"
    world.clock.turn(2)
    await other.rescuer.tick()
    run = await world.get(run_id)
    assert (run.status, run.reason) == ("failed", "lost")
    assert world.engine.starts == {run_id: 1}


async def test_the_server_before_this_one_cannot_end_a_run_any_more(world: World, start_server: StartServer) -> None:
    world.engine.default_script = GOES_ON
    await start_server()
    run_id = await world.accept(await world.add_service("web"))
    run = await world.until_status(run_id, "running")
    await start_server()
    later = await eventually(lambda: world.get(run_id))
    assert later.lease == "lease-1" != run.lease
    from oneoff.core.outcome import Outcome
    from oneoff.core.run import Reason, RunStatus

    end = runs.End(Outcome(RunStatus.FAILED, Reason.LOST), world.clock.now())
    assert not await world.database.run(lambda c: runs.end_if_leased(c, run_id, run.lease, end))


async def test_of_a_run_whose_end_the_engine_has_not_seen_either_it_is_told_that_output_may_be_missing(
    world: World, start_server: StartServer
) -> None:
    world.engine.default_script = GOES_ON
    server = await start_server()
    run_id = await world.accept(await world.add_service("web"))
    await world.until_status(run_id, "running")
    await server.crash()
    (container,) = world.engine.containers.values()
    container.is_unseen = True
    world.engine.finish(run_id, 3)
    await start_server()
    run = await world.until_ended(run_id)
    assert (run.exit_code, run.message) == (
        3,
        "the engine was started anew after it ended: some output may be missing",
    )


async def test_the_janitor_removes_what_ended_runs_left_and_nothing_else(
    world: World, start_server: StartServer
) -> None:
    world.engine.default_script = GOES_ON
    server = await start_server()
    original = server.driver.remove
    server.driver.remove = lambda *_, **__: world.clock.sleep(1e9)  # type: ignore[method-assign]
    service = await world.add_service("web")
    ended, going = await world.accept(service), await world.accept(service)
    await world.until_status(ended, "running")
    await world.until_status(going, "running")
    world.engine.finish(ended)
    await world.until_ended(ended)
    await server.crash()
    server = await start_server()
    await server.janitor.tick()
    assert [c.spec.run_id for c in world.engine.containers.values()] == [going]
    assert original is not None


async def test_killed_while_it_removes_the_parts_of_a_compressed_log_the_next_one_removes_the_rest(
    world: World, start_server: StartServer
) -> None:
    world.engine.default_script = Script(output=(("stdout", b"kept"),))
    server = await start_server()
    run_id = await world.accept(await world.add_service("web"))
    await world.until_ended(run_id)
    await server.crash()
    folder = log_folder(world.settings.logs_dir, run_id)
    (part,) = part_paths(folder)
    held = part.read_bytes()
    compress_log(folder)
    part.write_bytes(held)
    server = await start_server()
    await server.janitor.tick()
    assert not part_paths(folder)
