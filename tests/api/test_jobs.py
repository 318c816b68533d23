"""Saved jobs over HTTP."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from oneoff.api.bodies import ChangeJob
from oneoff.api.shapes import JobShape, RerunShape, RunShape
from tests.api.test_everywhere import check_problem
from tests.operations.home import Home

pytestmark = pytest.mark.anyio
Client = httpx2.AsyncClient


async def saved(client: Client, home: Home, name: str = "migrate", **more: Any) -> dict[str, Any]:
    if not (await client.get("/services", params={"path": "shop/production/web"})).json()["items"]:
        await home.add_service()
    body = {"service": "shop/production", "name": name, "command": ["migrate"], **more}
    response = await client.post("/jobs", json=body)
    assert response.status_code == 201, response.text
    job: dict[str, Any] = response.json()
    return job


async def test_a_job_is_saved_listed_and_looked_at(client: Client, home: Home) -> None:
    job = await saved(client, home, timeout_seconds=60, variables={"A": "1", "B": {"value": "2", "secret": True}})
    assert list(job) == list(JobShape.model_fields)
    assert (job["service"], job["command"], job["shell"], job["timeout_seconds"]) == (
        "shop/production/web", ["migrate"], None, 60,
    )  # fmt: skip
    assert job["variables"] == {"A": {"value": None, "secret": False}, "B": {"value": None, "secret": True}}
    assert (await client.get(f"/jobs/{job['id']}")).json() == job
    second = await saved(client, home, "seed")
    page = (await client.get("/jobs", params={"limit": 1})).json()
    assert [each["name"] for each in page["items"]] == ["seed"]
    rest = await client.get("/jobs", params={"limit": 1, "cursor": page["next_cursor"]})
    assert rest.json() == {"items": [job], "next_cursor": None}
    found = await client.get("/jobs", params={"service": second["service_id"], "name": "seed"})
    assert found.json()["items"] == [second]


async def test_values_are_shown_only_to_an_admin_who_asks(client: Client, home: Home) -> None:
    job = await saved(client, home, variables={"A": "1"})
    shown = (await client.get(f"/jobs/{job['id']}", params={"reveal": "true"})).json()
    assert shown["variables"] == {"A": {"value": "1", "secret": False}}
    token = (await client.post("/tokens", json={"name": "ci"})).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    refused = await client.get(f"/jobs/{job['id']}", params={"reveal": "true"}, headers=headers)
    check_problem(refused, 403, "not_allowed")


async def test_running_a_job_answers_with_the_run_and_lists_it_under_the_job(client: Client, home: Home) -> None:
    job = await saved(client, home)
    headers = {"Oneoff-Client": "cli", "Idempotency-Key": "k"}
    response = await client.post(f"/jobs/{job['id']}/runs", json={"arguments": ["--fake"]}, headers=headers)
    assert response.status_code == 201
    run = response.json()
    assert list(run) == list(RunShape.model_fields)
    assert (run["job_id"], run["command"], run["trigger"]) == (job["id"], ["migrate", "--fake"], "manual")
    again = await client.post(f"/jobs/{job['id']}/runs", json={"arguments": ["--fake"]}, headers=headers)
    assert again.json()["id"] == run["id"]
    other = await client.post(f"/jobs/{job['id']}/runs", json={}, headers=headers)
    check_problem(other, 409, "idempotency_key_reused")
    listed = (await client.get("/runs", params={"job": job["id"]})).json()["items"]
    assert [each["id"] for each in listed] == [run["id"]]


async def test_a_job_runs_as_it_is_without_a_body_and_once_for_a_key(client: Client, home: Home) -> None:
    job = await saved(client, home)
    made = [await client.post(f"/jobs/{job['id']}/runs", headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [each.status_code for each in made] == [201, 201]
    assert made[0].json() == made[1].json()
    assert made[0].json()["command"] == ["migrate"]
    other = await client.post(f"/jobs/{job['id']}/runs", json={"timeout_seconds": 9}, headers={"Idempotency-Key": "k"})
    check_problem(other, 409, "idempotency_key_reused")


async def test_null_sets_the_default_of_every_setting_of_a_job(client: Client, home: Home) -> None:
    settings = {
        "entrypoint": "clear", "instance_type": "plan-srv-008", "timeout_seconds": 60, "retries": {"count": 2},
        "retention": {"runs": 3}, "concurrency_group": "db", "gate": "after_deploy", "must_end_by": "08:00",
        "warn_seconds": 5, "variables": {"A": "1"},
    }  # fmt: skip
    assert settings.keys() == ChangeJob.model_fields.keys() - {"name", "command", "shell"}
    job, plain = await saved(client, home, **settings), await saved(client, home, "plain")
    untouched = (await client.patch(f"/jobs/{job['id']}", json={"variables": {}})).json()
    assert untouched["variables"] == job["variables"]
    changed = (await client.patch(f"/jobs/{job['id']}", json=dict.fromkeys(settings))).json()
    assert {name: changed[name] for name in settings} == {name: plain[name] for name in settings}
    check_problem(await client.patch(f"/jobs/{job['id']}", json={"name": None}), 422, "invalid_name")
    check_problem(await client.patch(f"/jobs/{job['id']}", json={"shell": None}), 422, "invalid_command")


async def test_a_job_is_changed_field_by_field(client: Client, home: Home) -> None:
    job = await saved(client, home, timeout_seconds=60, variables={"A": "1", "B": "2"})
    body = {"timeout_seconds": None, "shell": "true", "variables": {"A": None, "C": "3"}}
    changed = (await client.patch(f"/jobs/{job['id']}", json=body)).json()
    assert (changed["timeout_seconds"], changed["command"], changed["shell"]) == (None, None, "true")
    assert list(changed["variables"]) == ["B", "C"]
    assert changed["name"] == "migrate"


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"name": "Migrate"}, "invalid_name", "name"),
        ({"command": None}, "invalid_command", "command"),
        ({"shell": "true"}, "invalid_command", "command"),
        ({"timeout_seconds": 0}, "invalid_body", "timeout_seconds"),
        ({"instance_type": "huge"}, "unknown_instance_type", "instance_type"),
        ({"variables": {"ONEOFF_X": "1"}}, "invalid_variables", "variables"),
        ({"variables": {"A": None}}, "invalid_body", "variables.A"),
        ({"nme": "x"}, "invalid_body", "nme"),
        ({"command": ["echo", *["x" * 100_000] * 11]}, "invalid_command", "command"),
        ({"concurrency_group": "DB"}, "invalid_group", "concurrency_group"),
        ({"must_end_by": "25:00"}, "invalid_time_of_day", "must_end_by"),
        ({"must_end_by": "08:00 Mars"}, "unknown_time_zone", "must_end_by"),
    ],
)
async def test_a_job_that_breaks_a_rule_is_refused_naming_the_field(
    client: Client, home: Home, body: dict[str, Any], code: str, field: str
) -> None:
    await home.add_service()
    asked = {"service": "shop/production", "name": "migrate", "command": ["true"]} | body
    assert check_problem(await client.post("/jobs", json=asked), 422, code)["field"] == field


async def test_a_job_of_an_unknown_service_and_a_second_of_its_name_are_refused(client: Client, home: Home) -> None:
    await saved(client, home)
    body = {"service": "shop/staging", "name": "migrate", "command": ["true"]}
    check_problem(await client.post("/jobs", json=body), 404, "not_found")
    check_problem(await client.post("/jobs", json=body | {"service": "shop/production"}), 409, "already_exists")


async def test_a_service_with_jobs_is_deleted_only_with_them(client: Client, home: Home) -> None:
    job = await saved(client, home)
    address = f"/services/{job['service_id']}"
    check_problem(await client.delete(address), 409, "service_has_jobs")
    assert (await client.delete(address, params={"with_jobs": "true"})).status_code == 204
    check_problem(await client.get(f"/jobs/{job['id']}"), 404, "not_found")


async def test_a_deleted_job_is_gone(client: Client, home: Home) -> None:
    job = await saved(client, home)
    assert (await client.delete(f"/jobs/{job['id']}")).status_code == 204
    check_problem(await client.delete(f"/jobs/{job['id']}"), 404, "not_found")


async def test_a_rerun_answers_with_the_run_and_the_difference_to_now(client: Client, home: Home) -> None:
    job = await saved(client, home, variables={"A": {"value": "hidden-value", "secret": True}})
    run = (await client.post(f"/jobs/{job['id']}/runs", json={})).json()
    await client.patch(f"/jobs/{job['id']}", json={"variables": {"A": "other-value"}})
    response = await client.post(f"/runs/{run['id']}/rerun", headers={"Idempotency-Key": "k"})
    assert response.status_code == 201, response.text
    again = response.json()
    assert list(again) == list(RerunShape.model_fields)
    assert (again["rerun_of"], again["job_id"]) == (run["id"], job["id"])
    assert again["difference"] == {
        "digest": None, "command": None, "instance_type": None,
        "variables": {"changed": ["A"], "only_then": [], "only_now": []},
    }  # fmt: skip
    assert "hidden-value" not in response.text
    repeated = await client.post(f"/runs/{run['id']}/rerun", headers={"Idempotency-Key": "k"})
    assert repeated.json() == again


async def test_a_groups_limit_is_set_and_listed(client: Client, home: Home) -> None:
    await saved(client, home, concurrency_group="db")
    response = await client.put("/concurrency-groups/db", json={"limit": 2})
    assert response.json() == {"name": "db", "limit": 2, "going": 0}
    listed = (await client.get("/concurrency-groups")).json()
    assert listed == {"items": [{"name": "db", "limit": 2, "going": 0}], "next_cursor": None}
    check_problem(await client.put("/concurrency-groups/DB", json={"limit": 2}), 422, "invalid_group")
