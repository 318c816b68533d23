"""Events on /render/v1: how runs ended, with the exit code and the reason, and what became of deploys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from oneoff.core.run import Reason
from oneoff.operations.deploying import advance
from oneoff.operations.events import Event
from oneoff.operations.services import set_suspended
from oneoff.render_api.event_shapes import to_event
from tests.operations.home import NEXT_IMAGE, Home
from tests.render_api.fields import listed, wrong_event

pytestmark = pytest.mark.anyio
FACE = "/render/v1"
RUN_ID, SERVICE_ID, CRON_ID = (f"{prefix}-{'0' * 20}" for prefix in ("run", "srv", "crn"))


def ended(service_id: str = SERVICE_ID, job_id: str | None = None, **body: Any) -> dict[str, Any]:
    """The details of a run that ended so."""
    known = {
        "status": "failed",
        "reason": None,
        "exit_code": None,
        "message": None,
        "timeout_seconds": 60,
        "memory_bytes": 512 << 20,
        "job_id": job_id,
    }
    at = datetime.now(UTC)
    event = Event("evt-" + "0" * 20, "tea-x", "run.ended", RUN_ID, at, known | body, service_id)
    shown = to_event(event)
    assert shown is not None
    assert wrong_event(shown) == []
    details: dict[str, Any] = shown["details"]
    return details


@pytest.mark.parametrize("reason", [each for each in Reason if each not in (Reason.COMPLETED, Reason.CANCELED)])
def test_every_failure_has_a_reason_as_its_table_says(reason: Reason) -> None:
    details = ended(reason=reason.value, message="what happened")
    assert details["reason"]["evicted"] is (reason is Reason.LOST)


def test_a_reason_tells_the_exit_code_the_memory_or_the_time() -> None:
    assert ended(reason="nonzero_exit", exit_code=7)["reason"] == {"evicted": False, "nonZeroExit": 7}
    assert ended(reason="killed", exit_code=137)["reason"] == {"evicted": False, "nonZeroExit": 137}
    oom = {"evicted": False, "oomKilled": {"memoryLimit": "512Mi"}}
    assert ended(reason="oom_killed", exit_code=137)["reason"] == oom
    assert ended(reason="timed_out", exit_code=143)["reason"]["timedOutSeconds"] == 60
    not_found = ended(reason="start_failed", exit_code=127, message="not found")["reason"]
    assert not_found == {"evicted": False, "nonZeroExit": 127, "earlyExit": True, "unhealthy": "not found"}
    assert ended(reason="lost", message="gone")["reason"] == {"evicted": True, "evictionReason": "gone"}
    assert ended(status="succeeded", reason="completed") == {"jobId": "job-" + "0" * 20, "status": "succeeded"}
    assert ended(status="canceled", reason="canceled") == {"jobId": "job-" + "0" * 20, "status": "canceled"}


def test_a_run_of_a_cron_jobs_own_job_is_told_as_such() -> None:
    details = ended(CRON_ID, "jdf-x", reason="nonzero_exit", exit_code=1)
    assert (details["cronJobRunId"], details["status"]) == ("job-" + "0" * 20, "unsuccessful")
    assert "jobId" in ended(CRON_ID, None, reason="nonzero_exit", exit_code=1)


async def test_events_of_a_service_are_listed_by_type_and_time_and_looked_at(
    client: httpx2.AsyncClient, home: Home
) -> None:
    service = await home.add_service()
    address = f"{FACE}/services/{service.id}"
    job = (await client.post(f"{address}/jobs", json={"startCommand": "x"})).json()
    await client.post(f"{address}/jobs/{job['id']}/cancel")
    begun = (await client.post(f"{address}/deploys", json={"imageUrl": NEXT_IMAGE})).json()
    await advance(home.context, begun["id"])
    for suspended in (True, False):
        await set_suspended(home.context, service.id, suspended)

    async def asked(query: str = "") -> list[Any]:
        response = await client.get(f"{address}/events?{query}")
        assert response.status_code == 200, response.text
        found = response.json()
        assert all(each.keys() == listed("event", {}).keys() and wrong_event(each["event"]) == [] for each in found)
        return [each["event"] for each in found]

    found = await asked()
    types = ["service_resumed", "service_suspended", "deploy_ended", "deploy_started", "job_run_ended"]
    assert [each["type"] for each in found] == types
    assert found[2]["details"]["deployStatus"] == "succeeded"
    assert found[-1]["details"] == {"jobId": job["id"], "status": "canceled"}
    assert [each["type"] for each in await asked("type=service_suspended,job_run_ended")] == [types[1], types[4]]
    assert [each["type"] for each in await asked("type=service_suspended&type=job_run_ended")] == [types[1], types[4]]
    assert await asked("type=disk_created") == []
    assert await asked(f"startTime={found[0]['timestamp']}") == []
    assert [each["type"] for each in await asked(f"endTime={found[0]['timestamp']}")] == types[1:]
    page = (await client.get(f"{address}/events?limit=2")).json()
    rest = (await client.get(f"{address}/events?cursor={page[-1]['cursor']}")).json()
    assert [each["event"]["type"] for each in rest] == types[2:]
    assert (await client.get(f"{address}/events?cursor={rest[-1]['cursor']}")).json() == []
    assert (await client.get(f"{FACE}/events/{found[0]['id']}")).json() == found[0]
    native = (await client.get("/api/v1/events?kind=service.created")).json()["items"]
    assert (await client.get(f"{FACE}/events/{native[0]['id']}")).status_code == 404
    assert (await client.get(f"{FACE}/events/nothing")).status_code == 404
    assert (await client.get(f"{address}/events?cursor=ZXZudHh4eA")).status_code == 400
