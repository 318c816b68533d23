"""Crons, their ticks and pauses over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from oneoff.api.cron_shapes import CreateCron, CronShape, TickShape
from oneoff.core.ticks import TickOutcome
from oneoff.store import ticks
from oneoff.store.ticks import Tick
from tests.api.test_everywhere import check_problem
from tests.operations.home import Home

pytestmark = pytest.mark.anyio
Client = httpx2.AsyncClient
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
async def job_id(client: Client, home: Home) -> str:
    service = await home.add_service()
    made = await client.post("/jobs", json={"service": service.id, "name": "backup", "command": ["true"]})
    return str(made.json()["id"])


async def made(client: Client, job_id: str, **more: Any) -> dict[str, Any]:
    response = await client.post("/crons", json={"job": job_id, "expression": "30 2 * * *", **more})
    assert response.status_code == 201, response.text
    cron: dict[str, Any] = response.json()
    return cron


async def test_a_cron_is_made_listed_changed_and_deleted(client: Client, job_id: str) -> None:
    cron = await made(client, job_id, time_zone="Europe/Berlin", overlap="queue", jitter_seconds=60)
    assert list(cron) == list(CronShape.model_fields)
    assert (cron["job"], cron["name"], cron["description"]) == (
        "shop/production/web:backup", "schedule", "At 02:30, every day",
    )  # fmt: skip
    assert (cron["dst_policy"], cron["overlap"], len(cron["next"])) == ("debian", "queue", 5)
    assert cron["next"][0]["local"].endswith("T02:30")
    assert (await client.get(f"/crons/{cron['id']}")).json() == cron
    assert [c["id"] for c in (await client.get("/crons", params={"job": job_id})).json()["items"]] == [cron["id"]]
    assert (await client.get("/crons", params={"job": "jdf-" + "0" * 20})).json()["items"] == []
    changed = (await client.patch(f"/crons/{cron['id']}", json={"expression": "@hourly", "overlap": None})).json()
    assert (changed["expression"], changed["overlap"], changed["jitter_seconds"]) == ("@hourly", "skip", 60)
    assert (await client.delete(f"/crons/{cron['id']}")).status_code == 204
    check_problem(await client.get(f"/crons/{cron['id']}"), 404, "not_found")
    assert (await client.get(f"/jobs/{job_id}")).status_code == 200


async def test_null_is_the_default_when_a_cron_is_made(client: Client, job_id: str) -> None:
    given = {"job", "expression"}
    bare, nulls = [
        await made(client, job_id, **more) for more in ({}, dict.fromkeys(set(CreateCron.model_fields) - given))
    ]
    own = {"id", "name", "created_at"}
    assert {k: v for k, v in nulls.items() if k not in own} == {k: v for k, v in bare.items() if k not in own}
    assert nulls["name"] == "schedule-2"


async def test_a_cron_is_made_once_for_one_idempotency_key(client: Client, job_id: str) -> None:
    body = {"job": job_id, "expression": "@daily"}
    both = [await client.post("/crons", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert both[0].json()["id"] == both[1].json()["id"]


@pytest.mark.parametrize(
    ("more", "code", "field"),
    [
        ({"expression": "0 0 0 * * *"}, "invalid_cron", "expression"),
        ({"expression": "@reboot"}, "invalid_cron", "expression"),
        ({"time_zone": "Berlin/Europe"}, "unknown_time_zone", "time_zone"),
        ({"overlap": "maybe"}, "invalid_body", "overlap"),
        ({"jitter_seconds": 86400}, "invalid_schedule", "jitter_seconds"),
        ({"catch_up_window_seconds": 1}, "invalid_schedule", "catch_up_window_seconds"),
        ({"ends_at": "2020-01-01T00:00:00Z"}, "invalid_schedule", "ends_at"),
        ({"starts_at": "2030-01-01T00:00:00"}, "invalid_schedule", "starts_at"),
        ({"starts_at": "9999-12-31T23:59:59-10:00"}, "invalid_schedule", "starts_at"),
        ({"name": "A B"}, "invalid_name", "name"),
        ({"alert_after_ticks": 0}, "invalid_body", "alert_after_ticks"),
    ],
)
async def test_what_breaks_a_rule_is_refused_naming_the_field(
    client: Client, job_id: str, more: dict[str, Any], code: str, field: str
) -> None:
    response = await client.post("/crons", json={"job": job_id, "expression": "30 2 * * *", **more})
    assert check_problem(response, 422, code)["field"] == field


async def test_a_preview_shows_both_clocks_and_what_a_change_of_the_clocks_does(client: Client) -> None:
    body = {"expression": "30 2 * * *", "time_zone": "Europe/Berlin", "dst_policy": "skip", "count": 100}
    told = (await client.post("/crons/preview", json={**body, "expression": "30 1,2 * 3,10 *"})).json()
    assert told["description"] == "At 01:30 and 02:30, every day, in March and October"
    assert {"skipped_in_gap", "first_of_two"} >= {each["mark"] for each in told["items"]} - {None}
    assert any(each["mark"] for each in told["items"])
    check_problem(await client.post("/crons/preview", json={**body, "expression": "x"}), 422, "invalid_cron")


async def test_pauses_of_a_cron_its_environment_and_the_workspace_are_told_apart(client: Client, job_id: str) -> None:
    cron = await made(client, job_id)
    environment = (await client.get("/environments")).json()["items"][0]["id"]
    address = f"/crons/{cron['id']}"
    assert (await client.post(f"{address}/pause")).json()["paused_by"] == "cron"
    assert (await client.post(f"/environments/{environment}/pause")).json() == {"crons_paused": True}
    assert (await client.get(address)).json()["paused_by"] == "environment"
    await client.post("/workspace/pause")
    assert (await client.get(address)).json()["paused_by"] == "workspace"
    await client.post("/workspace/resume")
    await client.post(f"/environments/{environment}/resume")
    resumed = (await client.post(f"{address}/resume")).json()
    assert (resumed["paused"], resumed["paused_by"]) == (False, None)


async def test_ticks_are_listed_newest_first_by_pages_and_outcomes(client: Client, home: Home, job_id: str) -> None:
    cron = await made(client, job_id)
    address = f"/crons/{cron['id']}/ticks"
    assert (await client.get(address)).json() == {"items": [], "next_cursor": None}
    rows = [Tick(cron["id"], AT + timedelta(minutes=n), TickOutcome.FIRED, AT) for n in range(3)]
    rows.append(Tick(cron["id"], AT - timedelta(days=9), TickOutcome.MISSED, AT, until=AT, count=2000, message="why"))
    await home.context.database.run(lambda c: ticks.save_new(c, rows))
    page = (await client.get(address, params={"limit": 3})).json()
    assert [each["due_at"][11:16] for each in page["items"]] == ["12:02", "12:01", "12:00"]
    assert list(page["items"][0]) == list(TickShape.model_fields)
    rest = (await client.get(address, params={"limit": 3, "cursor": page["next_cursor"]})).json()
    assert [(each["count"], each["until"], each["message"]) for each in rest["items"]] == [
        (2000, "2026-03-01T12:00:00Z", "why")
    ]
    missed = (await client.get(address, params={"outcome": "missed"})).json()
    assert missed["items"] == rest["items"]
    check_problem(await client.get(address, params={"cursor": "eHg"}), 400, "invalid_cursor")
