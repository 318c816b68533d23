"""The command line against the real server with the oci driver and a real image: `oneoff run` end to end."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.chopper import chopper
from tests.cli.conftest import Cli
from tests.rig.images import busybox_layout
from tests.rig.process import end, free_port, start, wait_until_ready
from tests.rig.registry import PASSWORD, USER, Registry

PATH = "shop/production"


class Server:
    """`oneoff serve`, which can be killed and started again on the same data and port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = self.folder / "server.log"
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(self.folder)}
        options = ("--driver", "oci", "--data", str(self.data), "--listen", f"127.0.0.1:{self.port}")
        self.process = start([sys.executable, "-m", "oneoff.cli.main", "serve", *options], log, env=environment)
        wait_until_ready(self._is_ready, self.process, log, 30)

    def stop(self, number: int = signal.SIGTERM) -> None:
        assert self.process is not None
        end(self.process, 15, number)

    def _is_ready(self) -> bool:
        from urllib.error import URLError
        from urllib.request import ProxyHandler, build_opener

        try:
            with build_opener(ProxyHandler({})).open(f"{self.url}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    running.start()
    try:
        made = cli_of(running, running.folder).run("service", "create", PATH, "--image", f"oci:{busybox_layout()}:base")
        assert made.returncode == 0, made.stderr
        yield running
    finally:
        running.stop()


def cli_of(server: Server, home: Path) -> Cli:
    token = (server.data / "admin-token").read_text().strip()
    return Cli(home, ONEOFF_URL=server.url, ONEOFF_TOKEN=token)


@pytest.fixture
def real(server: Server, tmp_path: Path) -> Cli:
    return cli_of(server, tmp_path)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--", "true"], 0),
        (["--shell", "exit 7"], 7),
        (["--", "/srv/notexec"], 126),
        (["--", "no-such-command"], 127),
        (["--shell", "kill -9 $$"], 137),
        (["--timeout", "1s", "--", "sleep", "60"], 124),
    ],
    ids=["0", "7", "126", "127", "137", "124"],
)
def test_the_exit_code_is_the_commands(real: Cli, words: list[str], code: int) -> None:
    done = real.run("run", PATH, *words)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr


def test_streams_are_byte_exact_and_apart(real: Cli) -> None:
    script = "printf 'out\\377\\000no newline'; printf 'err' >&2"
    done = real.run("run", "-q", PATH, "--shell", script)
    assert (done.stdout, done.stderr) == (b"out\xff\x00no newline", b"err")


def test_variables_of_environment_service_and_run_meet(real: Cli) -> None:
    assert real.run("env", "set", PATH, "A=environment", "B=environment").returncode == 0
    assert (
        real.run("env", "set", f"{PATH}/web", "--file", "-", stdin="B='s\nvice ☃='\nC=service".encode()).returncode == 0
    )
    done = real.run("run", "-q", PATH, "-e", "C=run", "--shell", 'printf "%s|%s|%s" "$A" "$B" "$C"')
    assert done.stdout.decode() == "environment|s\nvice ☃=|run"
    listed = real.run("env", "list", PATH).stdout.decode()
    assert listed.splitlines()[1].split()[0] == "A"
    assert "environment" not in listed
    assert real.run("env", "unset", PATH, "A", "B").returncode == 0
    assert json.loads(real.run("env", "list", PATH, "--json").stdout) == {}


def test_ctrl_c_cancels_the_run(real: Cli) -> None:
    with real.start("run", PATH, "--shell", "echo ready; exec sleep 60") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    run = json.loads(real.run("runs", "list", "--limit", "1", "--json").stdout)["items"][0]
    assert (run["status"], run["trigger"]) == ("canceled", "manual")


def test_detach_then_attach_wait_logs_and_cancel(real: Cli) -> None:
    run_id = real.run("run", "-d", PATH, "--shell", "echo one; sleep 1; echo two; exit 3").stdout.decode().strip()
    attached = real.run("attach", run_id)
    assert (attached.returncode, attached.stdout) == (3, b"one\ntwo\n")
    assert real.run("wait", run_id).returncode == 3
    logged = real.run("logs", run_id)
    assert (logged.returncode, logged.stdout) == (0, b"one\ntwo\n")
    assert real.run("cancel", run_id).returncode == 0
    shown = json.loads(real.run("runs", "show", run_id, "--json").stdout)
    assert (shown["status"], shown["exit_code"]) == ("failed", 3)


def test_a_follower_cut_ten_times_gets_each_byte_once(real: Cli, server: Server) -> None:
    script = "for i in $(seq 1 40000); do echo line $i of the output; done"
    with chopper(server.url, cuts=10, after_bytes=100_000) as proxy:
        done = real.run("run", "-q", PATH, "--shell", script, extra={"ONEOFF_URL": proxy.url})
        assert proxy.cuts == 10
    assert done.returncode == 0, done.stderr
    expected = "".join(f"line {i} of the output\n" for i in range(1, 40_001)).encode()
    assert hashlib.sha256(done.stdout).hexdigest() == hashlib.sha256(expected).hexdigest()


def test_a_run_survives_the_servers_kill_and_the_cli_follows_it_to_its_end(real: Cli, server: Server) -> None:
    script = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo $i; sleep 0.1; done; exit 5"
    with real.start("run", PATH, "--shell", script) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        server.stop(signal.SIGKILL)
        time.sleep(0.5)
        server.start()
        out, err = process.communicate(timeout=60)
    assert first + out == "".join(f"{i}\n" for i in range(1, 41)).encode()
    assert process.returncode == 5, err
    assert err.count(b"connection to the server lost") == 1


def test_a_going_run_survives_a_deploy_and_a_suspension_which_allows_runs_by_hand(real: Cli) -> None:
    path = "shop/surviving"
    assert real.run("service", "create", path, "--image", f"oci:{busybox_layout()}:base").returncode == 0
    with real.start("run", path, "--shell", "echo ready; while [ ! -e /tmp/go ]; do sleep 0.1; done") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert real.run("deploy", path, "--image", next_image()).returncode == 0
        assert real.run("service", "suspend", path).returncode == 0
        assert real.run("run", "-q", path, "--", "true").returncode == 0
        newest, going = json.loads(real.run("runs", "list", path, "--json").stdout)["items"]
        assert (going["status"], newest["status"]) == ("running", "succeeded")
        assert going["digest"] != newest["digest"]
        assert real.run("cancel", going["id"]).returncode == 0
        process.communicate(timeout=60)
    assert process.returncode == 130


@pytest.fixture
def gated(real: Cli) -> Iterator[Cli]:
    """A service whose gate waits for a word in its variable FATE."""
    image = f"oci:{busybox_layout()}:base"
    assert real.run("service", "create", "shop/gated", "--image", image).returncode == 0
    script = "echo out; echo err >&2; $FATE"
    made = real.run("job", "create", "shop/gated:migrate", "--gate", "before-deploy", "--shell", script)
    assert made.returncode == 0, made.stderr
    yield real
    assert real.run("service", "delete", "shop/gated", "--yes", "--with-jobs").returncode == 0


def next_image() -> str:
    return f"oci:{busybox_layout()}:zstd"


def test_a_deploy_shows_its_gate_as_it_runs_and_a_failed_one_keeps_the_old_image(gated: Cli) -> None:
    gated.run("env", "set", "shop/gated", "FATE=exit 3")
    failed = gated.run("deploy", "shop/gated", "--image", next_image())
    assert (failed.returncode, failed.stdout) == (1, b"out\n"), failed.stderr
    assert b"\nerr\n" in failed.stderr
    assert b"job migrate failed with exit code 3" in failed.stderr
    assert f"oci:{busybox_layout()}:base stays live. `oneoff logs run-" in failed.stderr.decode()
    gated.run("env", "set", "shop/gated", "FATE=exit 0")
    done = gated.run("deploy", "-q", "shop/gated", "--image", next_image())
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"out\ndep-")
    listed = gated.run("deploys", "list", "shop/gated").stdout.decode()
    assert [line.split()[1] for line in listed.splitlines()[1:]] == ["live", "pre_deploy_failed", "deactivated"]


def test_a_gate_survives_the_servers_kill_and_its_deploy_goes_on(gated: Cli, server: Server) -> None:
    gated.run("env", "set", "shop/gated", "FATE=sleep 2")
    with gated.start("deploy", "shop/gated", "--image", next_image()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"out\n"
        server.stop(signal.SIGKILL)
        server.start()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    deploy = json.loads(gated.run("deploys", "show", out.split()[0], "--json").stdout)
    assert [gate["status"] for gate in deploy["gates"]] == ["succeeded"]
    runs = json.loads(gated.run("runs", "list", "shop/gated", "--json").stdout)["items"]
    assert [(run["status"], run["trigger"], run["digest"]) for run in runs] == [
        ("succeeded", "deploy", deploy["digest"])
    ]


def test_ctrl_c_cancels_a_deploy_and_detach_leaves_it(gated: Cli) -> None:
    gated.run("env", "set", "shop/gated", "FATE=exec sleep 60")
    with gated.start("deploy", "shop/gated", "--image", next_image()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"out\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b""), err
    assert b"canceled: canceled by admin" in err
    deploy_id = gated.run("deploy", "-d", "shop/gated", "--image", next_image()).stdout.decode().strip()
    assert gated.run("deploys", "cancel", deploy_id).returncode == 0
    shown = json.loads(gated.run("deploys", "show", deploy_id, "--json").stdout)
    while shown["status"] != "canceled":
        time.sleep(0.1)
        shown = json.loads(gated.run("deploys", "show", deploy_id, "--json").stdout)
    live = json.loads(gated.run("service", "show", "shop/gated", "--json").stdout)
    assert live["image"] == f"oci:{busybox_layout()}:base"


def test_refusals_are_told_in_the_servers_words(real: Cli) -> None:
    empty = real.run("service", "create", "shop/staging/worker", "--type", "background_worker")
    assert empty.returncode == 0, empty.stderr
    refused = real.run("run", "shop/staging", "--", "true")
    assert refused.returncode == 125
    assert b"has no live image yet" in refused.stderr
    missing = real.run("deploy", "shop/staging", "--image", "oci:/no/such/layout:x")
    assert missing.returncode == 1
    assert b"did not become live" in missing.stderr
    for words, says in (
        (["run", PATH, "--timeout", "31d", "--", "true"], b"30d"),
        (["run", PATH, "--instance-type", "plan-srv-999", "--", "true"], b"plan-srv-006"),
        (["run", PATH, "-e", "ONEOFF_X=1", "--", "true"], b"reserved"),
        (["run", PATH, "-e", "BIG=" + "x" * 131_000, "-e", "1BAD=x", "--", "true"], b"cannot name a variable"),
        (["run", "shop", "--", "true"], b"no service path"),
    ):
        done = real.run(*words)
        assert done.returncode == 125, done.stderr
        assert says in done.stderr
    assert real.run("service", "delete", "shop/staging/worker", "--yes").returncode == 0
    wrong = real.run("run", PATH, "--", "true", extra={"ONEOFF_TOKEN": "wrong"})
    assert wrong.returncode == 125
    assert b"token" in wrong.stderr


def test_what_lists_show(real: Cli) -> None:
    path = "listed/staging/app"
    for words, has in (
        (["service", "create", path], "next: oneoff deploy listed/staging/app --image REF"),
        (["service", "list"], path),
        (["service", "show", path], "plan-srv-006"),
        (["service", "update", path, "--network", "host", "--user", "app", "--read-only-root"], "host"),
        (["service", "suspend", path], "suspended:         True"),
        (["service", "resume", path], "suspended:         False"),
        (["project", "list"], "staging"),
        (["instance-types"], "$7/month"),
        (["token", "list"], "admin"),
        (["env", "set", path, "A=1"], "set: A"),
    ):
        done = real.run(*words)
        assert done.returncode == 0, (words, done.stderr)
        assert has in done.stdout.decode(), words
        if "show" not in words:
            continue
        assert json.loads(real.run(*words, "--json").stdout)["path"] == path


def test_a_token_lives_from_its_making_to_its_revocation(real: Cli) -> None:
    made = real.run("token", "create", "ci")
    assert made.returncode == 0, made.stderr
    token_id = made.stderr.decode().split()[0]
    token = {"ONEOFF_TOKEN": made.stdout.decode().strip()}
    assert real.run("runs", "list", extra=token).returncode == 0
    assert real.run("token", "list", extra=token).returncode == 1
    assert real.run("token", "revoke", token_id).returncode == 0
    assert real.run("runs", "list", extra=token).returncode == 1


def test_doctor_asks_the_server_and_finds_variables_that_name_the_own_machine(real: Cli) -> None:
    real.run("service", "create", "shop/doctored", "--network", "none")
    real.run("env", "set", "shop/doctored", "DATABASE_URL=postgres://app@127.0.0.1/shop")
    report = json.loads(real.run("doctor", "--json").stdout)
    found = {finding["check"]: finding for finding in report["findings"]}
    assert found["server"]["level"] == "ok"
    assert found["clocks"]["level"] == "ok"
    assert "DATABASE_URL" in found["variables"]["says"]
    assert "--network host" in found["variables"]["mend"]


def test_a_deploy_from_a_registry_with_a_password_from_standard_input(real: Cli, locked_registry: Registry) -> None:
    image = locked_registry.push("base", "shop/web:1")
    path = "shop/locked"
    assert real.run("service", "create", path).returncode == 0
    refused = real.run("deploy", path, "--image", image)
    assert refused.returncode == 1
    assert b"the service has no live image yet" in refused.stderr.lower()
    words = ("deploy", path, "--image", image, "--registry-user", USER, "--registry-password-stdin")
    done = real.run(*words, stdin=PASSWORD.encode())
    assert done.returncode == 0, done.stderr
    assert b"sha256:" in done.stdout
    assert PASSWORD.encode() not in done.stdout + done.stderr
    assert real.run("run", "-q", path, "--", "true").returncode == 0
