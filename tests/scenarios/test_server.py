"""A server as its operator meets it: stopping, starting twice, a full disk. Real processes, the oci driver."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.gate import Gate
from tests.crash.rig import ROOT, Server, wait_until
from tests.scenarios.test_commands import ONEOFF, Client

WAITS_AT_GATE = "echo before; echo $ONEOFF_RUN_ID | nc 127.0.0.1 {port} > /dev/null; printf after; exit 3"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "data", "oci") as made:
        yield made


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.close()


def go_to_gate(server: Server, gate: Gate) -> str:
    """The id of a run that waits at the gate."""
    service_id = server.create_service()
    run = server.create_run(service_id, {"shell": WAITS_AT_GATE.format(port=gate.port)}, "at-the-gate")
    assert run is not None
    wait_until(lambda: gate.waiting == {run["id"]}, 20, lambda: "it does not come to the gate")
    return str(run["id"])


def test_sigterm_ends_followers_within_five_seconds_and_leaves_the_run_running(server: Server, gate: Gate) -> None:
    server.start()
    run_id = go_to_gate(server, gate)
    followers = [follow(server, run_id) for _ in range(3)]
    for follower in followers:
        assert b"before" in read_until(follower, b"before")
    assert server.running is not None
    began = time.monotonic()
    server.running.send_signal(signal.SIGTERM)
    assert server.running.wait(10) == 0
    assert time.monotonic() - began < 5
    for follower in followers:
        while follower.recv(4096):
            pass
        follower.close()
    assert gate.waiting == {run_id}
    gate.let({run_id})
    server.start()
    run = server.wait_for_end(run_id)
    assert (run["reason"], run["exit_code"]) == ("nonzero_exit", 3)
    assert server.output(run_id, "stdout") == b"before\nafter"


def follow(server: Server, run_id: str) -> socket.socket:
    """A bare connection to the live stream, which its client never closes."""
    token = (server.data / "admin-token").read_text().strip()
    follower = socket.create_connection(("127.0.0.1", server.port))
    head = f"GET /api/v1/runs/{run_id}/logs/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
    follower.sendall(head.encode())
    return follower


def read_until(follower: socket.socket, words: bytes) -> bytes:
    follower.settimeout(10)
    seen = b""
    while words not in seen:
        seen += follower.recv(4096)
    return seen


def test_a_second_server_on_the_same_data_folder_refuses_and_says_what_to_do(server: Server) -> None:
    server.start()
    argv = [ONEOFF, "serve", "--data", str(server.data), "--driver", "oci", "--listen", "127.0.0.1:0"]
    second = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert server.running is not None
    assert f"pid {server.running.pid}" in second.stderr
    assert "--data" in second.stderr
    assert server.call("GET", "/runs")["items"] == []


def test_a_port_that_is_taken_is_told_at_once(server: Server, tmp_path: Path) -> None:
    server.start()
    argv = [
        ONEOFF,
        "serve",
        "--data",
        str(tmp_path / "other"),
        "--driver",
        "oci",
        "--listen",
        f"127.0.0.1:{server.port}",
    ]
    second = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert "Address already in use; choose another port" in second.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.timeout(180)
def test_on_a_full_disk_new_runs_are_refused_and_a_going_one_is_not_lost(small_disk: Path, gate: Gate) -> None:
    with Server(small_disk / "data", "oci", options={"ONEOFF_DISK_RESERVE_BYTES": "8MB"}) as server:
        server.start()
        run_id = go_to_gate(server, gate)
        service_id = server.call("GET", f"/runs/{run_id}")["service_id"]
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(b"x" * 65_536)
        time.sleep(1.1)  # what the server knows of the disk is up to a second old
        with pytest.raises(urllib.error.HTTPError) as refused:
            server.call("POST", f"/services/{service_id}/runs", {"shell": "true"})
        assert refused.value.code == 507
        assert b"disk_full" in refused.value.read()
        gate.let({run_id})
        wait_until(lambda: not gate.waiting, 10, lambda: "it does not go on")
        time.sleep(2)  # its end cannot be committed now
        ballast.unlink()
        run = server.wait_for_end(run_id, 60)
        assert (run["reason"], run["exit_code"]) == ("nonzero_exit", 3)
        output = server.output(run_id, "stdout")
        assert output.startswith(b"before\n")
        assert len(output) + run["log"]["missing_bytes"] == len("before\nafter")


def test_the_command_line_finds_the_local_server_by_itself(server: Server, tmp_path: Path) -> None:
    server.options = {"XDG_RUNTIME_DIR": str(tmp_path)}
    server.start()
    environment = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    listed = subprocess.run(
        [ONEOFF, "service", "list", "--json"], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert '"items":[]' in listed.stdout.replace(" ", "")


def test_a_token_that_was_revoked_is_refused_at_once(server: Server) -> None:
    server.start()
    made = server.call("POST", "/tokens", {"name": "ci", "admin": False})
    environment = {**Client(server).environment, "ONEOFF_TOKEN": made["token"]}
    assert (
        subprocess.run([ONEOFF, "service", "list"], env=environment, capture_output=True, check=False).returncode == 0
    )
    server.call("DELETE", f"/tokens/{made['id']}")
    refused = subprocess.run([ONEOFF, "service", "list"], env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "revoked" in refused.stderr
