"""The plan over HTTP: shown, changed, and what it does to requests and tokens."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from oneoff.api.plan_shapes import ChangedPlan, CurrentPlan
from oneoff.core.plan import PLANS
from tests.api.test_everywhere import check_problem
from tests.api.test_jobs import saved
from tests.operations.home import Home
from tests.operations.test_crons import StillClock

pytestmark = pytest.mark.anyio
Client = httpx2.AsyncClient


@pytest.fixture
def home(home: Home) -> Home:
    home.context = replace(home.context, clock=StillClock())
    return home


def turn(home: Home, seconds: float) -> None:
    home.context.clock.time += timedelta(seconds=seconds)  # type: ignore[attr-defined]


async def as_other(client: Client, *, admin: bool = False) -> dict[str, str]:
    """Headers of a new token."""
    made = await client.post("/tokens", json={"name": "ci", "admin": admin})
    assert made.status_code == 201, made.text
    return {"Authorization": f"Bearer {made.json()['token']}"}


async def give_plan(client: Client, home: Home, plan: str, **query: Any) -> dict[str, Any]:
    changed = await client.patch("/plan", json={"plan": plan}, params=query)
    assert changed.status_code == 200, changed.text
    turn(home, 2)  # tokens are remembered for a second
    found: dict[str, Any] = changed.json()
    return found


async def test_the_plan_is_shown_with_what_is_in_use_and_with_the_others(client: Client) -> None:
    now = (await client.get("/plan")).json()
    assert list(now) == list(CurrentPlan.model_fields)
    assert (now["id"], now["runs_going"], now["tokens_in_use"]) == ("team", 0, 1)
    assert now["plan"] == now["offered"][2]
    assert [each["id"] for each in now["offered"]] == list(PLANS)
    assert now["plan"]["longest_run_seconds"] == 30 * 86_400


async def test_only_an_admin_changes_the_plan_and_only_to_one_there_is(client: Client) -> None:
    other = await as_other(client)
    check_problem(await client.patch("/plan", json={"plan": "pro"}, headers=other), 403, "not_allowed")
    problem = check_problem(await client.patch("/plan", json={"plan": "gold"}), 422, "unknown_plan")
    assert (problem["field"], "one of starter, pro, team" in problem["detail"]) == ("plan", True)
    assert (await client.get("/plan", headers=other)).json()["id"] == "team"


async def test_a_downgrade_tells_what_it_blocks_and_deletes_nothing(client: Client, home: Home) -> None:
    long = await saved(client, home, "long", timeout_seconds=90_000)
    job = await saved(client, home, "job", timeout_seconds=86_400)
    for expression in ("* * * * *", "*/5 * * * *"):
        made = await client.post("/crons", json={"job": job["id"], "expression": expression})
        assert made.status_code == 201, made.text
    for _ in range(5):
        await as_other(client)
    looked = await give_plan(client, home, "Pro", dry_run="true")
    assert list(looked) == list(ChangedPlan.model_fields)
    assert looked["id"] == "team"
    told = {each["kind"]: each for each in looked["effects"]}
    assert sorted(told) == ["cron", "job", "tokens"]
    assert (told["job"]["id"], told["job"]["name"]) == (long["id"], "shop/production/web:long")
    assert "25h" in told["job"]["message"] or "1d1h" in told["job"]["message"]
    assert told["cron"]["name"] == "shop/production/web:job schedule"
    assert "blocked_by_plan" in told["cron"]["message"]
    assert told["tokens"]["message"].startswith("6 tokens are in use, and the plan has 5")
    changed = await give_plan(client, home, "pro")
    assert (changed["id"], changed["effects"]) == ("pro", looked["effects"])
    assert len((await client.get("/crons")).json()["items"]) == 2
    assert len((await client.get("/tokens")).json()["items"]) == 6
    check_problem(await client.post("/tokens", json={"name": "one more"}), 403, "plan_tokens_used_up")
    check_problem(await client.post(f"/jobs/{long['id']}/runs", json={}), 422, "time_limit_too_long")
    assert (await client.post(f"/jobs/{job['id']}/runs", json={})).status_code == 201
    assert [each["kind"] for each in (await give_plan(client, home, "starter"))["effects"]] == ["runs", "tokens"]
    check_problem(await client.post(f"/jobs/{job['id']}/runs", json={}), 403, "plan_has_no_jobs")
    assert (await give_plan(client, home, "team"))["effects"] == []
    listed = (await client.get("/events", params={"kind": "plan.changed"})).json()["items"]
    assert [each["body"]["plan"] for each in listed] == ["team", "starter", "pro"]


async def test_a_token_has_so_many_requests_a_minute_and_each_answer_says_what_is_left(
    client: Client, home: Home
) -> None:
    other = await as_other(client)
    await give_plan(client, home, "pro")
    first = await client.get("/plan", headers=other)
    told = [first.headers[f"ratelimit-{name}"] for name in ("limit", "remaining", "reset")]
    assert told == ["100", "99", "60"]
    turn(home, 30)
    for _ in range(99):
        assert (await client.get("/no-such-address", headers=other)).status_code == 404
    refused = await client.get("/plan", headers=other)
    problem = check_problem(refused, 429, "too_many_requests")
    assert "go on in 30 s, or change to Team" in problem["detail"]
    assert refused.headers["retry-after"] == refused.headers["ratelimit-reset"] == "30"
    assert refused.headers["ratelimit-remaining"] == "0"
    assert (await client.get("/plan", headers=await as_other(client))).status_code == 200
    turn(home, 30)
    assert (await client.get("/plan", headers=other)).headers["ratelimit-remaining"] == "99"


async def test_the_admin_token_of_the_data_folder_is_never_limited(client: Client, home: Home, app: FastAPI) -> None:
    await give_plan(client, home, "pro")
    answers = [await client.get("/plan") for _ in range(150)]
    assert {each.status_code for each in answers} == {200}
    assert "ratelimit-limit" not in answers[0].headers
    other_admin = await as_other(client, admin=True)
    assert (await client.get("/plan", headers=other_admin)).headers["ratelimit-limit"] == "100"


async def test_a_plan_that_lets_nobody_in_lets_admins_change_it(client: Client, home: Home) -> None:
    other, admin = await as_other(client), await as_other(client, admin=True)
    await give_plan(client, home, "starter")
    check_problem(await client.get("/runs", headers=other), 403, "plan_has_no_jobs")
    assert (await client.patch("/plan", json={"plan": "pro"}, headers=admin)).status_code == 200
    turn(home, 2)
    assert (await client.get("/runs", headers=other)).status_code == 200
