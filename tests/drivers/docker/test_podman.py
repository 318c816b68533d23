"""What must be asked of Podman in another way than of Docker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.drivers import commands
from tests.drivers.bench import INSTANCE, Bench
from tests.drivers.rigs import podman_rig
from tests.rig.podman import Podman

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench(request: pytest.FixtureRequest, anyio_backend: str, tmp_path: Path) -> AsyncIterator[Bench]:
    rig = podman_rig(request)
    driver = rig.make(INSTANCE)
    await driver.check()
    bench = Bench(rig, driver, tmp_path)
    yield bench
    await bench.close()


async def test_waiting_for_a_run_costs_the_engine_next_to_nothing(bench: Bench, podman: Podman) -> None:
    handle = await bench.start(commands.FOREVER)
    waiting = asyncio.create_task(bench.driver.wait(handle))
    costs = []
    for _ in range(5):  # it may be busy with the start or with earlier runs at first
        before = cpu_seconds(podman.pid)
        await asyncio.sleep(1)
        costs.append(cpu_seconds(podman.pid) - before)
        if costs[-1] < 0.2:
            break
    assert costs[-1] < 0.2, costs
    await bench.driver.stop(handle, 30)
    assert (await waiting).code == 143


def cpu_seconds(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
