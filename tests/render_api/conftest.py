"""Both faces in this process, beside the native API: clients without a socket, on the fake driver, and on SQLite where
a test does not ask for PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from oneoff.entrance.faces import Faces
from oneoff.entrance.observer import Observer
from oneoff.server import create_faces
from tests.operations.home import Home


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
