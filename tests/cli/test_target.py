"""Which server and which token: flags, environment, login, the local server."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from oneoff.cli.problems import CliError
from oneoff.cli.target import DEFAULT_URL, find_target, login_file, save_login
from tests.cli.conftest import Cli
from tests.cli.fake_api import FakeApi

LOCAL = "http://127.0.0.1:4001"
REMOTE = "https://oneoff.example.com"


@pytest.fixture(autouse=True)
def nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ONEOFF_URL", "ONEOFF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("oneoff.presence.runtime_dir", lambda: tmp_path / "none")
    monkeypatch.setattr("oneoff.cli.target._SYSTEM_NOTE", tmp_path / "none" / "server.json")


def write_note(tmp_path: Path, url: str = LOCAL) -> Path:
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    (data / "admin-token").write_text("of-admin\n")
    note = tmp_path / "runtime" / "oneoff" / "server.json"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"url": url, "data_dir": str(data), "pid": os.getpid()}))
    return note


def test_flags_win_over_the_environment_over_login_over_the_local_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (find_target().url, find_target().token) == (DEFAULT_URL, None)
    write_note(tmp_path)
    assert (find_target().url, find_target().token, find_target().is_local) == (LOCAL, "of-admin", True)
    save_login(REMOTE, "of-login")
    assert (find_target().url, find_target().token) == (REMOTE, "of-login")
    monkeypatch.setenv("ONEOFF_URL", "http://env.example.com/")
    monkeypatch.setenv("ONEOFF_TOKEN", "of-env")
    assert (find_target().url, find_target().token) == ("http://env.example.com", "of-env")
    assert (find_target("http://flag", "of-flag").url, find_target("http://flag", "of-flag").token) == (
        "http://flag",
        "of-flag",
    )


def test_a_stored_token_is_never_sent_to_another_address(tmp_path: Path) -> None:
    write_note(tmp_path)
    save_login(REMOTE, "of-login")
    assert find_target("http://stranger.example.com").token is None
    assert find_target(LOCAL).token == "of-admin"


def test_the_login_file_is_for_its_owner_alone() -> None:
    save_login(REMOTE, "one")
    save_login("https://other.example.com", "two")
    assert login_file().stat().st_mode & 0o777 == 0o600
    assert find_target().url == "https://other.example.com"
    assert find_target(REMOTE).token == "one"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a file of another user")
def test_a_note_of_another_user_is_not_believed(tmp_path: Path) -> None:
    os.chown(write_note(tmp_path), 12345, 12345)
    assert find_target().url == DEFAULT_URL


def test_a_note_that_is_no_note_is_named(tmp_path: Path) -> None:
    note = write_note(tmp_path)
    note.write_text("{}")
    with pytest.raises(CliError, match="cannot be understood"):
        find_target()


def test_a_local_server_that_is_gone_is_told_with_its_address_and_the_next_step(tmp_path: Path) -> None:
    note = write_note(tmp_path, "http://127.0.0.1:9")
    done = Cli(tmp_path).run("runs", "list")
    assert done.returncode == 1
    for words in ("http://127.0.0.1:9", "oneoff serve", str(note)):
        assert words in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_without_any_server_run_exits_125(lonely_cli: Cli) -> None:
    done = lonely_cli.run("--url", "http://127.0.0.1:9", "run", "a/b", "--", "true")
    assert done.returncode == 125
    assert b"no Oneoff server answers at http://127.0.0.1:9 (connection refused)" in done.stderr


def test_login_checks_the_token_and_remembers_it(lonely_cli: Cli, api: FakeApi) -> None:
    wrong = lonely_cli.run("login", api.url, "--token-stdin", stdin=b"bad\n")
    assert wrong.returncode == 1
    assert b"does not take this token" in wrong.stderr
    assert not list(lonely_cli.home.rglob("login.json"))
    right = lonely_cli.run("login", api.url + "/", "--token-stdin", stdin=b"good\n")
    assert right.returncode == 0
    assert b"good" not in right.stdout + right.stderr
    assert lonely_cli.run("token", "list").returncode == 0


def test_login_without_a_terminal_reads_the_token_from_standard_input(lonely_cli: Cli, api: FakeApi) -> None:
    none = lonely_cli.run("login", api.url)
    assert none.returncode == 2
    assert b"there is no token on standard input: pipe it in" in none.stderr
    piped = lonely_cli.run("login", api.url, stdin=b"good\n")
    assert (piped.returncode, piped.stderr) == (0, b"")


def test_an_address_that_is_none_is_refused(lonely_cli: Cli) -> None:
    done = lonely_cli.run("--url", "oneoff.example.com", "runs", "list")
    assert done.returncode == 1
    assert b"write for example https://" in done.stderr


def test_a_traceback_comes_only_with_debug(lonely_cli: Cli) -> None:
    quiet = lonely_cli.run("--url", "http://127.0.0.1:9", "runs", "list")
    loud = lonely_cli.run("--debug", "--url", "http://127.0.0.1:9", "runs", "list")
    assert b"Traceback" not in quiet.stderr
    assert b"Traceback" in loud.stderr


def test_a_token_file_that_is_missing_is_named(lonely_cli: Cli) -> None:
    done = lonely_cli.run("--token-file", "/no/such/file", "runs", "list")
    assert done.returncode == 1
    assert b"/no/such/file cannot be read" in done.stderr
