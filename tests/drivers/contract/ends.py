"""How commands end, what cannot be started, and stopping."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from oneoff.errors import CommandNotExecutable, CommandNotFound
from tests.drivers import commands
from tests.drivers.bench import Bench
from tests.drivers.commands import Command


@pytest.mark.parametrize("code", sorted(commands.EXITS))
async def test_the_exit_code_is_the_commands_own(bench: Bench, code: int) -> None:
    result = await bench.run(commands.EXITS[code])
    assert result.exit.code == code
    assert result.exit.oom_seen is False
    assert result.exit.stopped_by is None


async def test_an_exit_has_its_times_in_utc(bench: Bench) -> None:
    before = datetime.now(UTC)
    found = (await bench.run(commands.TRUE)).exit
    after = datetime.now(UTC)
    assert found.started_at.utcoffset() == timedelta(0)
    assert before <= found.started_at <= found.finished_at <= after


async def test_a_command_killed_by_its_own_sigkill_is_137_without_oom_evidence(bench: Bench) -> None:
    found = (await bench.run(commands.KILL_9_SELF)).exit
    assert (found.code, found.oom_seen) == (137, False)


async def test_a_command_ended_by_its_own_term_is_143(bench: Bench) -> None:
    assert (await bench.run(commands.TERM_SELF)).exit.code == 143


async def test_a_command_that_takes_too_much_memory_leaves_oom_evidence(bench: Bench) -> None:
    bench.needs("oom_evidence")
    found = (await bench.run(commands.OUT_OF_MEMORY)).exit
    assert (found.code, found.oom_seen) == (137, True)


@pytest.mark.parametrize(
    "command",
    [commands.NOT_FOUND, commands.NOT_FOUND_PATH, commands.DANGLING_LINK, commands.BAD_INTERPRETER],
    ids=lambda command: command.argv[0],
)
async def test_a_command_that_is_not_there_is_refused_before_the_start_with_127(bench: Bench, command: Command) -> None:
    spec = await bench.spec(command)
    with pytest.raises(CommandNotFound) as refused:
        await bench.driver.create(spec)
    assert refused.value.exit_code == 127
    assert await bench.driver.find(spec.name) is None


@pytest.mark.parametrize("command", [commands.NOT_EXECUTABLE, commands.FOLDER], ids=lambda command: command.argv[0])
async def test_a_command_that_may_not_be_executed_is_refused_with_126(bench: Bench, command: Command) -> None:
    spec = await bench.spec(command)
    with pytest.raises(CommandNotExecutable) as refused:
        await bench.driver.create(spec)
    assert refused.value.exit_code == 126
    assert await bench.driver.find(spec.name) is None


async def test_a_file_of_another_user_is_refused_with_126(bench: Bench) -> None:
    bench.needs("inside")
    bench.needs("file_owners")
    with pytest.raises(CommandNotExecutable):
        await bench.create(("/srv/only-root",), user="app")


async def test_scripts_links_and_relative_paths_are_found(bench: Bench) -> None:
    assert (await bench.run(commands.SCRIPT)).stdout == b"script: a b c\n"
    assert (await bench.run(commands.LINK)).stdout == b"script: x\n"


async def test_the_path_variable_of_the_run_decides_where_commands_are_searched(bench: Bench) -> None:
    bench.needs("inside")
    assert (await bench.run(("script",), variables={"PATH": "/nowhere:/srv:/bin"})).stdout == b"script: \n"
    with pytest.raises(CommandNotFound):
        await bench.create(("script",), variables={"PATH": "/nowhere:/bin"})


async def test_stop_lets_a_command_handle_term_and_keeps_its_code(bench: Bench) -> None:
    handle = await bench.start(commands.TERM_TRAPPED)
    await bench.read_until(handle, b"ready")
    await bench.driver.stop(handle, 30)
    assert (await bench.driver.wait(handle)).code == 9


async def test_stop_kills_after_the_grace_what_ignores_term(bench: Bench) -> None:
    handle = await bench.start(commands.TERM_IGNORED)
    await bench.read_until(handle, b"ready")
    asked = time.monotonic()
    await bench.driver.stop(handle, 1.0)
    assert (await bench.driver.wait(handle)).code == 137
    assert 0.9 <= time.monotonic() - asked < 6


async def test_a_second_stop_with_a_shorter_grace_shortens_it(bench: Bench) -> None:
    handle = await bench.start(commands.TERM_IGNORED)
    await bench.read_until(handle, b"ready")
    asked = time.monotonic()
    await bench.driver.stop(handle, 60)
    await bench.driver.stop(handle, 0.2)
    assert (await bench.driver.wait(handle)).code == 137
    assert time.monotonic() - asked < 6


async def test_a_plain_command_ends_by_term_at_once(bench: Bench) -> None:
    handle = await bench.start(commands.FOREVER_WITH_OUTPUT)
    await bench.read_until(handle, b"ready")
    asked = time.monotonic()
    await bench.driver.stop(handle, 30)
    assert (await bench.driver.wait(handle)).code == 143
    assert time.monotonic() - asked < 6


async def test_stopping_what_has_ended_or_gone_changes_nothing(bench: Bench) -> None:
    handle = await bench.start(commands.EXITS[7])
    assert (await bench.driver.wait(handle)).code == 7
    await bench.driver.stop(handle, 1)
    assert (await bench.driver.wait(handle)).code == 7
    await bench.driver.remove(handle)
    await bench.driver.stop(handle, 1)
