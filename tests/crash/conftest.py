"""Where the crash tests run: a real server on each real driver, and the oracle that knows the truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.nursery import Nursery
from tests.crash.rig import Oracle, Server, oracle
from tests.rig.dockerd import private_dockerd


@pytest.fixture
def truth(tmp_path: Path) -> Iterator[Oracle]:
    with oracle(tmp_path) as watching:
        yield watching


@pytest.fixture(params=["oci", "docker"])
def server(request: pytest.FixtureRequest, nursery: Nursery, tmp_path: Path) -> Iterator[Server]:
    """Not started. Its service `shop/production` is on the host's network, so that its runs reach the oracle."""
    if request.param == "oci":
        with Server(tmp_path / "data", "oci", nursery=nursery) as made:
            yield made
        return
    with private_dockerd(tmp_path) as engine, Server(tmp_path / "data", "docker", engine.host, nursery=nursery) as made:
        yield made
