"""The world of the engine's tests, and servers on it that end with the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from oneoff.settings import Settings
from tests.engine.world import Server, World

StartServer = Callable[..., Awaitable[Server]]


@pytest.fixture
async def world(data_dir: Path, anyio_backend: str) -> AsyncIterator[World]:
    made = World(data_dir, Settings(data_dir=data_dir, slots=2))
    await made.open()
    yield made
    made.database.close()


@pytest.fixture
async def start_server(world: World) -> AsyncIterator[StartServer]:
    started: list[Server] = []

    async def start(node: str | None = None) -> Server:
        started.append(await Server(world, f"lease-{len(started)}", node).start())
        return started[-1]

    yield start
    for server in started:
        await server.crash()
