"""A batch on the real oci driver: killed in the middle, taken up by the next server, canceled, and nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.crash.left_behind import left_behind
from tests.crash.rig import Oracle, Server, wait_until

SLOTS = 6


@pytest.mark.timeout(120)
def test_killed_and_then_canceled_in_the_middle_it_leaves_nothing_behind(tmp_path: Path, truth: Oracle) -> None:
    with Server(tmp_path / "data", "oci", options={"ONEOFF_SLOTS": str(SLOTS)}) as server:
        server.start()
        service_id = server.create_service()
        shell = f'echo "$ONEOFF_RUN_ID start $ONEOFF_BATCH_INDEX" | nc 127.0.0.1 {truth.port} > /dev/null; exec sleep'
        items = ["0"] * 10 + ["300"] * 30
        body = {"shell": shell, "items": items, "max_parallel": SLOTS + 4, "timeout_seconds": 600}
        batch_id = server.call("POST", f"/services/{service_id}/batches", body)["id"]

        def counts() -> dict[str, Any]:
            found: dict[str, Any] = server.call("GET", f"/batches/{batch_id}")["counts"]
            return found

        def runs() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = server.call("GET", f"/runs?batch={batch_id}&limit=200")["items"]
            return found

        in_the_middle = {"waiting": 20, "queued": 4, "running": SLOTS, "succeeded": 10, "failed": 0, "canceled": 0}
        wait_until(lambda: counts() == in_the_middle, 60, lambda: f"{counts()}")
        wait_until(lambda: sum(run["status"] == "running" for run in runs()) == SLOTS, 30, lambda: f"{counts()}")
        server.kill()
        server.start()
        wait_until(lambda: counts() == in_the_middle, 30, lambda: f"{counts()}")
        server.call("POST", f"/batches/{batch_id}/cancel")
        wait_until(lambda: server.call("GET", f"/batches/{batch_id}")["finished_at"], 30, lambda: f"{counts()}")
        assert counts() == in_the_middle | {"waiting": 0, "queued": 0, "running": 0, "canceled": 30}
        made = runs()
        assert len(made) == 10 + SLOTS + 4
        assert all(run["finished_at"] for run in made)
        for run in made:
            told = [f"start {run['batch_index']}"] if run["started_at"] else []
            assert truth.lines(run["id"]) == told
        wait_until(lambda: not left_behind(server), 20, lambda: f"left behind: {left_behind(server)}")
