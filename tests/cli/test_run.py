"""`oneoff run`, `attach`, `wait` and `logs` as processes against a scripted server."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from oneoff.cli.exit_codes import describe_end
from tests.cli.chopper import chopper
from tests.cli.conftest import Cli
from tests.cli.fake_api import RUN_ID, FakeApi, an_ended_run

_RUN = ("run", "shop/production", "--", "true")
_ENDS = [
    (an_ended_run("succeeded", "completed", 0), 0),
    (an_ended_run("failed", "nonzero_exit", 7), 7),
    (an_ended_run("failed", "nonzero_exit", 126), 126),
    (an_ended_run("failed", "killed", 137, 9), 137),
    (an_ended_run("failed", "oom_killed", 1), 137),
    (an_ended_run("failed", "timed_out", 143), 124),
    (an_ended_run("failed", "image_unavailable"), 125),
    (an_ended_run("failed", "start_failed", 126), 126),
    (an_ended_run("failed", "start_failed", 127), 127),
    (an_ended_run("failed", "start_failed"), 125),
    (an_ended_run("failed", "lost"), 125),
    (an_ended_run("canceled", "canceled", 0), 130),
]


def _until(condition: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def _read_until(process: subprocess.Popen[bytes], words: bytes) -> bytes:
    """stderr up to the line with `words`."""
    assert process.stderr is not None
    seen = b""
    while words not in seen:
        line = process.stderr.readline()
        assert line, f"ended without saying {words!r}: {seen!r}"
        seen += line
    return seen


@pytest.mark.parametrize(("end", "code"), _ENDS, ids=[f"{e['reason']}-{c}" for e, c in _ENDS])
def test_run_exits_as_its_command_did(cli: Cli, api: FakeApi, end: dict[str, object], code: int) -> None:
    api.script.end = end
    api.script.ended.set()
    assert cli.run(*_RUN).returncode == code


def test_attach_and_wait_exit_as_run_does_and_logs_of_an_ended_run_exits_0(cli: Cli, api: FakeApi) -> None:
    api.script.end = an_ended_run("failed", "nonzero_exit", 7)
    api.script.records = [("stdout", b"out"), ("stderr", b"err")]
    api.script.ended.set()
    attached, waited, logged = (cli.run(*words, RUN_ID) for words in (["attach", "-q"], ["wait"], ["logs"]))
    assert (attached.returncode, waited.returncode, logged.returncode) == (7, 7, 0)
    assert (attached.stdout, attached.stderr) == (b"out", b"err")
    assert (waited.stdout, logged.stdout, logged.stderr) == (b"", b"out", b"err")


def test_logs_follow_of_a_run_that_ends_meanwhile_exits_with_its_code(cli: Cli, api: FakeApi) -> None:
    api.script.end = an_ended_run("failed", "nonzero_exit", 9)
    api.script.records = [("stdout", b"first\n")]
    with cli.start("logs", "--follow", RUN_ID) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        api.script.ended.set()
        assert process.wait(20) == 9


def test_logs_of_a_going_run_prints_what_there_is_and_exits_0(cli: Cli, api: FakeApi) -> None:
    api.script.records = [("stdout", b"one "), ("stderr", b"two"), ("stdout", b"three")]
    done = cli.run("logs", RUN_ID)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"one three", b"two")


def test_logs_of_a_going_run_waits_where_its_pages_are_too_many_requests(cli: Cli, api: FakeApi) -> None:
    api.script.records = [("stdout", b"one "), ("stderr", b"two"), ("stdout", b"three")]
    api.script.refuse_pages = 3
    done = cli.run("logs", RUN_ID)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"one three", b"two")
    assert api.script.refuse_pages == 0


def test_a_follower_cut_ten_times_gets_each_byte_once(cli: Cli, api: FakeApi) -> None:
    chance = random.Random(7)
    pieces = [chance.randbytes(chance.randrange(1, 4000)) for _ in range(300)]
    pieces[10] = "a line that isn't ended\u2028, naïve\r\n\x85".encode()
    api.script.records = [(chance.choice(["stdout", "stderr"]), piece) for piece in pieces]
    api.script.ended.set()
    with chopper(api.url, cuts=10, after_bytes=40_000) as proxy:
        done = cli.run(*_RUN[:2], "--quiet", "--", "true", extra={"ONEOFF_URL": proxy.url})
        assert proxy.cuts == 10
    assert done.returncode == 0
    assert done.stdout == b"".join(data for stream, data in api.script.records if stream == "stdout")
    assert done.stderr == b"".join(data for stream, data in api.script.records if stream == "stderr")
    assert len(api.made) == 1


def test_a_server_that_cuts_its_records_anew_repeats_nothing(cli: Cli, api: FakeApi) -> None:
    api.script.records = [("stdout", b"a" * 3000), ("stdout", b"b" * 3000)]
    with chopper(api.url, cuts=1, after_bytes=6000) as proxy:
        process = cli.start("run", "-q", "shop/production", "--", "true", extra={"ONEOFF_URL": proxy.url})
        with process:
            _until(lambda: proxy.cuts == 1)
            api.script.records = [("stdout", b"a" * 3000 + b"b" * 3000)]
            api.script.ended.set()
            out, _ = process.communicate(timeout=30)
    assert out == b"a" * 3000 + b"b" * 3000


def test_a_lost_connection_is_told_once(cli: Cli, api: FakeApi) -> None:
    api.script.records = [("stdout", b"x" * 1000)] * 20
    api.script.ended.set()
    with chopper(api.url, cuts=5, after_bytes=5000) as proxy:
        done = cli.run(*_RUN, extra={"ONEOFF_URL": proxy.url})
    assert done.stderr.count(b"connection to the server lost") == 1
    assert done.stdout == b"x" * 20_000


def test_a_lost_answer_to_the_creation_makes_one_run(cli: Cli, api: FakeApi) -> None:
    api.script.lose_answers = 2
    api.script.ended.set()
    done = cli.run(*_RUN)
    assert done.returncode == 0
    assert len(api.sent("POST", "/runs")) == 3
    assert len(api.made) == 1


def test_a_question_whose_answer_is_lost_is_asked_again(cli: Cli, api: FakeApi) -> None:
    api.script.lose_gets = 3
    api.script.ended.set()
    assert cli.run(*_RUN).returncode == 0


def test_missing_bytes_are_told_on_stderr_with_their_number(cli: Cli, api: FakeApi) -> None:
    api.script.records = [("stdout", b"begin"), (None, b"x" * 4321), ("stdout", b"end")]
    api.script.ended.set()
    done = cli.run(*_RUN)
    assert done.stdout == b"beginend"
    assert b"4321 bytes of the output are missing here" in done.stderr


def test_bytes_missing_at_the_very_end_are_told_too(cli: Cli, api: FakeApi) -> None:
    api.script.records = [("stdout", b"begin"), (None, b"x" * 100), ("stdout", b"middle")]
    api.script.end["log"] = {"stdout_bytes": 1111, "stderr_bytes": 0, "missing_bytes": 1100}
    api.script.ended.set()
    done = cli.run(*_RUN)
    assert done.stdout == b"beginmiddle"
    assert [words for words in (b" 100 bytes", b" 1000 bytes") if words in done.stderr] == [
        b" 100 bytes",
        b" 1000 bytes",
    ]


def test_bytes_that_came_before_they_were_dropped_are_not_told_as_missing(cli: Cli, api: FakeApi) -> None:
    api.script.records = [("stdout", b"all of it"), ("stderr", b"!")]
    api.script.end["log"] = {"stdout_bytes": 9, "stderr_bytes": 1, "missing_bytes": 5}
    api.script.ended.set()
    done = cli.run(*_RUN)
    assert done.stdout == b"all of it"
    assert b"missing" not in done.stderr


def test_progress_goes_to_stderr_and_quiet_hides_it(cli: Cli, api: FakeApi) -> None:
    api.script.ended.set()
    talking = cli.run(*_RUN)
    assert talking.stdout == b""
    assert talking.stderr.decode().splitlines() == [
        f"{RUN_ID} queued: waits for a slot",
        f"{RUN_ID} running in registry.test/shop/web:42",
        f"{RUN_ID} finished: exit code 0 in 3.2s",
    ]
    assert cli.run("run", "shop/production", "--quiet", "--", "true").stderr == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cancels_waits_and_exits_130(cli: Cli, api: FakeApi, number: int) -> None:
    api.script.records = [("stdout", b"hello\n")]
    with cli.start(*_RUN) as process:
        _read_until(process, b"running in")
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert len(api.sent("POST", "/cancel")) == 1
    assert b"canceled after 3.2s" in err


def test_a_run_that_ended_before_the_cancel_keeps_its_own_code(cli: Cli, api: FakeApi) -> None:
    api.script.may_cancel = False
    api.script.end = an_ended_run("failed", "nonzero_exit", 7)
    with cli.start(*_RUN) as process:
        _read_until(process, b"running in")
        process.send_signal(signal.SIGINT)
        _until(lambda: api.sent("POST", "/cancel"))
        api.script.ended.set()
        assert process.wait(20) == 7


def test_an_interrupt_before_the_server_has_answered_cancels_what_it_made(cli: Cli, api: FakeApi) -> None:
    api.script.answers_wait_for = threading.Event()
    with cli.start(*_RUN) as process:
        _until(lambda: api.made)
        process.send_signal(signal.SIGINT)
        _read_until(process, b"interrupt again")
        api.script.answers_wait_for.set()
        assert process.wait(30) == 130
    assert len(api.sent("POST", "/cancel")) == 1


def test_two_interrupts_before_the_server_has_answered_say_where_to_look(cli: Cli, api: FakeApi) -> None:
    api.script.answers_wait_for = threading.Event()
    with cli.start(*_RUN) as process:
        _until(lambda: api.made)
        process.send_signal(signal.SIGINT)
        _read_until(process, b"interrupt again")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    api.script.answers_wait_for.set()
    assert process.returncode == 130
    assert b"`oneoff runs list shop/production` shows whether the run was made" in err


def test_a_local_server_that_comes_back_elsewhere_is_found_again(lonely_cli: Cli, api: FakeApi) -> None:
    def write_note(url: str) -> None:
        note = lonely_cli.home / "runtime" / "oneoff" / "server.json"
        note.parent.mkdir(parents=True, exist_ok=True)
        staged = note.with_suffix(".new")
        staged.write_text(json.dumps({"url": url, "data_dir": str(lonely_cli.home), "pid": 1}))
        staged.replace(note)

    (lonely_cli.home / "admin-token").write_text("good\n")
    api.script.records = [("stdout", b"x" * 500)] * 20
    with chopper(api.url, cuts=1000, after_bytes=4000) as proxy:
        write_note(proxy.url)
        process = lonely_cli.start(*_RUN)
        with process:
            _until(lambda: proxy.cuts)
            write_note(api.url)
            api.script.ended.set()
            out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, b"x" * 10_000)


def test_a_second_interrupt_leaves_the_run_and_says_how_to_attach(cli: Cli, api: FakeApi) -> None:
    api.script.may_cancel = False
    with cli.start(*_RUN) as process:
        _read_until(process, b"running in")
        process.send_signal(signal.SIGINT)
        _read_until(process, b"interrupt again")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert f"oneoff attach {RUN_ID}".encode() in err


def test_a_hangup_leaves_without_canceling(cli: Cli, api: FakeApi) -> None:
    with cli.start(*_RUN) as process:
        _read_until(process, b"running in")
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 129
    assert f"oneoff attach {RUN_ID}".encode() in err
    assert api.sent("POST", "/cancel") == []


def test_under_nohup_a_hangup_changes_nothing(cli: Cli, api: FakeApi) -> None:
    with cli.start(*_RUN, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as process:
        _read_until(process, b"running in")
        process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        api.script.ended.set()
        assert process.wait(20) == 0


@pytest.mark.parametrize("words", [["attach"], ["wait"], ["logs", "-f"]], ids=lambda words: words[0])
def test_an_interrupt_of_a_watcher_only_leaves(cli: Cli, api: FakeApi, words: list[str]) -> None:
    with cli.start(*words, RUN_ID) as process:
        _until(lambda: any(RUN_ID in request[1] for request in api.requests))
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert api.sent("POST", "/cancel") == []


def test_a_reader_that_goes_away_does_not_end_the_run(cli: Cli, api: FakeApi) -> None:
    api.script.records = [("stdout", b"line\n" * 1000)] * 200 + [("stderr", b"last words")]
    api.script.end = an_ended_run("failed", "nonzero_exit", 3)
    with cli.start("run", "-q", "shop/production", "--", "true") as process:
        assert process.stdout is not None
        process.stdout.read(5)
        process.stdout.close()
        api.script.ended.set()
        assert process.stderr is not None
        err = process.stderr.read()
        assert process.wait(20) == 3
    assert err == b"last words"


def test_logs_stops_quietly_when_its_reader_goes_away(cli: Cli, api: FakeApi) -> None:
    api.script.records = [("stdout", b"line\n" * 1000)] * 200
    api.script.ended.set()
    with cli.start("logs", RUN_ID) as process:
        assert process.stdout is not None
        process.stdout.read(5)
        process.stdout.close()
        assert process.stderr is not None
        assert (process.stderr.read(), process.wait(20)) == (b"", 141)


def test_detach_prints_the_id_alone(cli: Cli) -> None:
    done = cli.run("run", "--detach", "shop/production", "--", "true")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{RUN_ID}\n".encode(), b"")


def test_json_is_the_ended_run_alone_on_stdout_and_the_output_goes_to_stderr(cli: Cli, api: FakeApi) -> None:
    api.script.records = [("stdout", b"out"), ("stderr", b"err")]
    api.script.ended.set()
    done = cli.run("run", "--json", "-q", "shop/production", "--", "true")
    assert json.loads(done.stdout) == api.script.end
    assert done.stderr == b"outerr"


def test_what_is_posted_is_what_was_typed(cli: Cli, api: FakeApi, tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("A=file\nB='two\nlines'\n")
    api.script.ended.set()
    cli.run(
        "run", "shop/production", "--env-file", str(env_file), "-e", "A=1=2", "-e", "OWN", "--timeout", "1h30m",
        "--instance-type", "plan-srv-008", "--entrypoint", "tini --", "--", "echo", "--json", "naïve",
        extra={"OWN": "mine"},
    )  # fmt: skip
    cli.run("run", "shop/production", "--shell", "a | b", "--entrypoint", "clear")
    first, second = api.sent("POST", "/runs")
    assert first == {
        "command": ["echo", "--json", "naïve"],
        "variables": {"A": "1=2", "B": "two\nlines", "OWN": "mine"},
        "timeout_seconds": 5400,
        "instance_type": "plan-srv-008",
        "entrypoint": ["tini", "--"],
    }
    assert second == {"shell": "a | b", "entrypoint": "clear"}
    posts = [headers for method, _, _, headers, _ in api.requests if method == "POST"]
    assert len({headers["Idempotency-Key"] for headers in posts}) == 2
    assert {headers["Oneoff-Client"] for headers in posts} == {"cli"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["shop/production"], b"the command is empty"),
        (["shop/production", "--", ""], b"the command is empty"),
        (["shop/production", "--shell", " "], b"the command is empty"),
        (["shop/production", "--shell", "a", "--", "b"], b"not both"),
        (["shop/production", "--timeout", "soon", "--", "b"], b"no duration"),
        (["shop/production", "-e", "NOBODY_HAS_THIS", "--", "b"], b"no variable of that name"),
    ],
)
def test_a_wrong_command_line_is_refused_with_2_before_anything_is_sent(
    cli: Cli, api: FakeApi, words: list[str], says: bytes
) -> None:
    done = cli.run("run", *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert api.requests == []


def test_an_argument_that_is_not_text_is_refused_in_plain_words(cli: Cli, api: FakeApi) -> None:
    done = cli.run("run", "shop/production", "--", b"echo", b"\xff")
    assert done.returncode == 125
    assert b"not UTF-8" in done.stderr
    assert api.sent("POST", "/runs") == []


def test_an_unknown_service_exits_125_and_names_the_next_step(cli: Cli) -> None:
    done = cli.run("run", "nobody/here", "--", "true")
    assert done.returncode == 125
    assert b"oneoff service create nobody/here" in done.stderr


def test_a_refusal_exits_125_with_the_servers_words(cli: Cli, api: FakeApi) -> None:
    api.script.fail_with = (409, "no_live_image", "shop/production/web has no live image yet: deploy one first")
    done = cli.run(*_RUN)
    assert (done.returncode, done.stdout) == (125, b"")
    assert done.stderr == b"error: shop/production/web has no live image yet: deploy one first\n"


def test_an_unknown_run_exits_125(cli: Cli) -> None:
    for words in ("attach", "wait", "logs"):
        done = cli.run(words, "run-zzzzzzzzzzzzzzzzzzzz")
        assert (done.returncode, done.stdout) == (125, b"")
        assert b"error: there is no run" in done.stderr


def test_an_output_that_cannot_be_written_leaves_the_run_and_says_so(cli: Cli, api: FakeApi) -> None:
    api.script.records = [("stdout", b"x")]
    with Path("/dev/full").open("wb") as full:
        done = cli.run(*_RUN, stdout=full)
    assert done.returncode == 125
    assert b"error: the output cannot be written: No space left on device" in done.stderr
    assert f"oneoff attach {RUN_ID}".encode() in done.stderr
    assert api.sent("POST", "/cancel") == []


def test_closed_streams_hinder_nothing(cli: Cli, api: FakeApi) -> None:
    api.script.records = [("stdout", b"x"), ("stderr", b"y")]
    api.script.end = an_ended_run("failed", "nonzero_exit", 7)
    api.script.ended.set()
    command = f"exec {sys.executable} -m oneoff.cli.main run shop/production -- true <&- >&- 2>&-"
    assert subprocess.run(["/bin/sh", "-c", command], env=cli.environment, check=False).returncode == 7


NOON = "2026-01-01T12:00:00Z"


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (an_ended_run("failed", "timed_out", 143) | {"timeout_seconds": 90}, "limit is 1m30s"),
        (
            an_ended_run("failed", "timed_out", 143) | {"finished_at": NOON[:-1] + ".09Z", "must_end_at": NOON},
            f"it had to end by {NOON}",
        ),
        (an_ended_run("canceled", "canceled", 143) | {"canceled_by": "ci"}, "canceled by ci after 3.2s"),
        (an_ended_run("failed", "killed", 137, 9), "killed by signal 9 after 3.2s"),
        (an_ended_run("failed", "start_failed", 127) | {"message": "'x' was not found"}, "did not start: 'x' was not"),
        (an_ended_run("failed", "lost") | {"message": "the node is gone"}, "lost: the node is gone"),
        (an_ended_run("failed", "of_the_future"), "failed: of_the_future"),
        (an_ended_run("failed", "nonzero_exit", 2) | {"duration_seconds": 3700.4}, "exit code 2 in 1h1m40s"),
    ],
)
def test_how_it_ended_is_told_in_words(end: dict[str, object], words: str) -> None:
    assert words in describe_end(end)
