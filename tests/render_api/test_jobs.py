"""Jobs on both faces: what is sent and answered, and that they are the runs of everybody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from oneoff.core.service import ServiceType
from oneoff.operations.services import NewService, create_service
from tests.operations.home import IMAGE, Home
from tests.render_api.fields import ERROR, JOB, JOB_OF_2021, listed, wrong

pytestmark = pytest.mark.anyio
FACES = {"/v1": JOB_OF_2021, "/render/v1": JOB}
BOTH = pytest.mark.parametrize("face", FACES)


async def add_service(home: Home, kind: ServiceType, path: str = "shop/production/web") -> str:
    return (await create_service(home.context, NewService(path, kind, IMAGE, None), "tester")).id


async def create(client: httpx2.AsyncClient, face: str, service_id: str, **body: Any) -> dict[str, Any]:
    response = await client.post(f"{face}/services/{service_id}/jobs", json={"startCommand": "echo hi", **body})
    assert response.status_code == 201, response.text
    job: dict[str, Any] = response.json()
    assert wrong(job, FACES[face]) == []
    return job


async def ids_of(client: httpx2.AsyncClient, address: str) -> list[str]:
    response = await client.get(address)
    assert response.status_code == 200, response.text
    return [each["job"]["id"] for each in response.json()]


def check_error(response: httpx2.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.content.endswith(b"}\n")
    assert wrong(response.json(), ERROR) == []
    return str(response.json()["message"])


@BOTH
@pytest.mark.parametrize("kind", list(ServiceType))
async def test_a_job_is_based_on_a_service_of_each_type(
    client: httpx2.AsyncClient, home: Home, face: str, kind: ServiceType
) -> None:
    service_id = await add_service(home, kind)
    job = await create(client, face, service_id)
    prefix, plan = ("crn-", "plan-crn-003") if kind is ServiceType.CRON_JOB else ("srv-", "plan-srv-006")
    assert job["serviceId"] == service_id
    assert service_id.startswith(prefix)
    assert (job["startCommand"], job["planId"]) == ("echo hi", plan)


async def test_the_document_of_2021_has_these_keys_in_this_order_and_nulls_until_the_end(
    client: httpx2.AsyncClient, home: Home
) -> None:
    service_id = await add_service(home, ServiceType.CRON_JOB)
    keys = ["id", "serviceId", "startCommand", "planId", "createdAt", "startedAt", "finishedAt", "status"]
    job = await create(client, "/v1", service_id)
    address = f"/v1/services/{service_id}/jobs/{job['id']}"
    assert list(job) == keys
    assert [job[name] for name in keys[5:]] == [None, None, None]

    await home.start(job["id"].replace("job-", "run-"))
    going = (await client.get(address)).json()
    assert (going["startedAt"] is None, going["finishedAt"], going["status"]) == (False, None, None)

    await home.finish(job["id"].replace("job-", "run-"))
    ended = (await client.get(address)).json()
    assert list(ended) == keys
    assert wrong(ended, JOB_OF_2021) == []
    assert (ended["finishedAt"] is None, ended["status"]) == (False, "succeeded")


async def test_today_a_status_is_always_told_and_unset_is_left_out(client: httpx2.AsyncClient, home: Home) -> None:
    service_id = await add_service(home, ServiceType.WEB_SERVICE)
    job = await create(client, "/render/v1", service_id)
    assert job["status"] == "pending"
    assert not {"startedAt", "finishedAt"} & job.keys()
    run_id, address = job["id"].replace("job-", "run-"), f"/render/v1/services/{service_id}/jobs/{job['id']}"
    await home.start(run_id)
    going = (await client.get(address)).json()
    assert (going["status"], "startedAt" in going, "finishedAt" in going) == ("running", True, False)
    await home.finish(run_id)
    ended = (await client.get(address)).json()
    assert (ended["status"], wrong(ended, JOB)) == ("succeeded", [])


@BOTH
async def test_a_run_made_anywhere_is_a_job_here_and_the_other_way_round(
    client: httpx2.AsyncClient, home: Home, face: str
) -> None:
    service_id = await add_service(home, ServiceType.WEB_SERVICE)
    run = (await client.post(f"/api/v1/services/{service_id}/runs", json={"command": ["echo", "a b"]})).json()
    job = await create(client, face, service_id)
    assert await ids_of(client, f"{face}/services/{service_id}/jobs") == [job["id"], "job-" + run["id"][4:]]
    assert (await client.get(f"/api/v1/runs/run-{job['id'][4:]}")).json()["shell"] == "echo hi"
    seen = (await client.get(f"{face}/services/{service_id}/jobs/job-{run['id'][4:]}")).json()
    assert seen["startCommand"] == "echo 'a b'"


@BOTH
async def test_a_plan_is_honoured_told_and_must_be_of_the_services_class(
    client: httpx2.AsyncClient, home: Home, face: str
) -> None:
    worker = await add_service(home, ServiceType.BACKGROUND_WORKER)
    cron = await add_service(home, ServiceType.CRON_JOB, "shop/production/nightly")
    assert (await create(client, face, worker, planId="plan-srv-008"))["planId"] == "plan-srv-008"
    assert (await create(client, face, cron, planId="plan-crn-005"))["planId"] == "plan-crn-005"
    for nothing in ("", None):
        assert (await create(client, face, worker, planId=nothing))["planId"] == "plan-srv-006"
    for service, plan, allowed in (
        (worker, "plan-crn-003", "plan-srv-006, plan-srv-008"),
        (cron, "plan-srv-006", "plan-crn-003, plan-crn-005"),
        (cron, "plan-crn-002", "plan-crn-003, plan-crn-005"),
    ):
        body = {"startCommand": "echo hi", "planId": plan}
        assert allowed in check_error(await client.post(f"{face}/services/{service}/jobs", json=body), 400)


@BOTH
async def test_the_cursor_of_the_last_item_gives_an_empty_list(
    client: httpx2.AsyncClient, home: Home, face: str
) -> None:
    service_id = await add_service(home, ServiceType.WEB_SERVICE)
    made = [(await create(client, face, service_id))["id"] for _ in range(5)]
    address = f"{face}/services/{service_id}/jobs"
    seen: list[str] = []
    page = (await client.get(address, params={"limit": 2})).json()
    while page:
        assert all(wrong(each, listed("job", FACES[face])) == [] and len(each["cursor"]) == 32 for each in page)
        seen += [each["job"]["id"] for each in page]
        page = (await client.get(address, params={"limit": 2, "cursor": page[-1]["cursor"]})).json()
    assert seen == made[::-1]


async def test_clients_that_disagree_about_arrays_get_the_same(client: httpx2.AsyncClient, home: Home) -> None:
    service_id = await add_service(home, ServiceType.WEB_SERVICE)
    pending, running, ended = [(await create(client, "/render/v1", service_id))["id"] for _ in range(3)]
    await home.start(running.replace("job-", "run-"))
    await home.start(ended.replace("job-", "run-"))
    await home.finish(ended.replace("job-", "run-"))
    address = f"/render/v1/services/{service_id}/jobs?"
    for query in ("status=pending,succeeded", "status=pending&status=succeeded", "status[]=pending&status[]=succeeded"):
        assert await ids_of(client, address + query) == [ended, pending], query
    assert await ids_of(client, address + "status=running") == [running]
    assert "pending, running, succeeded" in check_error(await client.get(address + "status=queued"), 400)


async def test_lists_are_bounded_by_each_of_the_three_times(client: httpx2.AsyncClient, home: Home) -> None:
    service_id = await add_service(home, ServiceType.WEB_SERVICE)
    first, second = [await create(client, "/render/v1", service_id) for _ in range(2)]
    run_id = first["id"].replace("job-", "run-")
    await home.start(run_id)
    await home.finish(run_id)
    ended = (await client.get(f"/render/v1/services/{service_id}/jobs/{first['id']}")).json()
    address = f"/render/v1/services/{service_id}/jobs"

    async def asked(**query: str) -> list[str]:
        response = await client.get(address, params=query)
        assert response.status_code == 200, response.text
        return [each["job"]["id"] for each in response.json()]

    assert await asked(createdAfter=first["createdAt"]) == [second["id"]]
    assert await asked(createdBefore=second["createdAt"]) == [first["id"]]
    for name in ("started", "finished"):
        moment = datetime.fromisoformat(ended[f"{name}At"])
        before, after = (moment - timedelta(microseconds=1)).isoformat(), (moment + timedelta(seconds=1)).isoformat()
        assert await asked(**{f"{name}After": before, f"{name}Before": after}) == [first["id"]]
        assert await asked(**{f"{name}After": ended[f"{name}At"]}) == []
        assert await asked(**{f"{name}Before": ended[f"{name}At"]}) == []
    # A `+` that was not escaped arrives as a blank.
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert await ids_of(client, f"{address}?createdBefore={later}") == [second["id"], first["id"]]


@BOTH
async def test_cancel_ends_a_pending_job_and_leaves_an_ended_one(
    client: httpx2.AsyncClient, home: Home, face: str
) -> None:
    service_id = await add_service(home, ServiceType.WEB_SERVICE)
    job = await create(client, face, service_id)
    for _ in range(2):
        response = await client.post(f"{face}/services/{service_id}/jobs/{job['id']}/cancel")
        assert response.status_code == 200
        assert response.json()["status"] == "canceled"
        assert wrong(response.json(), FACES[face]) == []
    assert (await client.get(f"/api/v1/runs/run-{job['id'][4:]}")).json()["status"] == "canceled"


@BOTH
async def test_a_job_of_another_service_is_not_found(client: httpx2.AsyncClient, home: Home, face: str) -> None:
    one = await add_service(home, ServiceType.WEB_SERVICE)
    other = await add_service(home, ServiceType.WEB_SERVICE, "shop/production/other")
    job = await create(client, face, one)
    for job_id in (job["id"], "job-" + "0" * 20, "run-" + job["id"][4:], "nothing"):
        assert job_id in check_error(await client.get(f"{face}/services/{other}/jobs/{job_id}"), 404)
        check_error(await client.post(f"{face}/services/{other}/jobs/{job_id}/cancel"), 404)


@BOTH
async def test_what_is_wrong_with_a_request_is_a_400_that_names_it(
    client: httpx2.AsyncClient, home: Home, face: str
) -> None:
    address = f"{face}/services/{await add_service(home, ServiceType.WEB_SERVICE)}/jobs"
    for body in ({}, {"startCommand": ""}, {"startCommand": "  "}, {"startCommand": 7}, {"startCommand": "a\0b"}):
        assert "startCommand" in check_error(await client.post(address, json=body), 400)
    for content in (b"{", b"\xff", b"[]", b"[" * 100_000):
        check_error(await client.post(address, content=content), 400)
    for query in ("limit=0", "limit=101", "limit=x", "cursor=x", "cursor=ZXZ0czAwMA", "createdBefore=soon"):
        name = query.partition("=")[0]
        assert name in check_error(await client.get(f"{address}?{query}"), 400)
    empty = (await client.post("/api/v1/services", json={"path": "shop/production/empty"})).json()["id"]
    told = check_error(await client.post(f"{face}/services/{empty}/jobs", json={"startCommand": "x"}), 400)
    assert "no live image" in told


@BOTH
async def test_lists_of_a_service_that_is_gone_show_its_jobs_and_an_unknown_one_is_not_found(
    client: httpx2.AsyncClient, home: Home, face: str
) -> None:
    service_id = await add_service(home, ServiceType.WEB_SERVICE)
    job = await create(client, face, service_id)
    await client.post(f"{face}/services/{service_id}/jobs/{job['id']}/cancel")
    assert (await client.delete(f"/api/v1/services/{service_id}")).status_code == 204
    assert await ids_of(client, f"{face}/services/{service_id}/jobs") == [job["id"]]
    check_error(await client.get(f"{face}/services/srv-{'0' * 20}/jobs"), 404)


@BOTH
async def test_the_same_idempotency_key_gives_the_same_job(client: httpx2.AsyncClient, home: Home, face: str) -> None:
    address = f"{face}/services/{await add_service(home, ServiceType.WEB_SERVICE)}/jobs"
    send = {"json": {"startCommand": "echo hi"}, "headers": {"Idempotency-Key": "once"}}
    first, second = [(await client.post(address, **send)).json() for _ in range(2)]  # type: ignore[arg-type]
    assert first == second
