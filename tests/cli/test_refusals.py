"""What is typed wrongly at night: each refusal says what to type instead. Against a whole server on the fake driver."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from oneoff.drivers.fake_engine import Script
from tests.cli.conftest import PATH, Cli
from tests.cli.live import LiveServer

RUN, BATCH = "run-" + "0" * 20, "bat-" + "0" * 20


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["attach", PATH], 2, f"`oneoff runs list {PATH}` shows"),
        (["logs", f"{PATH}:seed"], 2, f"`oneoff runs list --job {PATH}:seed` shows"),
        (["wait", BATCH], 2, f"it is a batch, for which there is `oneoff batch wait {BATCH}`"),
        (["logs", BATCH], 2, f"it is a batch, for which there is `oneoff batch show {BATCH}`"),
        (["batch", "cancel", RUN], 2, f"it is a run, for which there is `oneoff cancel {RUN}`"),
        (["batch", "attach", PATH], 2, f"`oneoff batch list {PATH}` shows"),
        (["extend", "dep-" + "0" * 20, "1h"], 2, "`oneoff deploys show dep-"),
        (["rerun", "../tokens"], 2, "`oneoff runs list ../tokens`"),
        (["runs", "show", "run-1"], 2, "an id is run- and 20 letters or digits here, `oneoff runs list` shows them"),
        (["deploys", "show", "dep-1"], 2, "`oneoff deploys list PATH` shows them"),
        (["run", "shop/prodution", "--", "true"], 125, "did you mean shop/production/web? `oneoff service list`"),
        (["run", f"{PATH}:seed", "--", "true"], 125, f"`oneoff job run {PATH}:seed` runs it, its service is {PATH}"),
        (["run", "shop/Live", "--", "true"], 125, "cannot be the name of an environment"),
        (["run", PATH, "--env-file", "/no/file", "--", "true"], 125, "/no/file cannot be read"),
        (["job", "run", f"{PATH}:seed", "--env-file", "/no/file"], 125, "/no/file cannot be read"),
        (["deploy", PATH, "--image", ""], 2, "--image is empty: write for example --image registry"),
        (["deploy", PATH], 2, "Write for example --image registry"),
        (["cron", "create", f"{PATH}:seed"], 2, 'Write for example --schedule "30 2 * * MON-FRI"'),
    ],
)
def test_a_refusal_says_what_to_type_instead(oneoff: Cli, words: list[str], code: int, says: str) -> None:
    done = oneoff.run(*words)
    told = done.stderr.decode()
    assert done.returncode == code, told
    assert says in " ".join(told.split())
    assert done.stdout == b""


def test_who_says_no_is_told_that_nothing_was_done(live: LiveServer, oneoff: Cli) -> None:
    live.home.engine.scripts[("slow",)] = Script(code=None)
    run_id = oneoff.run("run", PATH, "--detach", "--", "slow").stdout.decode().strip()
    refused = oneoff.run("cancel", "--all", stdin=b"n\n")
    assert refused.returncode == 130
    assert refused.stderr.endswith(b"nothing was done\n")
    oneoff.run("cancel", run_id)
    oneoff.run("wait", run_id)


def test_one_run_that_is_not_there_keeps_no_other_from_being_canceled(live: LiveServer, oneoff: Cli) -> None:
    live.home.engine.scripts[("slow",)] = Script(code=None)
    run_id = oneoff.run("run", PATH, "--detach", "--", "slow").stdout.decode().strip()
    done = oneoff.run("cancel", RUN, run_id)
    assert (done.returncode, f"there is no run '{RUN}'" in done.stderr.decode()) == (1, True)
    assert run_id in done.stdout.decode()
    assert oneoff.run("wait", run_id).returncode == 130


def test_logs_of_a_run_that_waits_say_so(live: LiveServer, oneoff: Cli) -> None:
    live.home.engine.scripts[("slow",)] = Script(code=None)
    slow, waiting = (
        oneoff.run("run", PATH, "--group", "logs:1", "--detach", "--", "slow").stdout.decode().strip() for _ in range(2)
    )
    done = oneoff.run("logs", waiting)
    assert (done.returncode, done.stdout) == (0, b"")
    told = f"{waiting} queued: waits for group logs: 1 at once: there is no output yet, --follow waits for it\n"
    assert done.stderr.decode() == told
    oneoff.run("cancel", waiting, slow)
    oneoff.run("wait", slow)


@pytest.mark.parametrize("status", [200, 404, 502])
def test_an_answer_that_is_not_oneoffs_is_told_with_who_gave_it(lonely_cli: Cli, status: int) -> None:
    class Foreign(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Foreign) as foreign:
        threading.Thread(target=foreign.serve_forever, daemon=True).start()
        url = f"127.0.0.1:{foreign.server_port}"
        done = lonely_cli.run("--url", f"http://{url}", "runs", "list", extra={"ONEOFF_TOKEN": "t"})
        locked = lonely_cli.run("--url", f"https://{url}", "runs", "list", extra={"ONEOFF_TOKEN": "t"})
        foreign.shutdown()
    told = done.stderr.decode()
    assert f"http://{url} answered {status}" in told
    assert "Name the server with ONEOFF_URL (this is the address of --url)" in told
    assert b"it speaks no TLS: write http://" in locked.stderr
    assert (done.returncode, locked.returncode) == (1, 1)


def test_a_server_that_cannot_begin_says_how_to_mend_it(lonely_cli: Cli) -> None:
    folder = lonely_cli.home
    files = {"file": b"", "bad.toml": b"slots = ", "torn/oneoff.db": b"x" * 9000, "cut/secret.key": b"x"}
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)

    def refused(*options: str) -> str:
        done = lonely_cli.run("serve", "--driver", "oci", "--listen", "127.0.0.1:0", *options)
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"Traceback" not in done.stderr
        return done.stderr.decode()

    assert "choose another folder" in refused("--data", f"{folder}/file")
    torn = refused("--data", f"{folder}/torn")
    assert f"{folder}/torn/oneoff.db cannot be opened: file is not a database; restore it from a backup" in torn
    assert "secret.key is damaged: it must have 32 bytes; restore it" in refused("--data", f"{folder}/cut")
    assert f"the config file {folder}/bad.toml is no TOML" in refused("--config", f"{folder}/bad.toml")
    for url in ("mysql://me:pa@h/d", "sqlite://x", "h/d", "postgresql://h:port/d"):
        told = refused("--data", f"{folder}/new", "--database", url)
        assert "write postgresql://USER@HOST/DATABASE" in told
        assert "pa@" not in told
