"""Everything but running: variables, deploys, what is printed, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.fake_api import RUN_ID, SERVICE_ID, FakeApi


def a_deploy(status: str, **changes: object) -> dict[str, object]:
    deploy = {"id": "dep-0000000000000000000c", "service_id": SERVICE_ID, "image": "registry.test/shop/web:42"}
    deploy |= {"digest": "sha256:" + "1" * 64, "status": status, "message": None, "warning": None}
    return {**deploy, "gates": [], **changes}


def test_variables_come_from_arguments_files_and_standard_input(cli: Cli, api: FakeApi, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("export A=file\nB='two\nlines'\n")
    done = cli.run(
        "env", "set", "shop/production", "A=argument", "--file", str(tmp_path / ".env"), "--file", "-", stdin=b"C=3\n"
    )
    assert (done.returncode, done.stderr) == (0, b"")
    method, path, _, _, body = api.requests[-1]
    assert (method, path) == ("PATCH", "/environments/evm-1/variables")
    assert {name: each["value"] for name, each in body.items()} == {"A": "argument", "B": "two\nlines", "C": "3"}


def test_a_path_of_three_parts_means_the_service(cli: Cli, api: FakeApi) -> None:
    cli.run("env", "set", "shop/production/web", "A=1", "--secret")
    assert api.requests[-1][1] == f"/services/{SERVICE_ID}/variables"
    assert api.requests[-1][4] == {"A": {"value": "1", "secret": True}}
    removed = cli.run("env", "unset", "shop/production/web", "A", "B")
    assert api.requests[-1][4] == {"A": None, "B": None}
    assert (removed.stdout, removed.stderr) == (b"removed: A\n", b"not set in shop/production/web: B\n")


def test_values_are_shown_only_when_asked_for_and_secret_ones_only_as_json(cli: Cli, api: FakeApi) -> None:
    api.variables = {"OPEN": {"value": "seen", "secret": False}, "SHUT": {"value": "deep", "secret": True}}
    hidden = cli.run("env", "list", "shop/production").stdout.decode()
    shown = cli.run("env", "list", "shop/production", "--reveal").stdout.decode()
    assert "OPEN" in hidden
    assert "seen" not in hidden
    assert [line.split() for line in shown.splitlines()] == [["NAME", "VALUE"], ["OPEN", "seen"], ["SHUT", "(secret)"]]
    as_json = json.loads(cli.run("env", "list", "shop/production", "--reveal", "--json").stdout)
    assert as_json == {name: api.variables[name] for name in ("OPEN", "SHUT")}
    told = " ".join(cli.run("env", "list", "--help").stdout.decode().split())
    assert "with --json, of all" in told


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["env", "set", "shop/production"], 2, "nothing to set"),
        (["env", "set", "shop/production", "A"], 2, "write A=VALUE"),
        (["env", "set", "shop/nowhere", "A=topsecret"], 1, "there is no environment 'shop/nowhere'"),
        (["env", "set", "shop/production", "--file", "/no/file"], 1, "/no/file cannot be read"),
        (["deploy", "shop/production", "--image", "i", "--registry-user", "me"], 2, "go together"),
        (["service", "update", "shop/production"], 2, "nothing to change"),
        (["service", "create", "shop/production", "--entrypoint", "'"], 2, "cannot be split"),
        (["usage", "--from", "yesterday"], 2, "'yesterday' is no day: write for example 2026-03-01"),
        (["job", "show", "shop/production"], 1, "is a service and no job: write PATH:NAME"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_a_refusal_says_what_to_do_and_shows_no_value(cli: Cli, words: list[str], code: int, says: str) -> None:
    done = cli.run(*words)
    assert done.returncode == code
    assert says in done.stderr.decode()
    assert b"topsecret" not in done.stderr
    assert done.stdout == b""


def test_a_file_that_is_not_text_is_refused_with_the_line(cli: Cli) -> None:
    done = cli.run("env", "set", "shop/production", "--file", "-", stdin=b"A=1\nB=\xff\n")
    assert done.returncode == 1
    assert done.stderr == b"error: -, line 2: this is not UTF-8; variables are text\n"


def test_deploy_waits_until_it_is_live_and_prints_the_warning(cli: Cli, api: FakeApi) -> None:
    warning = "the image's entrypoint may swallow a command"
    api.script.deploy = [a_deploy("created"), a_deploy("pre_deploy_in_progress"), a_deploy("live", warning=warning)]
    done = cli.run("deploy", "shop/production", "--image", "registry.test/shop/web:42")
    assert done.returncode == 0
    assert done.stdout.startswith(b"dep-0000000000000000000c live: registry.test/shop/web:42 sha256:1")
    assert f"warning: {warning}\n".encode() in done.stderr
    assert b"pre deploy in progress" in done.stderr


@pytest.mark.parametrize(("status", "code"), [("pre_deploy_failed", 1), ("image_unavailable", 1), ("canceled", 130)])
def test_deploy_that_fails_exits_1_or_130_and_says_what_stays(cli: Cli, api: FakeApi, status: str, code: int) -> None:
    api.script.deploy = [a_deploy(status)]
    done = cli.run("deploy", "shop/production", "--image", "registry.test/shop/web:42")
    assert (done.returncode, done.stdout) == (code, b"")
    assert b"registry.test/shop/web:41 stays live" in done.stderr


def test_a_registry_password_is_read_from_standard_input(cli: Cli, api: FakeApi) -> None:
    api.script.deploy = [a_deploy("live")]
    words = ("deploy", "shop/production", "--image", "i:1", "--registry-user", "me", "--registry-password-stdin")
    assert cli.run(*words, stdin=b"pa ss\n").returncode == 0
    assert api.sent("POST", "/deploys") == [{"image": "i:1", "registry": {"username": "me", "password": "pa ss"}}]


@pytest.mark.parametrize("words", [["runs", "show", RUN_ID], ["cancel", RUN_ID], ["runs", "list"], ["service", "list"]])
def test_json_is_one_document(cli: Cli, words: list[str]) -> None:
    done = cli.run(*words, "--json")
    assert done.returncode == 0
    assert isinstance(json.loads(done.stdout), dict)
    assert done.stderr == b""


def test_a_list_without_rows_leaves_stdout_empty(cli: Cli) -> None:
    done = cli.run("runs", "list")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"no runs yet\n")


def test_control_characters_of_others_do_not_reach_the_terminal(cli: Cli, api: FakeApi) -> None:
    api.script.end["command"] = ["echo", "\x1b[2Jgone\n"]
    api.script.ended.set()
    shown = cli.run("runs", "show", RUN_ID).stdout
    assert b"\x1b" not in shown
    assert b"\\x1b[2Jgone" in shown


def test_help_imports_nothing_slow(cli: Cli) -> None:
    probe = "import sys; from oneoff.cli.main import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", probe], env=cli.environment, capture_output=True, check=True)
    assert not {"httpx2", "asyncio", "rich", "pydantic", "sqlalchemy"} & set(done.stderr.decode().split())
