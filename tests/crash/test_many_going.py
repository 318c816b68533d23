"""The server is killed with 50 runs going. Five seconds after its restart everything is right again."""

from __future__ import annotations

import os
import time

import pytest

from tests.crash.gate import Gate
from tests.crash.left_behind import left_behind
from tests.crash.rig import Oracle, Server, wait_until

RUNS = 50
RECOVERY_SECONDS = 5.0
STARTS = 3  # or as long as so many starts of a server without runs take here and now, on a machine that is busy or slow


def command(number: int, gate: Gate, truth: Oracle) -> dict[str, object]:
    """Tells the oracle that it began, waits at the gate, and ends with a code of its own."""
    script = f"""
        echo "$ONEOFF_RUN_ID start" | nc 127.0.0.1 {truth.port} > /dev/null
        echo before
        echo "$ONEOFF_RUN_ID" | nc 127.0.0.1 {gate.port} > /dev/null
        printf after
        exit {number}
    """
    return {"shell": script, "timeout_seconds": 300}


@pytest.mark.timeout(300)
def test_killed_with_fifty_runs_going_everything_is_right_within_five_seconds(server: Server, truth: Oracle) -> None:
    server.options = {"ONEOFF_SLOTS": str(RUNS)}
    server.nursery = None  # loading the program belongs to the five seconds
    began = time.monotonic()
    server.start()
    allowed = max(RECOVERY_SECONDS, STARTS * (time.monotonic() - began))
    service_id = server.create_service()
    gate = Gate()
    codes = {}
    for number in range(1, RUNS + 1):
        run = server.create_run(service_id, command(number, gate, truth), f"run-{number}")
        assert run is not None
        codes[run["id"]] = number
    wait_until(lambda: gate.waiting == set(codes), 120, lambda: f"only {len(gate.waiting)} came to the gate")
    server.kill()
    ended = set(sorted(codes)[::2])
    going = set(codes) - ended
    gate.let(ended)
    wait_until(lambda: not gate.waiting & ended, 10, lambda: "they do not go")
    time.sleep(1)  # let them really end while nobody watches
    began = time.monotonic()
    server.start()
    ready = time.monotonic() - began
    found = wait_for_ends(server, ended, began + allowed)
    assert {run_id: found[run_id]["exit_code"] for run_id in ended} == {run_id: codes[run_id] for run_id in ended}
    assert {found[run_id]["status"] for run_id in going} == {"running"}
    right = time.monotonic() - began
    load = os.getloadavg()[0]
    print(
        f"{server.driver}: up {ready:.1f} s, {RUNS} runs right after {right:.1f} of {allowed:.1f} s (load {load:.1f})"
    )
    gate.let(going)
    for run_id in going:
        assert server.wait_for_end(run_id)["exit_code"] == codes[run_id]
    for run_id in codes:
        assert truth.lines(run_id) == ["start"]
        assert server.output(run_id, "stdout") == b"before\nafter"
    wait_until(lambda: not left_behind(server), 20, lambda: f"left behind: {left_behind(server)}")
    gate.close()


def wait_for_ends(server: Server, ended: set[str], deadline: float) -> dict[str, dict[str, object]]:
    """All runs, once those of `ended` have; fails when they have not at `deadline`, by the monotonic clock."""
    while True:
        found = {run["id"]: run for run in server.call("GET", f"/runs?limit={RUNS}")["items"]}
        if all(found[run_id]["finished_at"] for run_id in ended):
            return found
        waiting = [run_id for run_id in ended if not found[run_id]["finished_at"]]
        assert time.monotonic() < deadline, f"{len(waiting)} are not right yet: {waiting[:3]}"
        time.sleep(0.05)
