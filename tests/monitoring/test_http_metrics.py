"""Requests: their ids, their numbers, what the log says of those that fail, and /metrics itself."""

from __future__ import annotations

import re
from dataclasses import replace

import httpx2
import pytest

from oneoff import metrics
from oneoff.drivers.fake_engine import Script
from oneoff.entrance.observer import Observer
from oneoff.errors import StoreUnavailable
from oneoff.meters import CONTENT_TYPE
from oneoff.server import create_faces
from tests.monitoring.samples import Moved, read_samples
from tests.operations.home import Home

pytestmark = pytest.mark.anyio
SECRET = "correct horse battery staple"
SECRET_NAME = "horse"


def client_of(home: Home, *, token: bool = True) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=Observer(create_faces(home.context)), raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {home.admin_token}"} if token else {}
    return httpx2.AsyncClient(transport=transport, base_url="http://test", headers=headers)


async def test_requests_are_counted_by_the_template_of_their_address(home: Home) -> None:
    moved = Moved()
    run_id = "run-" + "0" * 20
    async with client_of(home) as client:
        for _ in range(2):
            await client.get(f"/api/v1/runs/{run_id}")
        await client.get("/v1/services/srv-0/jobs/job-0")
        await client.request("BREW", f"/api/v1/pots/{run_id}")
        await client.get("/api/v1/runs", headers={"Authorization": "no"})
        assert run_id not in (await client.get("/metrics")).text
    count = 'oneoff_http_requests_total{method="%s",route="%s",status="%s"}'
    assert moved.by(count % ("GET", "/api/v1/runs/{run_id}", 404)) == 2
    assert moved.by(count % ("GET", "/v1/services/{service_id}/jobs/{job_id}", 404)) == 1
    assert moved.by(count % ("other", "other", 404)) == 1
    assert moved.by(count % ("GET", "other", 401)) == 1
    assert moved.by('oneoff_http_request_seconds_count{method="GET",route="/api/v1/runs/{run_id}"}') == 2
    assert metrics.HTTP_REQUESTS_GOING.value() == 0


async def test_every_answer_has_an_id_and_a_proxy_may_give_it(home: Home) -> None:
    async with client_of(home, token=False) as client:
        ids = [(await client.get(path)).headers["oneoff-request-id"] for path in ("/healthz", "/api/v1/runs", "/no")]
        assert len(set(ids)) == 3
        assert all(re.fullmatch("[0-9a-f]{16,}", each) for each in ids)
        given = await client.get("/healthz", headers={"Oneoff-Request-Id": "edge-7f.3"})
        assert given.headers["oneoff-request-id"] == "edge-7f.3"
        forged = await client.get("/healthz", headers={"Oneoff-Request-Id": 'x" level=error'})
        assert "level" not in forged.headers["oneoff-request-id"]


async def test_a_request_that_fails_through_our_fault_is_told_with_its_id_and_without_its_query(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    def away(*_: object) -> None:
        raise StoreUnavailable("away")

    async with client_of(home) as client:
        await client.get("/api/v1/runs/nothing")
        assert "request failed" not in capsys.readouterr().err
        monkeypatch.setattr("oneoff.operations.services.list_services", broken)
        failed = await client.get(f"/api/v1/services?limit=7&word={SECRET_NAME}")
        assert (failed.status_code, failed.json()["code"]) == (500, "internal_error")
        said = capsys.readouterr().err
        assert 'level=error event="request failed"' in said
        assert f"request={failed.headers['oneoff-request-id']} method=GET path=/api/v1/services" in said
        assert "RuntimeError: a defect" in said
        assert SECRET_NAME not in said
        monkeypatch.setattr("oneoff.operations.services.list_services", away)
        failed = await client.get("/api/v1/services")
        assert failed.status_code == 503
        said = capsys.readouterr().err
        assert 'level=warning event="request failed"' in said
        assert f"request={failed.headers['oneoff-request-id']} status=503" in said


async def test_metrics_are_open_or_for_holders_of_a_token_or_off(home: Home) -> None:
    async with client_of(home, token=False) as client:
        answer = await client.get("/metrics")
        assert (answer.status_code, answer.headers["content-type"]) == (200, CONTENT_TYPE)
    home.context = replace(home.context, settings=replace(home.context.settings, metrics="token"))
    async with client_of(home, token=False) as client:
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", headers={"Authorization": "Bearer wrong"})).status_code == 401
    async with client_of(home) as client:
        assert (await client.get("/metrics")).status_code == 200
    home.context = replace(home.context, settings=replace(home.context.settings, metrics="off"))
    async with client_of(home) as client:
        assert (await client.get("/metrics")).status_code == 404


async def test_a_scrape_tells_the_queue_the_node_and_the_process_and_no_variable(home: Home) -> None:
    home.engine.default_script = Script(code=None)
    service = await home.add_service()
    async with client_of(home) as client:
        body = {"command": ["echo", SECRET], "variables": {"PASSWORD": {"value": SECRET, "secret": True}}}
        made = [await client.post(f"/api/v1/services/{service.id}/runs", json=body) for _ in range(3)]
        assert [each.status_code for each in made] == [201] * 3
        await home.start(made[0].json()["id"])
        text = (await client.get("/metrics")).text
    found = read_samples(text)
    assert (found['oneoff_runs{status="queued"}'], found['oneoff_runs{status="running"}']) == (2, 1)
    assert 0 < found["oneoff_queue_oldest_seconds"] < 60
    assert found["oneoff_slots"] == home.context.settings.slots
    assert found["oneoff_data_free_bytes"] > found["oneoff_data_reserve_bytes"] == 0
    assert found["oneoff_store_bytes"] > 10_000
    assert 10e6 < found["process_resident_memory_bytes"] < found["process_virtual_memory_bytes"]
    assert found["process_cpu_seconds_total"] > 0
    assert 0 < found["process_open_fds"] < found["process_max_fds"]
    assert found["process_threads"] >= 1
    assert 1.7e9 < found["process_start_time_seconds"] < 1e11
    (build,) = [name for name in found if name.startswith("oneoff_build_info")]
    assert 'driver="fake"' in build
    assert 'store="sqlite"' in build
    for secret in (SECRET, "PASSWORD", "shop", service.id, made[0].json()["id"], home.admin_token):
        assert secret not in text


async def test_a_scrape_is_answered_while_the_database_is_not_there(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(*_: object) -> None:
        raise StoreUnavailable("away")

    async with client_of(home) as client:
        monkeypatch.setattr(home.context.database, "read", read)
        answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert "oneoff_slots " in answer.text
    assert "oneoff_runs{" not in answer.text


async def test_the_queue_is_asked_about_once_a_second_at_most(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    read = home.context.database.read

    async def counted(work):  # type: ignore[no-untyped-def]
        asked.append(1)
        return await read(work)

    monkeypatch.setattr(home.context.database, "read", counted)
    async with client_of(home, token=False) as client:
        for _ in range(5):
            await client.get("/metrics")
    assert len(asked) == 1
