"""SIGKILL of the server at every commit and every engine call of a run's life, one after the other, on real drivers.

After a restart the run has its true exit code, was started exactly once by the command's own record, its log is exact
to the byte, and nothing is left behind.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.crash.left_behind import left_behind
from tests.crash.rig import Oracle, Server, sha256, wait_until

OUTPUT = b"".join(b"line %d of the output\n" % number for number in range(1, 401)) + b"no newline at the end"
ERRORS = b"".join(b"warning %d\n" % number for number in range(1, 51))
EXIT_CODE = 7


def command(port: int) -> dict[str, Any]:
    """Tells the oracle that it began, writes, tells that it ends, and ends with EXIT_CODE."""
    script = f"""
        tell() {{ echo "$ONEOFF_RUN_ID $1" | nc 127.0.0.1 {port} > /dev/null; }}
        tell start
        i=1; while [ $i -le 400 ]; do echo "line $i of the output"; i=$((i+1)); done
        i=1; while [ $i -le 50 ]; do echo "warning $i" >&2; i=$((i+1)); done
        printf 'no newline at the end'
        tell end
        exit {EXIT_CODE}
    """
    return {"shell": script, "timeout_seconds": 60}


def assert_right(server: Server, run_id: str, truth: Oracle) -> None:
    run = server.wait_for_end(run_id)
    assert (run["status"], run["reason"], run["exit_code"]) == ("failed", "nonzero_exit", EXIT_CODE), run
    assert truth.lines(run_id) == ["start", "end"]
    assert sha256(server.output(run_id, "stdout")) == sha256(OUTPUT)
    assert sha256(server.output(run_id, "stderr")) == sha256(ERRORS)
    assert run["log"] == {"stdout_bytes": len(OUTPUT), "stderr_bytes": len(ERRORS), "missing_bytes": 0}


def kill_at(server: Server, service_id: str, point: int, truth: Oracle) -> bool:
    """One run, with the server that is up now and dies at this point, then with the next one, which is to die at the
    following point. False when there is no such point."""
    body, key = command(truth.port), f"point-{point}"
    server.arm()
    accepted = server.create_run(service_id, body, key)
    died = server.wait_for_death(5) if accepted is None else not finished_in_peace(server, accepted["id"])
    assert died or accepted is not None, "no answer, and the server lives"
    server.stop()
    server.start(crash_at=point + 1)
    # A client that got no answer asks again with the same key: the same run, never a second one.
    run = server.create_run(service_id, body, key)
    assert run is not None
    assert accepted is None or run["id"] == accepted["id"]
    assert_right(server, run["id"], truth)
    wait_until(lambda: not left_behind(server), 10, lambda: f"left behind: {left_behind(server)}")
    return died


def finished_in_peace(server: Server, run_id: str) -> bool:
    """Did the run end and its container go, with the server alive?"""
    try:
        server.wait_for_end(run_id)
    except OSError:
        return False
    wait_until(lambda: not left_behind(server) or server.wait_for_death(0), 10, lambda: "it goes on")
    return not server.wait_for_death(0.2)


@pytest.mark.timeout(900)
def test_killed_at_every_point_of_a_runs_life(server: Server, truth: Oracle) -> None:
    server.start()
    service_id = server.create_service()
    server.stop()
    server.start(crash_at=1)
    point = 1
    while kill_at(server, service_id, point, truth):
        point += 1
    print(f"{server.driver}: killed at each of {point - 1} points")
    assert point > 16
