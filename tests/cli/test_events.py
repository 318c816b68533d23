"""`oneoff events` against a whole server on the fake driver."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.live import LiveServer, live_server
from tests.operations.home import IMAGE


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveServer]:
    with live_server(tmp_path) as running:
        yield running


def test_events_are_listed_and_followed_from_the_newest_on(live: LiveServer, tmp_path: Path) -> None:
    oneoff = Cli(tmp_path / "home", ONEOFF_URL=live.url, ONEOFF_TOKEN=live.home.admin_token)
    assert b"no events yet" in oneoff.run("events").stderr
    assert oneoff.run("service", "create", "shop/production", "--image", IMAGE).returncode == 0
    listed = oneoff.run("events", "--kind", "service.*", "--service", "shop/production").stdout.decode()
    assert "service.created" in listed
    assert "service=shop/production/web" in listed
    assert b"run.ended" in oneoff.run("events", "--kind", "run.exploded").stderr
    following = oneoff.start("events", "--follow", "--json")
    first = json.loads(following.stdout.readline())
    assert first["kind"] == "service.created"
    assert oneoff.run("service", "suspend", "shop/production").returncode == 0
    assert json.loads(following.stdout.readline())["kind"] == "service.suspended"
    following.terminate()
    following.communicate(timeout=10)
