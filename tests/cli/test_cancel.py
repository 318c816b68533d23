"""`oneoff cancel` against a whole server on the fake driver, whose commands go on until they are told to end."""

from __future__ import annotations

import json

import pytest

from oneoff.drivers.fake_engine import Script
from tests.cli.conftest import Cli
from tests.cli.live import LiveServer
from tests.operations.home import IMAGE

PATH, OTHER = "shop/production/web", "shop/production/worker"
RUN = "run-" + "0" * 20


@pytest.fixture(scope="module")
def oneoff(live: LiveServer, admin: Cli) -> Cli:
    live.home.engine.default_script = Script(code=None)
    for path in (PATH, OTHER):
        assert admin.run("service", "create", path, "--image", IMAGE).returncode == 0
    return admin


def begin(oneoff: Cli, path: str) -> str:
    return oneoff.run("run", path, "--detach", "--", "sleep").stdout.decode().strip()


def test_several_runs_are_canceled_and_all_of_a_service(oneoff: Cli) -> None:
    first, second, third, other = (begin(oneoff, path) for path in (PATH, PATH, PATH, OTHER))
    said = oneoff.run("cancel", first, second).stdout.decode()
    assert first in said
    assert second in said
    assert third not in said
    for run in (first, second):
        assert oneoff.run("wait", run).returncode == 130
    refused = oneoff.run("cancel", "--all", "--service", PATH)
    assert (refused.returncode, f"Cancel {third}?".encode() in refused.stderr) == (2, True)
    said = oneoff.run("cancel", "--all", "--service", PATH, "--yes").stdout.decode()
    assert third in said
    assert other not in said
    assert other in oneoff.run("cancel", "--all", "--yes").stdout.decode()
    for run in (third, other):
        assert oneoff.run("wait", run).returncode == 130
    assert oneoff.run("cancel", "--all").stderr == b"no run is going\n"
    assert oneoff.run("cancel", first).stdout.decode().strip() == f"{first} is canceled"


def test_what_is_meant_must_be_said(oneoff: Cli) -> None:
    for words in ([], [RUN, "--all"], ["--service", PATH], ["--all", "--json"], [RUN, RUN, "--json"]):
        assert oneoff.run("cancel", *words).returncode == 2, words
    ended = begin(oneoff, PATH)
    assert json.loads(oneoff.run("cancel", ended, "--json").stdout)["id"] == ended
