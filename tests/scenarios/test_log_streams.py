"""Log streams with real receivers and a real server: rsyslog over TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.nursery import Nursery
from tests.crash.rig import Server, wait_until
from tests.engine.receivers import parse
from tests.rig.rsyslog import Rsyslog

LINES = 10_000
# So that there is time for accidents: busybox sleeps between hundreds of lines.
WRITES_SLOWLY = (
    "i=0; while [ $i -lt {lines} ]; do echo line $i; i=$((i+1)); [ $((i % 100)) = 0 ] && usleep 50000; done; printf end"
)


@pytest.fixture
def rsyslog(tmp_path: Path) -> Iterator[Rsyslog]:
    folder = tmp_path / "rsyslog"
    folder.mkdir()
    made = Rsyslog(folder)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def server(tmp_path: Path, nursery: Nursery) -> Iterator[Server]:
    options = {"ONEOFF_LOG_STREAM_CONFIRM_SECONDS": "3s"}
    with Server(tmp_path / "data", "oci", options=options, nursery=nursery) as made:
        made.start()
        yield made


def received(rsyslog: Rsyslog, run_id: str) -> dict[int, str]:
    """By position, in the order in which they came first."""
    found: dict[int, str] = {}
    for message in rsyslog.messages():
        told = parse(message)
        if told["run"] == run_id:
            found.setdefault(told["position"], told["text"])
    return found


@pytest.mark.timeout(120)
def test_every_line_reaches_rsyslog_through_its_restart_and_a_sigkill_of_ours(server: Server, rsyslog: Rsyslog) -> None:
    body: dict[str, Any] = {
        "endpoint": f"127.0.0.1:{rsyslog.port}",
        "token": "s3cret",
        "ca_pem": rsyslog.ca.read_text(),
    }
    server.call("PUT", "/workspace/log-stream", body)
    service_id = server.create_service()
    run = server.create_run(service_id, {"shell": WRITES_SLOWLY.format(lines=LINES)}, "slow")
    assert run is not None
    wait_until(lambda: len(rsyslog.messages()) > 1_000, 30, lambda: server.log.read_text()[-2_000:])
    rsyslog.stop()
    rsyslog.start()
    before = len(rsyslog.messages())
    wait_until(lambda: len(rsyslog.messages()) > before + 1_000, 30, lambda: server.log.read_text()[-2_000:])
    server.kill()
    server.start()
    assert server.wait_for_end(run["id"], 60)["exit_code"] == 0
    wait_until(
        lambda: len(received(rsyslog, run["id"])) > LINES,
        40,
        lambda: f"{len(received(rsyslog, run['id']))} lines\n{server.log.read_text()[-3_000:]}",
    )
    lines = received(rsyslog, run["id"])
    assert list(lines.values()) == [f"line {number}" for number in range(LINES)] + ["end"]
    assert list(lines) == sorted(lines)
    assert b'token="s3cret"' in rsyslog.messages()[0]
    wait_until(lambda: server.call("GET", "/workspace/log-stream")["state"]["lag_bytes"] == 0, 20, lambda: "it lags")
    state = server.call("GET", "/workspace/log-stream")["state"]
    assert state["lines_sent"] >= LINES
