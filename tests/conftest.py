"""Fixtures for everybody."""

from __future__ import annotations

import pytest

pytest_plugins = ["tests.rig.fixtures"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
