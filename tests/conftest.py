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
_LONG = (
    "test_campaign",
    "test_demo",
    "test_large_logs",
    "test_bench",
    "test_many_going",
    "test_cron_transitions",
    "test_year_of_crons",
    "scenarios/test_postgres",
    "scenarios/test_log_streams",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(_LONG)}
    items.sort(key=lambda item: min((order[name] for name in order if name in item.nodeid), default=len(order)))
