"""Private servers as pytest fixtures, each started once per session by the first test that asks.

Loaded by tests/conftest.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import images
from tests.rig.dockerd import Dockerd, private_dockerd
from tests.rig.podman import Podman, private_podman
from tests.rig.postgres import Postgres, private_postgres
from tests.rig.registry import Registry, private_registry


@pytest.fixture(scope="session")
def busybox_layout() -> Path:
    """The OCI layout folder with the rig's images; read-only."""
    return images.busybox_layout()


@pytest.fixture(scope="session")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    """One engine for all tests that leave it running; who kills or restarts an engine starts an own one."""
    with private_dockerd(tmp_path_factory.mktemp("dockerd")) as engine:
        yield engine


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with private_podman(tmp_path_factory.mktemp("podman")) as engine:
        yield engine


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Open to everybody."""
    with private_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture(scope="session")
def locked_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Takes only `registry.USER` with `registry.PASSWORD`."""
    with private_registry(tmp_path_factory.mktemp("locked-registry"), with_password=True) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with private_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """An empty database of this test's own."""
    url = postgres.fresh_database()
    yield url
    postgres.drop_database(url)
