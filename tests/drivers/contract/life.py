"""Create, start, find, list, remove: at most one start, and strangers untouched."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from oneoff.drivers.driver import ContainerState
from oneoff.errors import AlreadyStarted, ContainerBusy, ContainerExists, ContainerGone
from tests.drivers import commands
from tests.drivers.bench import INSTANCE, Bench


async def test_the_states_of_a_life_are_told_in_order(bench: Bench) -> None:
    handle = await bench.create(commands.FOREVER)
    assert await bench.driver.inspect(handle) is ContainerState.CREATED
    await bench.driver.start(handle)
    assert await bench.driver.inspect(handle) is ContainerState.RUNNING
    await bench.driver.stop(handle, 0)
    await bench.driver.wait(handle)
    assert await bench.driver.inspect(handle) is ContainerState.EXITED
    await bench.driver.remove(handle)
    assert await bench.driver.inspect(handle) is ContainerState.ABSENT


async def test_a_second_create_of_the_same_name_is_refused_and_the_first_can_be_adopted(bench: Bench) -> None:
    spec = await bench.spec(commands.EXITS[7])
    handle = await bench.driver.create(spec)
    with pytest.raises(ContainerExists):
        await bench.driver.create(spec)
    other = bench.another_driver()
    adopted = await other.find(spec.name)
    assert adopted == handle
    await other.start(adopted)
    assert (await other.wait(adopted)).code == 7


async def test_a_name_nobody_has_is_not_found(bench: Bench) -> None:
    handle = await bench.create(commands.TRUE)
    assert await bench.driver.find("oneoff-run-nobody") is None
    assert await bench.driver.find(handle.name[:-1]) is None
    assert await bench.driver.find(handle.engine_id) is None


async def test_a_running_container_is_not_started_again(bench: Bench) -> None:
    handle = await bench.start(commands.FOREVER)
    for driver in (bench.driver, bench.another_driver()):
        with pytest.raises(AlreadyStarted):
            await driver.start(handle)


async def test_an_exited_container_is_not_started_again(bench: Bench) -> None:
    handle = await bench.start(commands.BOTH_STREAMS)
    ended = await bench.driver.wait(handle)
    for driver in (bench.driver, bench.another_driver()):
        with pytest.raises(AlreadyStarted):
            await driver.start(handle)
    assert await bench.driver.wait(handle) == ended
    assert (await bench.read_logs(handle))[0].count(b"out 1") == 1


async def test_what_is_gone_cannot_be_started_or_waited_for(bench: Bench) -> None:
    handle = await bench.create(commands.TRUE)
    await bench.driver.remove(handle)
    with pytest.raises(ContainerGone):
        await bench.driver.start(handle)
    with pytest.raises(ContainerGone):
        await bench.driver.wait(handle)


async def test_removing_without_force_takes_only_what_was_never_started(bench: Bench) -> None:
    created, running, exited = [await bench.create(command) for command in (commands.FOREVER,) * 2 + (commands.TRUE,)]
    await bench.driver.start(running)
    await bench.driver.start(exited)
    await bench.driver.wait(exited)
    for handle in (running, exited):
        with pytest.raises(ContainerBusy):
            await bench.driver.remove(handle, force=False)
        assert await bench.driver.inspect(handle) is not ContainerState.ABSENT
    await bench.driver.remove(created, force=False)
    with pytest.raises(ContainerGone):
        await bench.another_driver().start(created)


async def test_removing_ends_what_runs_and_is_safe_to_repeat(bench: Bench) -> None:
    handle = await bench.start(commands.FOREVER)
    await bench.driver.remove(handle)
    await bench.driver.remove(handle)
    await bench.driver.remove(handle, force=False)
    assert await bench.driver.inspect(handle) is ContainerState.ABSENT
    assert handle not in await bench.driver.list()


async def test_two_removals_at_once_both_succeed(bench: Bench) -> None:
    handle = await bench.start(commands.FOREVER)
    await asyncio.gather(bench.driver.remove(handle), bench.another_driver().remove(handle))
    assert await bench.driver.inspect(handle) is ContainerState.ABSENT


async def test_waiting_for_what_has_ended_answers_at_once_and_always_the_same(bench: Bench) -> None:
    handle = await bench.start(commands.EXITS[7])
    first = await bench.driver.wait(handle)
    assert first.code == 7
    assert [await bench.driver.wait(handle), await bench.another_driver().wait(handle)] == [first, first]


async def test_a_second_driver_takes_over_a_running_container(bench: Bench) -> None:
    bench.needs("reattaches")
    handle = await bench.start(commands.TERM_TRAPPED)
    await bench.read_until(handle, b"ready")
    await bench.change_server()
    await bench.read_until(handle, b"ready")
    waiting = asyncio.create_task(bench.driver.wait(handle))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await bench.driver.stop(handle, 20)
    assert (await waiting).code == 9


async def test_several_wait_for_one_end(bench: Bench) -> None:
    handle = await bench.start(commands.FOREVER)
    waits = [
        asyncio.create_task(driver.wait(handle)) for driver in (bench.driver, bench.driver, bench.another_driver())
    ]
    await asyncio.sleep(0.1)
    await bench.driver.stop(handle, 0)
    assert len({ended.finished_at for ended in await asyncio.gather(*waits)}) == 1


async def test_list_and_find_see_only_our_own_in_any_state(bench: Bench) -> None:
    strangers = [bench.another_driver(f"{INSTANCE}{end}") for end in ("2", "-2")] + [
        bench.another_driver(INSTANCE[:-1])
    ]
    decoys = [await stranger.create(await _prepared_by(bench, stranger)) for stranger in strangers]
    created = await bench.create(commands.FOREVER)
    running = await bench.start(commands.FOREVER)
    exited = await bench.start(commands.TRUE)
    await bench.driver.wait(exited)
    assert set(await bench.driver.list()) == {created, running, exited}
    for stranger, decoy in zip(strangers, decoys, strict=True):
        assert await bench.driver.find(decoy.name) is None
        assert await stranger.list() == [decoy]


async def test_many_runs_at_once_keep_their_own_codes_and_logs(bench: Bench) -> None:
    codes = [0, 1, 7, 126, 127, 0, 1, 7]
    results = await asyncio.gather(*(bench.run(commands.EXITS[code]) for code in codes))
    assert [result.exit.code for result in results] == codes


async def test_capabilities_say_why_for_everything_that_is_missing(bench: Bench) -> None:
    capabilities = bench.driver.capabilities()
    for name in ("keeps_log", "enforces_deadline", "reattaches", "oom_evidence", "limits", "named_networks"):
        assert getattr(capabilities, name) or capabilities.notes.get(name), name


async def test_the_node_stays_the_same_over_driver_objects(bench: Bench) -> None:
    facts = await bench.driver.check()
    assert (await bench.another_driver().check()).node == facts.node
    assert facts.cpus >= 1
    assert facts.memory_bytes > 1 << 28
    handle = await bench.create(commands.TRUE)
    assert (handle.driver, handle.node) == (bench.driver.name, facts.node)


async def _prepared_by(bench: Bench, stranger: object) -> object:
    spec = await bench.spec(commands.TRUE)
    return replace(spec, name=f"{spec.name}-decoy")
