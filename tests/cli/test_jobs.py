"""`oneoff job …` against a whole server on the fake driver."""

from __future__ import annotations

import json

import pytest

from oneoff.drivers.fake_engine import Script
from tests.cli.conftest import PATH, Cli
from tests.cli.live import LiveServer
from tests.operations.home import IMAGE, NEXT_IMAGE


def test_a_job_is_saved_run_shown_and_deleted(live: LiveServer, oneoff: Cli) -> None:
    live.home.engine.scripts[("seed", "--since", "2024")] = Script((("stdout", b"done\n"),), 7)
    made = oneoff.run("job", "create", f"{PATH}:seed", "--timeout", "10m", "-e", "A=1", "--", "seed", "--since")
    assert made.returncode == 0, made.stderr
    assert b"oneoff job run shop/production/web:seed" in made.stdout
    run = oneoff.run("job", "run", f"{PATH}:seed", "--", "2024")
    assert (run.returncode, run.stdout) == (7, b"done\n"), run.stderr
    shown = json.loads(oneoff.run("job", "show", "seed", "--json").stdout)
    assert (shown["command"], shown["timeout_seconds"], list(shown["variables"])) == (["seed", "--since"], 600, ["A"])
    listed = oneoff.run("job", "list", PATH).stdout.decode()
    assert "shop/production/web:seed" in listed
    assert oneoff.run("job", "delete", shown["id"], "--yes").returncode == 0
    gone = oneoff.run("job", "show", "seed")
    assert gone.returncode == 1
    assert b"there is no job 'seed'" in gone.stderr


def test_a_job_is_updated_and_detached_runs_print_their_id(oneoff: Cli) -> None:
    oneoff.run("job", "create", f"{PATH}:piped", "-e", "A=1", "--shell", "a | b")
    changed = oneoff.run("job", "update", "piped", "--unset", "A", "-e", "B=2", "--json", "--", "true")
    assert json.loads(changed.stdout)["variables"].keys() == {"B"}
    run_id = oneoff.run("job", "run", "piped", "--detach").stdout.decode().strip()
    run = json.loads(oneoff.run("wait", run_id, "--json").stdout)
    assert (run["command"], run["status"], run["trigger"]) == (["true"], "succeeded", "manual")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("create", "seed", "--", "true"), 2, b"does not say of which service"),
        (("create", f"{PATH}:seed"), 2, b"the command is empty"),
        (("create", f"{PATH}:seed", "--shell", "a", "--", "b"), 2, b"either --shell or a COMMAND"),
        (("create", "shop/nowhere:seed", "--", "true"), 1, b"there is no service"),
        (("create", f"{PATH}:Seed", "--", "true"), 1, b"cannot be the name of a job"),
        (("run", f"{PATH}:nothing"), 125, b"there is no job"),
        (("update", "seed"), 2, b"nothing to change"),
    ],
)
def test_what_cannot_be_done_says_what_would_work(
    oneoff: Cli, arguments: tuple[str, ...], code: int, words: bytes
) -> None:
    refused = oneoff.run("job", *arguments)
    assert refused.returncode == code, refused.stderr
    assert words in refused.stderr
    assert refused.stdout == b""


def test_a_service_with_jobs_is_deleted_with_them_when_that_is_said(oneoff: Cli) -> None:
    path = "shop/other"
    oneoff.run("service", "create", path)
    oneoff.run("job", "create", f"{path}:seed", "--", "true")
    refused = oneoff.run("service", "delete", path, "--yes")
    assert refused.returncode == 1
    assert b"--with-jobs" in refused.stderr
    assert oneoff.run("service", "delete", path, "--yes", "--with-jobs").returncode == 0


def test_a_rerun_is_followed_and_tells_what_is_not_as_now(live: LiveServer, oneoff: Cli) -> None:
    live.home.engine.scripts[("done",)] = Script((("stdout", b"done\n"),), 3)
    oneoff.run("deploy", PATH, "--image", IMAGE)
    oneoff.run("job", "create", f"{PATH}:done", "-e", "A=1", "--", "done")
    run_id = oneoff.run("job", "run", "done", "--detach").stdout.decode().strip()
    oneoff.run("deploy", PATH, "--image", NEXT_IMAGE)
    oneoff.run("job", "update", "done", "-e", "A=2")
    again = oneoff.run("rerun", run_id)
    assert (again.returncode, again.stdout) == (3, b"done\n")
    assert b"differs from now: image sha256:aaaaaaaaaaaa (now sha256:bbbbbbbbbbbb)" in again.stderr
    assert b"variables with another value now: A" in again.stderr


def test_a_run_with_retries_is_followed_to_its_last_attempt(live: LiveServer, oneoff: Cli) -> None:
    live.home.engine.scripts[("once",)] = Script((("stdout", b"once\n"),), 3)
    made = oneoff.run("job", "create", f"{PATH}:once", "--retries", "1", "--retry-delay", "1s", "--json", "--", "once")
    assert json.loads(made.stdout)["retries"]["count"] == 1
    run = oneoff.run("job", "run", "once", "--json")
    assert (run.returncode, run.stderr.count(b"once\n")) == (3, 2), run.stderr
    last = json.loads(run.stdout)
    assert (last["attempt"], last["trigger"], last["retried_by"]) == (2, "retry", None)
    first = json.loads(oneoff.run("runs", "show", last["retry_of"], "--json").stdout)
    assert (first["attempt"], first["retried_by"]) == (1, last["id"])
    waited = oneoff.run("wait", first["id"], "--json")
    assert (waited.returncode, json.loads(waited.stdout)["id"]) == (3, last["id"])


def test_retry_options_without_retries_are_refused(oneoff: Cli) -> None:
    refused = oneoff.run("run", PATH, "--retry-on", "75", "--", "true")
    assert refused.returncode == 2
    assert b"need --retries" in refused.stderr


def test_a_run_in_a_group_says_what_it_waits_for(live: LiveServer, oneoff: Cli) -> None:
    live.home.engine.scripts[("slow",)] = Script(code=None)
    first = oneoff.run("run", PATH, "--group", "db:1", "--detach", "--", "slow").stdout.decode().strip()
    second = oneoff.run("run", PATH, "--group", "db", "--detach", "--", "true").stdout.decode().strip()
    shown = json.loads(oneoff.run("runs", "show", second, "--json").stdout)
    assert (shown["status"], shown["waiting_for"], shown["concurrency_group"]) == (
        "queued",
        "group db: 1 at once",
        "db",
    )
    oneoff.run("cancel", first)
    assert oneoff.run("wait", second).returncode == 0


def test_a_going_run_is_given_more_time(live: LiveServer, oneoff: Cli) -> None:
    live.home.engine.scripts[("slow",)] = Script(code=None)
    run_id = oneoff.run("run", PATH, "--timeout", "10m", "--detach", "--", "slow").stdout.decode().strip()
    assert b"may take 40m now" in oneoff.run("extend", run_id, "30m").stdout
    assert b"beyond the maximum" in oneoff.run("extend", run_id, "30d").stderr
    oneoff.run("cancel", run_id)
    oneoff.run("wait", run_id)
    assert b"oneoff rerun" in oneoff.run("extend", run_id, "30m").stderr


@pytest.mark.parametrize("exit_code", [0, 3])
def test_a_gated_deploy_prints_its_own_json_alone(live: LiveServer, oneoff: Cli, exit_code: int) -> None:
    path = f"shop/gated-{exit_code}"
    live.home.engine.scripts[("gate", str(exit_code))] = Script((("stdout", b"migrated\n"),), exit_code)
    oneoff.run("service", "create", path, "--image", IMAGE)
    oneoff.run("job", "create", f"{path}:gate", "--gate", "before-deploy", "--", "gate", str(exit_code))
    done = oneoff.run("deploy", path, "--image", NEXT_IMAGE, "--json")
    assert done.returncode == (0 if exit_code == 0 else 1), done.stderr
    assert json.loads(done.stdout)["status"] == ("live" if exit_code == 0 else "pre_deploy_failed")
    assert b"migrated\n" in done.stderr
    oneoff.run("service", "delete", path, "--yes", "--with-jobs")
