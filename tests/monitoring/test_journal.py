"""The server's own log lines, and that those about a run have its id."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from oneoff import journal
from oneoff.drivers.fake_engine import Script
from oneoff.errors import EngineUnavailable
from tests.engine.conftest import StartServer
from tests.engine.conftest import start_server as start_server
from tests.engine.conftest import world as world
from tests.engine.world import World, eventually
from tests.monitoring.samples import Moved

pytestmark = pytest.mark.anyio


@pytest.fixture
def as_json() -> Iterator[None]:
    journal.choose_format("json")
    yield
    journal.choose_format("logfmt")


def test_a_line_is_logfmt_with_quotes_where_they_are_needed(capsys: pytest.CaptureFixture[str]) -> None:
    journal.info("it went", run="run-1", code=None, why='a "quoted"\nword', nothing="", count=3)
    line = capsys.readouterr().err
    assert line.endswith(' level=info event="it went" run=run-1 why="a \\"quoted\\"\\nword" nothing="" count=3\n')


@pytest.mark.usefixtures("as_json")
def test_a_line_is_one_json_object_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("broken")
    except ValueError as problem:
        journal.error("it broke", problem, count=3)
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert list(told) == ["time", "level", "event", "count", "traceback"]
    assert (told["level"], told["event"], told["count"]) == ("error", "it broke", 3)
    assert told["traceback"].endswith("ValueError: broken\n")


async def test_ids_are_on_every_line_of_a_block_and_of_the_tasks_it_starts(capsys: pytest.CaptureFixture[str]) -> None:
    async def inner() -> None:
        journal.warning("inside")

    with journal.about(run="run-1", cron=None):
        with journal.about(job="jdf-1"):
            task = asyncio.create_task(inner())
        journal.info("outside", run="run-2")
    await task
    journal.info("behind")
    said = [line.partition("event=")[2] for line in capsys.readouterr().err.splitlines()]
    assert said == ["outside run=run-2", "inside run=run-1 job=jdf-1", "behind"]


def test_lines_are_counted_by_level() -> None:
    moved = Moved()
    journal.warning("careful")
    assert moved.by('oneoff_server_log_lines_total{level="warning"}') == 1


async def test_what_is_said_deep_inside_about_a_run_has_its_id(
    world: World, start_server: StartServer, capsys: pytest.CaptureFixture[str]
) -> None:
    world.engine.default_script = Script()
    world.engine.fail("start", EngineUnavailable("away"), times=1)
    await start_server()
    run_id = await world.accept(await world.add_service("web"))

    async def ended() -> bool:
        world.clock.turn(0.1)
        return (await world.get(run_id)).status.is_final

    await eventually(ended)
    said = capsys.readouterr().err.splitlines()
    assert any('event="the engine does not answer"' in line for line in said)
    assert [line for line in said if f"run={run_id}" not in line] == []


async def test_a_defect_that_strikes_a_run_is_told_with_its_id_and_strikes_no_other(
    world: World, start_server: StartServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server = await start_server()

    async def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    create, server.driver.create = server.driver.create, broken  # type: ignore[method-assign, assignment]
    service_id = await world.add_service("web")
    struck = await world.accept(service_id)
    said = ""

    def told() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "RuntimeError: a defect" in said

    await eventually(told)
    assert f'event="run interrupted by a defect" run={struck}' in said
    server.driver.create = create  # type: ignore[method-assign]
    await world.until_ended(await world.accept(service_id))
