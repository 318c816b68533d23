"""Fixtures for everybody."""

from __future__ import annotations

import pytest
from hypothesis import settings

# A busy machine is no failure of a property.
settings.register_profile("oneoff", deadline=None)
settings.load_profile("oneoff")

pytest_plugins = ["tests.rig.fixtures", "tests.rig.schema", "tests.crash.starting", "tests.operations.first_start"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# What takes longest begins first, so that two workers end at about the same time.
_LONG = ("test_campaign", "test_cron_transitions", "test_demo", "test_many_going", "test_large_logs", "test_bench")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not any(name in item.nodeid for name in _LONG))
