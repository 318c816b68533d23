"""Each test of the operations runs on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.operations.home import Home, open_home


@pytest.fixture(params=["sqlite", "postgres"])
async def home(request: pytest.FixtureRequest, data_dir: Path, anyio_backend: str) -> AsyncIterator[Home]:
    url = request.getfixturevalue("schema_url") if request.param == "postgres" else None
    made = await open_home(data_dir, url)
    yield made
    made.close()
