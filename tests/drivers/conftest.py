"""The parametrisation of the contract suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.drivers import bench as benches
from tests.drivers.rigs import RIGS, Rig


@pytest.fixture(scope="session", params=sorted(RIGS))
def rig(request: pytest.FixtureRequest) -> Rig:
    return RIGS[request.param](request)


@pytest.fixture
async def bench(anyio_backend: str, rig: Rig, tmp_path: Path) -> AsyncIterator[benches.Bench]:
    driver = rig.make(benches.INSTANCE)
    await driver.check()
    made = benches.Bench(rig, driver, tmp_path)
    yield made
    await made.close()
