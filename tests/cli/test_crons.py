"""`oneoff cron …` against a whole server on the fake driver."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import pytest

from oneoff.store import crons
from tests.cli.conftest import PATH, Cli
from tests.cli.live import LiveServer

JOB = f"{PATH}:backup"


@pytest.fixture(scope="module")
def oneoff(oneoff: Cli) -> Cli:
    assert oneoff.run("job", "create", JOB, "--", "backup").returncode == 0
    assert oneoff.run("cron", "create", JOB, "--schedule", "0 4 * * *", "--name", "first").returncode == 0
    return oneoff


def test_a_cron_is_made_shown_paused_and_deleted(oneoff: Cli) -> None:
    words = ("--schedule", "30 2 * * MON-FRI", "--zone", "Europe/Berlin", "--overlap", "queue", "--jitter", "1m")
    made = oneoff.run("cron", "create", JOB, *words)
    assert made.returncode == 0, made.stderr
    told = b"At 02:30, Monday to Friday, Europe/Berlin; clock changes: debian"
    assert b"shop/production/web:backup:schedule made: " + told in made.stdout
    assert b"next: " in made.stdout
    name = f"{JOB}:schedule"
    shown = oneoff.run("cron", "show", name).stdout.decode()
    assert "At 02:30, Monday to Friday" in shown
    assert shown.count(" UTC") >= 5
    changed = json.loads(oneoff.run("cron", "update", name, "--overlap", "allow", "--json").stdout)
    assert (changed["overlap"], changed["jitter_seconds"]) == ("allow", 60)
    assert b"paused" in oneoff.run("cron", "pause", name).stdout
    listed = oneoff.run("cron", "list", PATH).stdout.decode()
    assert [line for line in listed.splitlines() if " debian " in line and " paused " in line]
    assert oneoff.run("cron", "resume", changed["id"]).returncode == 0
    assert b"no ticks yet" in oneoff.run("cron", "ticks", changed["id"]).stderr
    assert oneoff.run("cron", "delete", name, "--yes").returncode == 0
    assert oneoff.run("cron", "show", changed["id"]).returncode == 1


def test_settings_of_a_cron_go_back_to_their_defaults(oneoff: Cli) -> None:
    bounds = ("--starts", "2026-01-01T00:00:00Z", "--ends", "2036-01-01T00:00:00Z")
    words = ("--jitter", "1m", "--alert-after", "3", *bounds)
    assert oneoff.run("cron", "update", f"{JOB}:first", *words).returncode == 0
    names = ("ends", "jitter", "alert-after")
    reset = [word for name in names for word in ("--reset", name)]
    cron = json.loads(oneoff.run("cron", "update", f"{JOB}:first", *reset, "--json").stdout)
    assert (cron["ends_at"], cron["jitter_seconds"], cron["alert_after_ticks"]) == (None, 0, None)
    assert cron["starts_at"] == "2026-01-01T00:00:00Z"
    both = oneoff.run("cron", "update", f"{JOB}:first", "--jitter", "1m", "--reset", "jitter")
    assert (both.returncode, both.stdout) == (2, b"")
    assert b"give either --reset jitter or what sets it" in both.stderr


def test_a_cron_whose_end_has_come_says_that_it_is_over(live: LiveServer, oneoff: Cli) -> None:
    words = ("--schedule", "0 5 * * *", "--name", "past", "--ends", "2036-01-01T00:00:00Z", "--json")
    cron_id = json.loads(oneoff.run("cron", "create", JOB, *words).stdout)["id"]
    ended = {"ends_at": datetime(2026, 1, 1, tzinfo=UTC), "next_due_at": None}
    saved = live.home.context.database.run(lambda c: crons.save_changes(c, cron_id, ended))
    asyncio.run_coroutine_threadsafe(saved, live.loop).result(timeout=30)
    shown = oneoff.run("cron", "show", f"{JOB}:past").stdout.decode()
    assert "2026-01-01T00:00:00Z" in shown
    assert "next: never, it is over" in shown
    (line,) = (line for line in oneoff.run("cron", "list").stdout.decode().splitlines() if cron_id in line)
    assert line.split()[-2:] == ["over", "never"]
    assert oneoff.run("cron", "delete", cron_id, "--yes").returncode == 0


def test_pausing_all_of_an_environment_or_of_the_workspace_is_told_at_resume(oneoff: Cli) -> None:
    assert oneoff.run("cron", "pause", "--environment", PATH).stdout == b"all crons of shop/production paused\n"
    assert b"environment is still paused" in oneoff.run("cron", "resume", JOB).stderr
    still = oneoff.run("cron", "resume", "--all").stderr
    assert still == b"shop/production/web:backup:first is still paused, with its environment\n"
    assert oneoff.run("cron", "pause", "--all").returncode == 0
    still = oneoff.run("cron", "resume", "--environment", PATH).stderr
    assert still == b"shop/production/web:backup:first is still paused, with its workspace\n"
    assert oneoff.run("cron", "resume", "--all").stderr == b""
    assert oneoff.run("cron", "resume", JOB).stderr == b""


def test_a_cron_is_named_by_its_job_and_its_own_name_without_a_path(oneoff: Cli) -> None:
    assert json.loads(oneoff.run("cron", "show", "backup:first", "--json").stdout)["name"] == "first"
    assert b"no cron 'backup:second'" in oneoff.run("cron", "show", "backup:second").stderr


def test_where_nobody_can_be_asked_a_deletion_says_so(oneoff: Cli) -> None:
    for words in (["cron", "delete", JOB], ["job", "delete", JOB], ["service", "delete", PATH]):
        silent = oneoff.run(*words)
        assert silent.returncode == 2, words
        assert b"--yes does it without asking" in silent.stderr
    assert oneoff.run("cron", "delete", JOB, stdin=b"n\n").returncode == 130
    assert oneoff.run("cron", "show", JOB).returncode == 0


def test_runs_are_listed_by_job_and_cron(oneoff: Cli) -> None:
    assert oneoff.run("job", "run", JOB, "--detach").returncode == 0
    listed = json.loads(oneoff.run("runs", "list", "--job", "backup", "--json").stdout)
    assert [run["trigger"] for run in listed["items"]] == ["manual"]
    none = oneoff.run("runs", "list", "--cron", "backup:first", "--status", "failed")
    assert (none.stdout, none.stderr) == (b"", b"no run with this status and cron\n")


def test_a_preview_shows_a_sentence_and_both_clocks(oneoff: Cli) -> None:
    done = oneoff.run("cron", "preview", "@hourly", "--zone", "Asia/Kolkata", "--count", "2")
    lines = done.stdout.decode().splitlines()
    assert lines[0] == "Every hour on the hour, Asia/Kolkata; clock changes: debian"
    assert len(lines) == 3
    assert all("Asia/Kolkata" in line and line.endswith(" UTC") for line in lines[1:])


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["create", JOB, "--schedule", "* * * * * *"], 1, b"seconds"),
        (["create", JOB, "--schedule", "@daily", "--zone", "berlin"], 1, b"Europe/Berlin"),
        (["create", "nothing", "--schedule", "@daily"], 1, b"there is no job 'nothing'"),
        (["create", JOB, "--schedule", "daily"], 1, b"it has 1 field; write five"),
        (["create", JOB, "--schedule", "@daily", "--starts", "tomorrow"], 1, b"write for example 2026-01-31T08:00:00Z"),
        (["create", JOB], 2, b"--schedule"),
        (["show", f"{JOB}:nothing"], 1, b"there is no cron"),
        (["update", JOB], 2, b"nothing to change"),
        (["pause"], 2, b"say which"),
        (["pause", "--environment", "shop/nowhere"], 1, b"there is no environment"),
    ],
)
def test_a_refusal_says_what_to_do(oneoff: Cli, words: list[str], code: int, says: bytes) -> None:
    done = oneoff.run("cron", *words)
    assert (done.returncode, done.stdout) == (code, b"")
    assert says in done.stderr
