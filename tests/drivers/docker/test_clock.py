"""An engine on another machine, with a clock that is not ours: what it tells of times is told by ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from oneoff.core.outcome import StopKind, StopRequest, conclude
from oneoff.core.run import Reason
from oneoff.drivers.docker.driver import DockerDriver
from oneoff.drivers.driver import LogPosition
from tests.drivers import commands
from tests.drivers.bench import INSTANCE, Bench
from tests.drivers.proxy import WrongClock
from tests.drivers.rigs import Rig
from tests.rig import images
from tests.rig.dockerd import Dockerd

pytestmark = pytest.mark.anyio
NEAR = timedelta(seconds=20)


@pytest.fixture(params=[timedelta(minutes=-2), timedelta(minutes=2)], ids=["behind", "ahead"])
async def bench(
    request: pytest.FixtureRequest, anyio_backend: str, dockerd: Dockerd, tmp_path: Path
) -> AsyncIterator[Bench]:
    refs = {tag: images.image_ref(tag) for tag in images.TAGS}
    async with WrongClock(dockerd.socket, request.param) as engine:
        rig = Rig("docker", lambda instance: DockerDriver(instance, engine.host), refs)
        bench = Bench(rig, rig.make(INSTANCE), tmp_path)
        yield bench
        await bench.close()


async def test_an_end_that_was_asked_for_is_told_from_one_before(bench: Bench) -> None:
    began = datetime.now(UTC)
    handle = await bench.start(commands.FOREVER)
    asked = datetime.now(UTC)
    await bench.driver.stop(handle, 0.5)
    facts = await bench.driver.wait(handle)
    assert began - NEAR < facts.started_at <= facts.finished_at < datetime.now(UTC) + NEAR
    # The clock of the engine is known to some milliseconds only, and a second is more than that.
    stop = StopRequest(StopKind.CANCEL, asked - timedelta(seconds=1))
    assert conclude(facts, stop).reason is Reason.CANCELED
    late = StopRequest(StopKind.CANCEL, datetime.now(UTC) + timedelta(seconds=1))
    assert conclude(facts, late).reason is Reason.KILLED


async def test_all_who_wait_for_one_end_are_told_the_same(bench: Bench) -> None:
    handle = await bench.start(commands.EXITS[7])
    told = await asyncio.gather(*(bench.driver.wait(handle) for _ in range(3)))
    assert len(set(told)) == 1


async def test_an_exit_code_of_255_is_proved_by_the_engines_events(bench: Bench) -> None:
    handle = await bench.start(commands.EXITS[255])
    assert (await bench.driver.wait(handle)).code == 255


async def test_what_was_never_started_is_removed_without_force(bench: Bench) -> None:
    handle = await bench.create(commands.TRUE)
    await bench.driver.remove(handle, force=False)
    assert await bench.driver.find(handle.name) is None


async def test_lines_of_a_log_have_our_times(bench: Bench) -> None:
    began = datetime.now(UTC)
    handle = await bench.start(commands.BOTH_STREAMS)
    await bench.driver.wait(handle)
    reader = bench.another_driver()  # as after a restart: it reads what the engine holds
    times = [chunk.time async for chunk in reader.logs(handle, LogPosition())]
    assert times
    assert all(began - NEAR < each < datetime.now(UTC) + NEAR for each in times)
