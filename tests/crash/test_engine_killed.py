"""SIGKILL of the Docker Engine under a running run: its true exit code, or `lost`. Never a guess."""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.crash.gate import Gate
from tests.crash.nursery import Nursery
from tests.crash.rig import Oracle, Server, wait_until
from tests.rig import process
from tests.rig.dockerd import private_dockerd


def command(gate: Gate, truth: Oracle) -> dict[str, object]:
    """Records every end that it sees itself, by itself."""
    script = f"""
        tell() {{ echo "$ONEOFF_RUN_ID $1" | nc 127.0.0.1 {truth.port} > /dev/null; }}
        trap 'tell 9; exit 9' TERM
        tell start
        (echo "$ONEOFF_RUN_ID" | nc 127.0.0.1 {gate.port} > /dev/null) &
        wait $!
        tell 5
        exit 5
    """
    return {"shell": script, "timeout_seconds": 300}


def start_run(server: Server, gate: Gate, truth: Oracle) -> dict[str, Any]:
    """A run of a server that starts now, whose command has come to the gate."""
    server.start()
    run = server.create_run(server.create_service(), command(gate, truth), "one")
    assert run is not None
    wait_until(lambda: gate.waiting == {run["id"]}, 30, lambda: "it did not start")
    return run


def has_processes(cgroup: str) -> bool:
    with suppress(OSError):  # they come and go
        return any(
            listing.read_text() for top in process.cgroup_folders(cgroup) for listing in top.rglob("cgroup.procs")
        )
    return True


@pytest.mark.timeout(180)
@pytest.mark.parametrize("live_restore", [True, False], ids=["live-restore", "without"])
@pytest.mark.parametrize("ends_meanwhile", [True, False], ids=["ends-meanwhile", "goes-on"])
def test_the_engine_is_killed_under_a_running_run(
    tmp_path: Path, truth: Oracle, nursery: Nursery, live_restore: bool, ends_meanwhile: bool
) -> None:
    with (
        closing(Gate()) as gate,
        private_dockerd(tmp_path, live_restore=live_restore) as engine,
        Server(tmp_path / "data", "docker", engine.host, nursery=nursery) as server,
    ):
        run = start_run(server, gate, truth)
        engine.kill9()
        if ends_meanwhile:
            gate.let({run["id"]})
            wait_until(lambda: "5" in truth.lines(run["id"]), 10, lambda: "it did not end")
        engine.start()
        gate.let({run["id"]})
        ended = server.wait_for_end(run["id"], 60)
        starts_and_ends = truth.lines(run["id"])
        assert starts_and_ends.count("start") == 1
        if ended["reason"] == "lost":
            assert ended["exit_code"] is None
        else:
            assert str(ended["exit_code"]) in starts_and_ends, ended
        print(f"live_restore={live_restore} ends_meanwhile={ends_meanwhile}: {ended['reason']} {ended['exit_code']}")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("ends_meanwhile", [True, False], ids=["ends-meanwhile", "goes-on"])
def test_engine_and_server_are_killed_and_the_server_tells_whether_output_may_be_missing(
    tmp_path: Path, truth: Oracle, nursery: Nursery, ends_meanwhile: bool
) -> None:
    with (
        closing(Gate()) as gate,
        private_dockerd(tmp_path, live_restore=True) as engine,
        Server(tmp_path / "data", "docker", engine.host, nursery=nursery) as server,
    ):
        run = start_run(server, gate, truth)
        wait_until(lambda: server.call("GET", f"/runs/{run['id']}")["status"] == "running", 30, lambda: "not running")
        server.kill()
        engine.kill9()
        if ends_meanwhile:
            gate.let({run["id"]})
            wait_until(lambda: not has_processes(engine.cgroup), 30, lambda: "it did not end")
        engine.start()
        server.start()
        gate.let({run["id"]})
        ended = server.wait_for_end(run["id"], 60)
        assert ended["exit_code"] == 5
        assert ("may be missing" in (ended["message"] or "")) == ends_meanwhile
