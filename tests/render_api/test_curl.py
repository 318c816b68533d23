"""The very curl of Render's document of 2021, against a server that listens."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from oneoff.core.service import ServiceType
from oneoff.operations.services import NewService, create_service
from tests.cli.live import LiveServer, live_server
from tests.operations.home import IMAGE

# As the document has it; ids, times and the plan are of their own there.
SHOWN = """{"id": "job-c3rfdgg6n88pa7t3a6ag", "serviceId": "crn-c24q2tmcie6so2aq3n90", "startCommand": "echo hi",
 "planId": "plan-crn-002", "createdAt": "2021-07-20T12:16:02.544199-04:00",
 "startedAt": null, "finishedAt": null, "status": null}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("curl")) as running:
        yield running


def pattern_of(value: Any) -> Any:
    """A time is told by its form: digits count for digits."""
    return "".join("9" if each.isdigit() else each for each in value) if isinstance(value, str) else type(value)


def test_the_answer_is_the_one_that_the_document_shows(server: LiveServer) -> None:
    home = server.home
    made = create_service(home.context, NewService("shop/production/nightly", ServiceType.CRON_JOB, IMAGE, None), "t")
    service = asyncio.run_coroutine_threadsafe(made, server.loop).result(10)
    argv = [
        *("curl", "--silent", "--request", "POST", f"{server.url}/v1/services/{service.id}/jobs"),
        *("--header", f"Authorization: Bearer {home.admin_token}", "--header", "Content-Type: application/json"),
        *("--data-raw", '{"startCommand": "echo hi"}'),
    ]
    answered = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout
    job, shown = json.loads(answered), json.loads(SHOWN)
    assert list(job) == list(shown)
    assert {name: type(value) for name, value in job.items()} == {name: type(value) for name, value in shown.items()}
    own = {"id": job["id"], "serviceId": service.id, "planId": "plan-crn-003", "createdAt": job["createdAt"]}
    assert job == shown | own
    assert len(job["id"]) == len(shown["id"])
    assert pattern_of(job["createdAt"]).replace("+", "-") == pattern_of(shown["createdAt"])
