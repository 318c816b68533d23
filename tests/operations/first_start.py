"""A server's home for tests, on SQLite unless the test's parameter is `postgres`. A plugin of tests/conftest.py."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.operations.home import Home, open_home


@pytest.fixture(scope="session")
def first_start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a server that was started once: making one for each test would take most of the time."""
    folder = tmp_path_factory.mktemp("first-start")
    asyncio.run(open_home(folder)).close()
    return folder


@pytest.fixture
async def home(
    request: pytest.FixtureRequest, first_start: Path, tmp_path: Path, anyio_backend: str
) -> AsyncIterator[Home]:
    folder = tmp_path / "data"
    if getattr(request, "param", "sqlite") == "postgres":
        folder.mkdir()
        made = await open_home(folder, request.getfixturevalue("schema_url"))
    else:
        shutil.copytree(first_start, folder)
        made = await open_home(folder)
    yield made
    made.close()
