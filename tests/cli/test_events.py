"""`oneoff events` against a whole server on the fake driver."""

from __future__ import annotations

import json

from tests.cli.conftest import Cli
from tests.operations.home import IMAGE


def test_events_are_listed_and_followed_from_the_newest_on(admin: Cli) -> None:
    assert b"no events yet" in admin.run("events").stderr
    assert admin.run("service", "create", "shop/production", "--image", IMAGE).returncode == 0
    listed = admin.run("events", "--kind", "service.*", "--service", "shop/production").stdout.decode()
    assert "service.created" in listed
    assert "service=shop/production/web" in listed
    assert b"run.ended" in admin.run("events", "--kind", "run.exploded").stderr
    following = admin.start("events", "--follow", "--json")
    first = json.loads(following.stdout.readline())
    assert first["kind"] == "service.created"
    assert admin.run("service", "suspend", "shop/production").returncode == 0
    assert json.loads(following.stdout.readline())["kind"] == "service.suspended"
    following.terminate()
    following.communicate(timeout=10)
