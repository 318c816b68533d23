"""A batch on the real oci driver: killed in the middle, taken up by the next server, canceled, and nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.crash.left_behind import left_behind
from tests.crash.nursery import Nursery
from tests.crash.rig import Oracle, Server, wait_until

SLOTS, QUICK, LONG, QUEUED = 3, 4, 12, 2


@pytest.mark.timeout(120)
def test_killed_and_then_canceled_in_the_middle_it_leaves_nothing_behind(
    tmp_path: Path, truth: Oracle, nursery: Nursery
) -> None:
    with Server(tmp_path / "data", "oci", options={"ONEOFF_SLOTS": str(SLOTS)}, nursery=nursery) as server:
        server.start()
        service_id = server.create_service()
        shell = f'echo "$ONEOFF_RUN_ID start $ONEOFF_BATCH_INDEX" | nc 127.0.0.1 {truth.port} > /dev/null; exec sleep'
        items = ["0"] * QUICK + ["300"] * LONG
        body = {"shell": shell, "items": items, "max_parallel": SLOTS + QUEUED, "timeout_seconds": 600}
        batch_id = server.call("POST", f"/services/{service_id}/batches", body)["id"]

        def counts() -> dict[str, Any]:
            found: dict[str, Any] = server.call("GET", f"/batches/{batch_id}")["counts"]
            return found

        def runs() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = server.call("GET", f"/runs?batch={batch_id}&limit=200")["items"]
            return found

        waiting = LONG - SLOTS - QUEUED
        nothing = dict.fromkeys(("waiting", "queued", "running", "succeeded", "failed", "canceled"), 0)
        in_the_middle = nothing | {"waiting": waiting, "queued": QUEUED, "running": SLOTS, "succeeded": QUICK}
        wait_until(lambda: counts() == in_the_middle, 60, lambda: f"{counts()}")
        wait_until(lambda: sum(run["status"] == "running" for run in runs()) == SLOTS, 30, lambda: f"{counts()}")
        server.kill()
        server.start()
        wait_until(lambda: counts() == in_the_middle, 30, lambda: f"{counts()}")
        server.call("POST", f"/batches/{batch_id}/cancel")
        wait_until(lambda: server.call("GET", f"/batches/{batch_id}")["finished_at"], 30, lambda: f"{counts()}")
        assert counts() == nothing | {"succeeded": QUICK, "canceled": LONG}
        made = runs()
        assert len(made) == QUICK + SLOTS + QUEUED
        assert all(run["finished_at"] for run in made)
        for run in made:
            told = [f"start {run['batch_index']}"] if run["started_at"] else []
            assert truth.lines(run["id"]) == told
        wait_until(lambda: not left_behind(server), 20, lambda: f"left behind: {left_behind(server)}")
