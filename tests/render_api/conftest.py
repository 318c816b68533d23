"""Both faces in this process, beside the native API: clients without a socket, on the fake driver, and on SQLite where
a test does not ask for PostgreSQL."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from oneoff.entrance.faces import Faces
from oneoff.entrance.observer import Observer
from oneoff.server import create_faces
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
        made = await open_home(folder, request.getfixturevalue("postgres_url"))
    else:
        shutil.copytree(first_start, folder)
        made = await open_home(folder)
    yield made
    made.close()


@pytest.fixture
def faces(home: Home) -> Faces:
    return create_faces(home.context)


@pytest.fixture
async def client(faces: Faces, home: Home) -> AsyncIterator[httpx2.AsyncClient]:
    """With the admin's token; addresses are whole: /v1/…, /render/v1/…, /api/v1/…"""
    transport = httpx2.ASGITransport(app=Observer(faces), raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {home.admin_token}"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://test", headers=headers) as made:
        yield made
