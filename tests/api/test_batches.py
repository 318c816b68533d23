"""Batches over HTTP."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from oneoff.api.batch_shapes import BatchShape, CountsShape, ItemShape
from oneoff.engine.batching import advance
from oneoff.operations.batch_runs import ItemRuns
from tests.api.test_everywhere import check_problem
from tests.operations.home import Home

pytestmark = pytest.mark.anyio
Client = httpx2.AsyncClient


async def created(client: Client, home: Home, items: Any, **more: Any) -> dict[str, Any]:
    if not (found := (await client.get("/services", params={"path": "shop/production/web"})).json()["items"]):
        found = [{"id": (await home.add_service()).id}]
    body = {"command": ["work"], "items": items, **more}
    response = await client.post(f"/services/{found[0]['id']}/batches", json=body)
    assert response.status_code == 201, response.text
    batch: dict[str, Any] = response.json()
    return batch


async def go_on(home: Home, batch_id: str) -> None:
    make = ItemRuns(home.context).make
    await home.context.database.run(lambda c: advance(home.context, c, batch_id, make))


async def test_a_batch_is_created_looked_at_listed_and_canceled(client: Client, home: Home) -> None:
    given = ["a b", ["c", "d"], {"arguments": ["e"], "variables": {"A": "1", "B": {"value": "2", "secret": True}}}, {}]
    batch = await created(client, home, given, max_parallel=2, stop_on_failure=True)
    assert list(batch) == list(BatchShape.model_fields)
    assert list(batch["counts"]) == list(CountsShape.model_fields)
    assert (batch["status"], batch["item_count"], batch["counts"]["waiting"]) == ("running", 4, 4)
    await go_on(home, batch["id"])
    shown = (await client.get(f"/batches/{batch['id']}")).json()
    assert (shown["counts"]["queued"], shown["counts"]["waiting"]) == (2, 2)
    second = await created(client, home, ["x"])
    page = (await client.get("/batches", params={"limit": 1, "service": "shop/production"})).json()
    assert [each["id"] for each in page["items"]] == [second["id"]]
    rest = (await client.get("/batches", params={"cursor": page["next_cursor"], "status": "running"})).json()
    assert rest == {"items": [shown], "next_cursor": None}
    canceled = (await client.post(f"/batches/{batch['id']}/cancel")).json()
    assert (canceled["status"], canceled["canceled_by"], canceled["counts"]["canceled"]) == ("canceled", "admin", 4)
    again = await client.post(f"/batches/{batch['id']}/rerun-failed", params={"with_canceled": "true"})
    assert again.status_code == 201
    assert (again.json()["rerun_of"], again.json()["index_count"]) == (batch["id"], 4)
    check_problem(await client.post(f"/batches/{batch['id']}/rerun-failed"), 409, "nothing_to_rerun")
    address, key = f"/batches/{batch['id']}/rerun-failed?with_canceled=true", {"Idempotency-Key": "k"}
    both = [(await client.post(address, headers=key)).json()["id"] for _ in range(2)]
    assert both[0] == both[1]
    other = await client.post(f"{address}&live_image=true", headers=key)
    check_problem(other, 409, "idempotency_key_reused")


async def test_items_are_listed_with_their_runs_and_without_values(client: Client, home: Home) -> None:
    batch = await created(client, home, [{"arguments": ["a"], "variables": {"A": "hidden"}}, "b", "c"], max_parallel=2)
    await go_on(home, batch["id"])
    address = f"/batches/{batch['id']}/items"
    page = (await client.get(address, params={"limit": 2})).json()
    assert "hidden" not in str(page)
    assert [list(each) for each in page["items"]] == [list(ItemShape.model_fields)] * 2
    assert [(each["index"], each["status"], each["arguments"]) for each in page["items"]] == [
        (0, "queued", ["a"]), (1, "queued", ["b"]),
    ]  # fmt: skip
    assert page["items"][0]["variables"] == ["A"]
    rest = (await client.get(address, params={"limit": 2, "cursor": page["next_cursor"]})).json()
    assert [(each["index"], each["status"], each["run_id"]) for each in rest["items"]] == [(2, "waiting", None)]
    listed = (await client.get("/runs", params={"batch": batch["id"]})).json()["items"]
    assert {each["id"] for each in listed} == {each["run_id"] for each in page["items"]}
    assert {(each["batch_id"], each["trigger"]) for each in listed} == {(batch["id"], "batch")}
    assert {each["batch_index"] for each in listed} == {0, 1}
    await client.post(f"/batches/{batch['id']}/cancel")
    ended = (await client.get(address, params={"status": ["canceled", "failed"]})).json()["items"]
    assert [(each["status"], each["message"]) for each in ended] == [
        ("canceled", "canceled with its batch by admin before it started")
    ] * 3
    check_problem(await client.get(address, params={"cursor": "bm8"}), 400, "invalid_cursor")


async def test_a_batch_of_a_job_is_found_by_its_job(client: Client, home: Home) -> None:
    await home.add_service()
    job = (await client.post("/jobs", json={"service": "shop/production", "name": "seed", "shell": "seed"})).json()
    headers = {"Idempotency-Key": "k"}
    body = {"items": ["a"], "arguments": ["--all"], "variables": {"A": "1"}, "timeout_seconds": 60}
    made = await client.post(f"/jobs/{job['id']}/batches", json=body, headers=headers)
    assert made.status_code == 201
    assert (made.json()["shell"], made.json()["timeout_seconds"]) == ("seed --all", 60)
    assert (await client.post(f"/jobs/{job['id']}/batches", json=body, headers=headers)).json() == made.json()
    found = (await client.get("/batches", params={"job": job["id"]})).json()["items"]
    assert [each["id"] for each in found] == [made.json()["id"]]


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"items": []}, "invalid_batch", "items"),
        ({"items": ["a"] * 10_001}, "invalid_batch", "items"),
        ({"max_parallel": 0}, "invalid_batch", "max_parallel"),
        ({"items": ["a", ["nul\0"]]}, "invalid_item", "items.1"),
        ({"items": ["a", {"variables": {"ONEOFF_X": "1"}}]}, "invalid_item", "items.1"),
        ({"command": []}, "invalid_command", "command"),
        ({"variables": {"A": "\ud800"}}, "invalid_body", "variables.A"),
        ({"items": ["a", "\ud800"]}, "invalid_body", "items.1.arguments.0"),
        ({"items": [{"variables": {"A": "\ud800"}}]}, "invalid_body", "items.0.variables.A"),
        ({"items": [7]}, "invalid_body", "items.0"),
        ({"items": ["a", {"argument": ["a"]}]}, "invalid_body", "items.1.argument"),
        ({"timeout_seconds": 10**8}, "time_limit_too_long", "timeout_seconds"),
    ],
)
async def test_what_cannot_run_is_refused_and_nothing_is_saved(
    client: Client, home: Home, change: dict[str, Any], code: str, field: str
) -> None:
    service = await home.add_service()
    body = {"command": ["work"], "items": ["a"]} | change
    # As escapes, in which JSON may hold what UTF-8 cannot.
    content, headers = json.dumps(body), {"Content-Type": "application/json"}
    response = await client.post(f"/services/{service.id}/batches", content=content, headers=headers)
    problem = check_problem(response, 422, code)
    assert problem["field"] == field
    assert (await client.get("/batches")).json()["items"] == []


async def test_only_batches_may_have_a_large_body(client: Client, home: Home) -> None:
    service = await home.add_service()
    large = {"command": ["work"], "items": [["x" * 100_000] for _ in range(60)]}
    assert (await client.post(f"/services/{service.id}/batches", json=large)).status_code == 201
    headers = {"Content-Type": "application/json"}
    too_large = b"x" * ((64 << 20) + 1)
    refused = await client.post(f"/services/{service.id}/batches", content=too_large, headers=headers)
    check_problem(refused, 413, "body_too_large")
    for path in (f"/services/{service.id}/runs", "/batches"):
        check_problem(await client.post(path, content=b"x" * (5 << 20), headers=headers), 413, "body_too_large")
