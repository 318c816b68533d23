"""What the fake adds to the contract: breaches are told, failures strike before or after, servers may crash."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from oneoff.core.image import parse_image_ref
from oneoff.drivers.driver import ContainerSpec, ContainerState, LogPosition, Resources
from oneoff.drivers.fake import ContractBreach, FakeDriver, FakeEngine
from oneoff.drivers.fake_engine import Script
from oneoff.errors import AlreadyStarted, ContainerExists, EngineUnavailable, ExitUnknown, StartFailed

pytestmark = pytest.mark.anyio

NAME = "registry.test/shop/web:42"
DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def engine() -> FakeEngine:
    engine = FakeEngine()
    engine.add_image(NAME, DIGEST)
    engine.default_script = Script(code=None)
    return engine


async def make_spec(driver: FakeDriver, run_id: str = "run-1") -> ContainerSpec:
    return ContainerSpec(
        run_id=run_id,
        name=f"oneoff-{run_id}",
        image=await driver.prepare(parse_image_ref(NAME)),
        argv=("migrate",),
        variables={},
        resources=Resources(1 << 20, 1),
        networks=(),
        network_scope="srv-1",
        hostname="h",
        log_dir=Path("/nowhere"),
        log_cap_bytes=1 << 20,
        grace_seconds=1,
        deadline=None,
    )


async def test_a_test_steers_output_and_end(engine: FakeEngine) -> None:
    driver = FakeDriver("inst", engine)
    handle = await driver.create(await make_spec(driver))
    await driver.start(handle)
    waiting = asyncio.create_task(driver.wait(handle))
    engine.emit("run-1", "stdout", b"hello")
    engine.finish("run-1", 7, oom=True)
    ended = await waiting
    assert (ended.code, ended.oom_seen) == (7, True)
    assert [chunk.data async for chunk in driver.logs(handle, LogPosition(2, 0))] == [b"llo"]
    assert engine.calls[:3] == [("prepare", NAME), ("create", "run-1"), ("start", "run-1")]


async def test_a_lost_reply_leaves_the_effect(engine: FakeEngine) -> None:
    driver = FakeDriver("inst", engine)
    spec = await make_spec(driver)
    engine.fail("create", EngineUnavailable("cut"), after_effect=True)
    with pytest.raises(EngineUnavailable):
        await driver.create(spec)
    with pytest.raises(ContainerExists):
        await driver.create(spec)
    handle = await driver.find(spec.name)
    assert handle is not None
    engine.fail("start", EngineUnavailable("cut"), after_effect=True)
    with pytest.raises(EngineUnavailable):
        await driver.start(handle)
    with pytest.raises(AlreadyStarted):
        await driver.start(handle)
    assert engine.starts == {"run-1": 1}


async def test_a_failure_before_the_effect_leaves_nothing(engine: FakeEngine) -> None:
    driver = FakeDriver("inst", engine)
    handle = await driver.create(await make_spec(driver))
    engine.fail("start", StartFailed("no"), run_id="run-1")
    with pytest.raises(StartFailed):
        await driver.start(handle)
    assert await driver.inspect(handle) is ContainerState.CREATED


async def test_an_engine_that_goes_away_breaks_waits_and_logs(engine: FakeEngine) -> None:
    driver = FakeDriver("inst", engine)
    handle = await driver.create(await make_spec(driver))
    await driver.start(handle)
    waiting = asyncio.create_task(driver.wait(handle))
    await asyncio.sleep(0.01)
    engine.is_away = True
    with pytest.raises(EngineUnavailable):
        await waiting
    engine.is_away = False
    engine.lose("run-1")
    with pytest.raises(ExitUnknown):
        await driver.wait(handle)


async def test_containers_outlive_a_crashed_server_and_its_kill_is_not_sent(engine: FakeEngine) -> None:
    engine.default_script = Script(code=None, code_on_term=None)
    first = FakeDriver("inst", engine)
    handle = await first.create(await make_spec(first))
    await first.start(handle)
    await first.stop(handle, 0.01)
    first.crash()
    await asyncio.sleep(0.05)
    second = FakeDriver("inst", engine)
    assert await second.inspect(handle) is ContainerState.RUNNING
    with pytest.raises(ContractBreach):
        await first.inspect(handle)
    engine.expire_grace("run-1")
    assert (await second.wait(handle)).code == 137


async def test_calls_out_of_order_are_breaches(engine: FakeEngine) -> None:
    driver = FakeDriver("inst", engine)
    handle = await driver.create(await make_spec(driver))
    with pytest.raises(ContractBreach):
        await driver.wait(handle)
    with pytest.raises(ContractBreach):
        _ = [chunk async for chunk in driver.logs(handle, LogPosition())]
    await driver.start(handle)
    with pytest.raises(ContractBreach):
        _ = [chunk async for chunk in driver.logs(handle, LogPosition(1, 0))]
