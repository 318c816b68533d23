"""`oneoff batch …`: items as people write them, and whole batches against a server on the fake driver."""

from __future__ import annotations

import json
import re
import signal
import time
from typing import Any

import pytest

from oneoff.cli.batch_items import JSON, LINES, parse_items
from oneoff.cli.batch_progress import describe_failure, describe_progress, draw_bar
from oneoff.cli.problems import CliError
from oneoff.drivers.fake_engine import Script
from tests.cli.conftest import PATH, Cli
from tests.cli.live import LiveServer


@pytest.mark.parametrize(
    ("text", "form", "arguments"),
    [
        ("a b\nc\r\n\n  d\n", None, [["a b"], ["c"], ["  d"]]),
        ("\ufeff{not json}\nx", None, [["{not json}"], ["x"]]),
        ('["a", "b c"]\n"d"\n{"arguments": ["e"]}\n{}', None, [["a", "b c"], ["d"], ["e"], []]),
        ('"quoted"', None, [['"quoted"']]),
        ('"quoted"', JSON, [["quoted"]]),
        ('{"arguments": ["a"]}', LINES, [['{"arguments": ["a"]}']]),
    ],
)
def test_items_are_lines_or_lines_of_json(text: str, form: str | None, arguments: list[list[str]]) -> None:
    assert [list(item.get("arguments", [])) for item in parse_items(text, "f", form)] == arguments


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "f has no items"),
        ('{"arguments": []}\n{"arguments"', "f, line 2: this is no JSON"),
        ('{"a": 1}', "f, line 1: there is no field 'a'"),
        ('{"arguments": [7]}', "f, line 1: arguments are a list of texts"),
        ('\n{"variables": {"A": 1}}', "f, line 2: variables are"),
        ('{"variables": {"1A": "x"}}', "f, line 1: '1A' cannot name a variable"),
        ("ok\nnul\0", "f, line 2: a command cannot contain the character NUL"),
        ("x" * 131_072, "f, line 1: one argument has 131072 bytes"),
        ("a\n" * 10_001, "f, line 10001: a batch has at most 10000 items"),
    ],
)
def test_what_is_wrong_with_an_item_is_told_with_its_line(text: str, words: str) -> None:
    with pytest.raises(CliError, match=re.escape(words)):
        parse_items(text, "f", None)


def test_values_of_items_are_kept_as_they_are() -> None:
    line = '{"arguments": ["a"], "variables": {"A": "1", "B": {"value": "2", "secret": true}}}'
    assert parse_items(line, "f", None) == [json.loads(line)]


def a_batch(**counts: int) -> dict[str, Any]:
    names = ("waiting", "queued", "running", "succeeded", "failed", "canceled")
    return {"item_count": sum(counts.values()), "counts": dict.fromkeys(names, 0) | counts}


def test_progress_is_told_in_a_line() -> None:
    batch = a_batch(waiting=4, running=2, succeeded=3, failed=1)
    assert describe_progress(batch) == "4/10, 2 running, 1 failed"
    assert draw_bar(batch) == "[" + "#" * 12 + " " * 18 + "]"


def test_a_failure_says_where_its_log_is() -> None:
    item = {"index": 7, "arguments": ["a\x1b[2J"], "reason": "nonzero_exit", "exit_code": 3, "run_id": "run-1"}
    assert describe_failure(item) == "item 7 (a\\x1b[2J) failed: exit code 3; see `oneoff logs run-1`"
    assert describe_failure(item | {"reason": "timed_out", "arguments": []}).startswith("item 7 failed: timed_out; see")


def test_a_batch_is_followed_and_its_failed_items_run_again(live: LiveServer, oneoff: Cli) -> None:
    live.home.engine.scripts["work", "b"] = Script(code=3)
    made = oneoff.run("batch", "create", PATH, "--items", "-", "--max-parallel", "2", "--", "work", stdin=b"a\nb\nc\n")
    assert made.returncode == 1, made.stderr
    told = made.stderr.decode()
    assert re.search(r"item 1 \(b\) failed: exit code 3; see `oneoff logs run-[0-9a-z]{20}`", told)
    assert "failed: 2 succeeded, 1 failed" in told
    batch_id = told.split()[0]
    assert f"oneoff batch rerun-failed {batch_id}" in told
    shown = json.loads(oneoff.run("batch", "show", batch_id, "--json").stdout)
    assert (shown["status"], shown["counts"]["failed"]) == ("failed", 1)
    assert b"2 succeeded, 1 failed" in oneoff.run("batch", "show", batch_id).stdout
    items = oneoff.run("batch", "items", batch_id, "--status", "failed").stdout.decode()
    assert re.search(r"^1 +failed +run-\w+ +1 +3 +nonzero_exit +b$", items, re.MULTILINE)
    live.home.engine.scripts["work", "b"] = Script(code=0)
    again = oneoff.run("batch", "rerun-failed", batch_id, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["rerun_of"] == batch_id
    listed = oneoff.run("batch", "list", PATH).stdout.decode()
    assert re.search(r"succeeded +1/1", listed)
    assert re.search(r"failed +3/3 +1 ", listed)
    nothing = oneoff.run("batch", "rerun-failed", json.loads(again.stdout)["id"])
    assert nothing.returncode == 125
    assert b"nothing to run again" in nothing.stderr


def test_a_job_runs_for_each_item_and_detached_batches_print_their_id(oneoff: Cli) -> None:
    oneoff.run("job", "create", f"{PATH}:each", "--", "seed")
    made = oneoff.run("batch", "create", "each", "--item", "a b", "--item", "c", "--detach", "--", "--all")
    batch_id = made.stdout.decode().strip()
    assert re.fullmatch(r"bat-[0-9a-z]{20}", batch_id)
    waited = oneoff.run("batch", "wait", batch_id, "--json")
    assert (waited.returncode, json.loads(waited.stdout)["status"]) == (0, "succeeded")
    items = json.loads(oneoff.run("batch", "items", batch_id, "--json").stdout)["items"]
    run = json.loads(oneoff.run("runs", "show", items[0]["run_id"], "--json").stdout)
    assert (run["command"], run["trigger"], run["batch_index"]) == (["seed", "--all", "a b"], "batch", 0)
    assert oneoff.run("batch", "attach", batch_id).returncode == 0
    assert oneoff.run("batch", "cancel", batch_id).stdout.decode().strip().endswith("had ended before: succeeded")


def test_the_first_interrupt_cancels_all_and_exits_130(live: LiveServer, oneoff: Cli) -> None:
    live.home.engine.scripts["stay",] = Script(code=None, code_on_term=143)
    before = len(live.home.engine.starts)
    process = oneoff.start("batch", "create", PATH, "--count", "20", "--", "stay")
    deadline = time.monotonic() + 30
    while len(live.home.engine.starts) < before + 4:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert b"canceled: 20 canceled" in told
    assert len(live.home.engine.starts) == before + 4


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((PATH, "--", "work"), 2, b"items come from one place"),
        ((PATH, "--count", "2", "--item", "a", "--", "work"), 2, b"items come from one place"),
        ((PATH, "--count", "2"), 2, b"the command is empty"),
        ((PATH, "--count", "2", "--shell", "a", "--", "b"), 2, b"either --shell or a COMMAND"),
        (("seed", "--count", "2", "--retries", "2"), 2, b"`oneoff job update`"),
        (("seed", "--count", "2", "--retry-back-off", "fixed"), 2, b"`oneoff job update`"),
        ((PATH, "--items", "nowhere.txt", "--", "work"), 125, b"nowhere.txt cannot be read"),
        ((PATH, "--item", "a\n", "--format", "json", "--", "work"), 2, b"--format goes with --items"),
        (("seed", "--count", "2"), 125, b"there is no job 'seed'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    cli: Cli, arguments: tuple[str, ...], code: int, words: bytes
) -> None:
    refused = cli.run("batch", "create", *arguments)
    assert (refused.returncode, words in refused.stderr) == (code, True), refused.stderr
