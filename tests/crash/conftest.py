"""Where the crash tests run: a real server on each real driver, and the oracle that knows the truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.rig import Oracle, Server, oracle
from tests.rig.dockerd import private_dockerd
from tests.rig.images import image_ref


@pytest.fixture
def truth(tmp_path: Path) -> Iterator[Oracle]:
    with oracle(tmp_path) as watching:
        yield watching


@pytest.fixture(params=["oci", "docker"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Not started. Its service `shop/production` is on the host's network, so that its runs reach the oracle."""
    made = Server(tmp_path / "data", request.param)
    if request.param == "oci":
        yield made
        made.stop()
        return
    with private_dockerd(tmp_path) as engine:
        made.docker_host = engine.host
        made.engine = engine
        yield made
        made.stop()


@pytest.fixture
def service_id(server: Server) -> str:
    """Of a service on the busybox image; the server has been started for it."""
    server.start()
    body = {"path": "shop/production", "image": image_ref("base"), "networks": ["host"]}
    return str(server.call("POST", "/services", body)["id"])
