"""Output: told apart, byte-exact, from any position, at any time."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from oneoff.drivers.driver import LogPosition
from tests.drivers import commands
from tests.drivers.bench import Bench


async def test_stdout_and_stderr_are_told_apart_without_a_final_newline(bench: Bench) -> None:
    result = await bench.run(commands.BOTH_STREAMS)
    assert result.stdout == b"out 1\nout, no newline"
    assert result.stderr == b"err 1\nerr, no newline"


async def test_a_silent_command_has_an_empty_log(bench: Bench) -> None:
    result = await bench.run(commands.SILENT)
    assert (result.stdout, result.stderr) == (b"", b"")


async def test_every_byte_value_comes_as_it_was_written(bench: Bench) -> None:
    assert (await bench.run(commands.BINARY)).stdout == commands.BINARY_BYTES


async def test_a_line_of_5_mb_and_a_piece_of_exactly_16_kb_are_exact(bench: Bench) -> None:
    result = await bench.run(commands.LONG_LINE)
    assert result.stdout == b"x" * commands.LONG_LINE_BYTES + b"\n"
    assert result.stderr == b"y" * 16384


async def test_output_is_seen_while_the_command_runs(bench: Bench) -> None:
    handle = await bench.start(commands.FOREVER_WITH_OUTPUT)
    before = time.monotonic()
    stdout, _ = await bench.read_until(handle, b"ready\n")
    assert stdout == b"ready\n"
    assert time.monotonic() - before < 5


async def test_a_follower_that_started_with_the_command_gets_everything(bench: Bench) -> None:
    handle = await bench.start(commands.LINES)
    stdout, stderr = await bench.read_logs(handle)
    expected = b"".join(b"%d\n" % number for number in range(1, commands.MANY_LINES + 1))
    assert stdout == expected + b"end"
    assert stderr == expected


async def test_a_late_reader_gets_everything_after_the_exit(bench: Bench) -> None:
    handle = await bench.start(commands.LINES)
    await bench.driver.wait(handle)
    first = await bench.read_logs(handle)
    assert first == await bench.read_logs(handle)
    assert first[0].endswith(b"\nend")
    assert first[1].count(b"\n") == commands.MANY_LINES


@pytest.mark.parametrize("position", [LogPosition(0, 5), LogPosition(1, 0), LogPosition(60_001, 33_333)], ids=str)
async def test_reading_goes_on_from_any_position(bench: Bench, position: LogPosition) -> None:
    handle = await bench.start(commands.LINES)
    await bench.driver.wait(handle)
    stdout, stderr = await bench.read_logs(handle)
    assert await bench.read_logs(handle, position) == (stdout[position.stdout :], stderr[position.stderr :])


async def test_reading_from_the_very_end_gives_nothing(bench: Bench) -> None:
    handle = await bench.start(commands.BOTH_STREAMS)
    await bench.driver.wait(handle)
    stdout, stderr = await bench.read_logs(handle)
    assert await bench.read_logs(handle, LogPosition(len(stdout), len(stderr))) == (b"", b"")


async def test_a_follower_that_breaks_off_and_comes_back_gets_each_byte_once(bench: Bench) -> None:
    handle = await bench.start(commands.LINES)
    kept = {"stdout": b"", "stderr": b""}
    for _ in range(5):
        position = LogPosition(len(kept["stdout"]), len(kept["stderr"]))
        async for chunk in bench.driver.logs(handle, position):
            kept[chunk.stream] += chunk.data
            break
    rest = await bench.read_logs(handle, LogPosition(len(kept["stdout"]), len(kept["stderr"])))
    assert (kept["stdout"] + rest[0], kept["stderr"] + rest[1]) == await bench.read_logs(handle)


async def test_two_followers_do_not_disturb_each_other(bench: Bench) -> None:
    handle = await bench.start(commands.LINES)
    first, second = await asyncio.gather(bench.read_logs(handle), bench.read_logs(handle))
    assert first == second
    assert first[0].endswith(b"\nend")


async def test_a_background_child_that_holds_the_output_delays_neither_exit_nor_log(bench: Bench) -> None:
    handle = await bench.start(commands.BACKGROUND_CHILD)
    before = time.monotonic()
    log = asyncio.create_task(bench.read_logs(handle))
    assert (await bench.driver.wait(handle)).code == 3
    stdout, _ = await log
    assert time.monotonic() - before < 8
    assert set(stdout.splitlines()) == {b"tick"}
    assert await bench.read_logs(handle) == (stdout, b"")


async def test_records_carry_the_time_they_were_written(bench: Bench) -> None:
    bench.needs("log_timestamps")
    before = datetime.now(UTC) - timedelta(seconds=1)
    handle = await bench.start(commands.BOTH_STREAMS)
    await bench.driver.wait(handle)
    times = [chunk.time async for chunk in bench.driver.logs(handle, LogPosition())]
    assert times
    assert all(before <= moment <= datetime.now(UTC) for moment in times)


async def test_stdin_is_empty_and_there_is_no_terminal(bench: Bench) -> None:
    assert (await bench.run(commands.STDIN)).stdout == b"none\n"
