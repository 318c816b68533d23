"""The API in this process: a client without a socket, on SQLite and the fake driver."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI

from oneoff.api.app import create_app
from tests.operations.home import Home


@pytest.fixture
def app(home: Home) -> FastAPI:
    return create_app(home.context)


@pytest.fixture
async def client(app: FastAPI, home: Home) -> AsyncIterator[httpx2.AsyncClient]:
    """With the admin's token, below /api/v1."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {home.admin_token}"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://test/api/v1", headers=headers) as made:
        yield made
