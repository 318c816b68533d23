"""What a real server answers to a scrape after real runs, by Prometheus' own check."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from oneoff.metrics import METERS
from tests.crash.rig import Server, wait_until
from tests.monitoring.samples import Samples, read_samples
from tests.rig.images import image_ref

# What does not happen to a server that is well; each moves in tests/monitoring.
ONLY_IN_TROUBLE = {"oneoff_store_failures_total", "oneoff_store_retries_total", "oneoff_agent_failures_total"}
ONLY_BY_THE_CLOCK = {"oneoff_ticks_total", "oneoff_tick_lateness_seconds"}
# What nobody set up here; each moves in tests/engine.
OUTSIDE = {each.name for each in METERS if each.name.startswith(("oneoff_webhook_", "oneoff_log_stream_"))}
NOTHING_NOW = {"oneoff_queue_oldest_seconds", "oneoff_images_preparing", "oneoff_slots_taken", "oneoff_runs"}


def scrape(server: Server) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def run(server: Server, service_id: str, key: str, **body: Any) -> None:
    made = server.create_run(service_id, body, key)
    assert made is not None
    server.wait_for_end(made["id"])


def families(found: Samples) -> set[str]:
    """Metrics that are not at zero."""
    names = {name.partition("{")[0] for name, value in found.items() if value}
    return {each.name for each in METERS if names & {each.name, f"{each.name}_count"}}


def test_a_scrape_after_real_runs_is_right_and_every_metric_has_moved(tmp_path: Path) -> None:
    with Server(tmp_path / "data", "oci", options={"ONEOFF_LOG_CAP_BYTES": "4kB"}) as server:
        server.start()
        service_id = server.create_service()
        run(server, service_id, "good", shell="echo out; echo err >&2")
        run(server, service_id, "bad", shell="exit 3")
        run(server, service_id, "large", shell="head -c 4000000 /dev/zero")
        run(server, service_id, "absent", command=["/no/such/command"])
        going = server.create_run(service_id, {"shell": "sleep 60"}, "going")
        assert going is not None
        wait_until(lambda: server.call("GET", f"/runs/{going['id']}")["status"] == "running", 20, lambda: "no start")
        server.kill()
        server.start()  # and so the going one is taken up again
        during = scrape(server)
        server.call("POST", f"/runs/{going['id']}/cancel")
        server.wait_for_end(going["id"])
        run(server, service_id, "good again", shell="echo out; echo err >&2")
        run(server, service_id, "large again", shell="head -c 4000000 /dev/zero")
        run(server, service_id, "absent again", command=["/no/such/command"])
        server.call("POST", "/services", {"path": "shop/production/again", "image": image_ref("wrapper")})
        with pytest.raises(urllib.error.HTTPError):
            server.call("GET", "/runs/nothing")
        # What is counted in the database is as old as a second.
        nothing_runs = 'oneoff_runs{status="running"} 0'
        wait_until(lambda: nothing_runs in scrape(server), 10, lambda: scrape(server))
        text = scrape(server)
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    found = read_samples(text)
    assert found['oneoff_runs_ended_total{status="succeeded",reason="completed",trigger="api"}'] == 2
    assert found['oneoff_runs_ended_total{status="failed",reason="start_failed",trigger="api"}'] == 1
    assert found['oneoff_runs_ended_total{status="canceled",reason="canceled",trigger="api"}'] == 1
    assert found["oneoff_runs_resumed_total"] == 1
    assert found["oneoff_image_pull_seconds_count"] == 1
    assert found["oneoff_log_missing_bytes_total"] > 90_000
    assert read_samples(during)['oneoff_runs{status="running"}'] == 1
    assert read_samples(during)["oneoff_slots_taken"] == 1
    moved = families(found)
    assert {each.name for each in METERS} - moved == ONLY_IN_TROUBLE | ONLY_BY_THE_CLOCK | OUTSIDE | NOTHING_NOW
    for secret in ("shop", service_id, going["id"], "/no/such"):
        assert secret not in text
