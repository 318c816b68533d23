"""Usage over HTTP: what is told apart, which days, lost runs, and the refusals."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import httpx2
import pytest

from oneoff.api.usage_shapes import UsageLineShape
from oneoff.core.command import Command
from oneoff.core.instance_types import CATALOGUE
from oneoff.core.run import Reason, RunStatus, Trigger
from oneoff.operations import runs as operations
from oneoff.operations.runs import Origin, RunRequest
from oneoff.store import runs
from tests.api.test_everywhere import check_problem
from tests.api.test_jobs import saved
from tests.operations.home import Home
from tests.operations.test_crons import StillClock

pytestmark = pytest.mark.anyio
Client = httpx2.AsyncClient
MARCH = datetime(2026, 3, 1, tzinfo=UTC)
RATE = Fraction(7, 30 * 86_400)


class Past:
    """Ended runs, put into the store as they are wished."""

    def __init__(self, home: Home, service_id: str) -> None:
        self.home, self.service_id = home, service_id

    async def add(self, day: int, seconds: float, job_id: str | None = None, **changes: Any) -> str:
        """One that ended at noon of that day of March."""
        context = self.home.context
        request, origin = RunRequest(Command(("true",))), Origin("tester", Trigger.API)
        run = await operations.accept_run(context, self.service_id, request, origin)
        box = await context.database.read(lambda c: runs.fetch_sealed_variables(c, run.id))
        end = MARCH + timedelta(days=day - 1, hours=12)
        ended = {"status": RunStatus.SUCCEEDED, "reason": Reason.COMPLETED, "job_id": job_id, "finished_at": end}
        copy = run._replace(
            **{"id": context.new_id("run"), "started_at": end - timedelta(seconds=seconds), **ended, **changes}
        )
        await context.database.run(lambda c: runs.save_new(c, copy, box))
        return copy.id


@pytest.fixture
def home(home: Home) -> Home:
    clock = StillClock()
    clock.time = MARCH + timedelta(days=19)
    home.context = replace(home.context, clock=clock)
    return home


@pytest.fixture
async def past(home: Home) -> Past:
    return Past(home, (await home.add_service()).id)


async def usage(client: Client, **query: Any) -> dict[str, Any]:
    answer = await client.get("/usage", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert all(list(each) == list(UsageLineShape.model_fields) for each in found["items"])
    return found


async def test_usage_is_told_apart_by_service_job_type_and_day(client: Client, home: Home, past: Past) -> None:
    job = await saved(client, home)
    for day, seconds, job_id in ((1, 10, job["id"]), (1, 0.5, None), (2, 30, job["id"]), (19, 1, "jdf-" + "0" * 20)):
        await past.add(day, seconds, job_id)
    all_of_it = await usage(client)
    assert (all_of_it["from"], all_of_it["to"], all_of_it["by"]) == ("2026-03-01", "2026-03-20", ["service"])
    assert [(each["service"], each["runs"], each["seconds"]) for each in all_of_it["items"]] == [
        ("shop/production/web", 4, 42)
    ]
    assert all_of_it["total"] == {"runs": 4, "seconds": 42, "cost_usd": "0.000113"}
    by_job = await usage(client, by=["job", "day"])
    assert [(each["day"], each["job"], each["seconds"]) for each in by_job["items"]] == [
        ("2026-03-01", None, 1), ("2026-03-01", "migrate", 10), ("2026-03-02", "migrate", 30), ("2026-03-19", None, 1),
    ]  # fmt: skip
    assert {each["service"] for each in by_job["items"]} == {None}
    assert [each["instance_type"] for each in (await usage(client, by="instance_type"))["items"]] == ["plan-srv-006"]


async def test_days_are_those_of_the_ends_and_both_are_included(client: Client, past: Past) -> None:
    midnight = MARCH + timedelta(days=1)
    await past.add(1, 1, started_at=MARCH - timedelta(days=3))
    await past.add(1, 1, started_at=midnight - timedelta(seconds=2), finished_at=midnight)
    query = {"by": "day", "from": "2026-03-01", "to": "2026-03-01"}
    assert [each["seconds"] for each in (await usage(client, **query))["items"]] == [3 * 86_400 + 43_200]
    both = await usage(client, **query | {"to": "2026-03-02"})
    assert [(each["day"], each["seconds"]) for each in both["items"]][1:] == [("2026-03-02", 2)]
    assert (await usage(client, **{"from": "2026-02-01", "to": "2026-02-28"}))["items"] == []
    assert (await usage(client, to="2026-02-28"))["from"] == "2026-02-01"


async def test_lost_runs_count_up_to_the_last_moment_seen_and_those_that_never_started_not_at_all(
    client: Client, past: Past
) -> None:
    noon = MARCH + timedelta(hours=12)
    lost = {"status": RunStatus.FAILED, "reason": Reason.LOST}
    run_id = await past.add(1, 100, seen_at=noon - timedelta(seconds=60), **lost)
    await past.add(1, 100, seen_at=None, **lost)
    await past.add(1, 100, started_at=None, status=RunStatus.CANCELED, reason=Reason.CANCELED)
    found = await usage(client)
    assert (found["total"]["runs"], found["total"]["seconds"]) == (2, 41)
    shown = (await client.get(f"/runs/{run_id}")).json()
    assert (shown["duration_seconds"], shown["cost_usd"]) == (40.0, "0.000108")


async def test_a_run_costs_what_its_type_cost_when_it_was_made(client: Client, home: Home, past: Past) -> None:
    run_id = await past.add(1, 3600)
    changed = [replace(each, usd_per_second=Fraction(1)) for each in CATALOGUE]
    home.context = replace(home.context, catalogue=changed)
    later = await past.add(1, 2)
    assert (await client.get(f"/runs/{run_id}")).json()["cost_usd"] == "0.009722"
    assert (await client.get(f"/runs/{later}")).json()["cost_usd"] == "2.000000"
    assert (await usage(client))["total"]["cost_usd"] == "2.009722"


async def test_sums_are_taken_before_rounding(client: Client, past: Past) -> None:
    for day in range(1, 11):
        await past.add(day, 0.5)
    found = await usage(client, by="day")
    assert {each["cost_usd"] for each in found["items"]} == {"0.000003"}
    assert found["total"]["cost_usd"] == "0.000027"


async def test_csv_has_the_columns_that_were_asked_for(client: Client, past: Past) -> None:
    await past.add(1, 10)
    answer = await client.get("/usage", params={"by": ["day", "service"], "format": "csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="usage-2026-03-01-2026-03-20.csv"' in answer.headers["content-disposition"]
    [row] = list(csv.DictReader(io.StringIO(answer.text)))
    assert list(row) == ["day", "service_id", "service", "runs", "seconds", "cost_usd"]
    assert (row["day"], row["service"], row["cost_usd"]) == ("2026-03-01", "shop/production/web", "0.000027")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": "2026-03-02", "to": "2026-03-01"}, "from"),
        ({"from": "yesterday"}, "from"),
        ({"by": "weekday"}, "by.0"),
        ({"format": "xml"}, "format"),
    ],
)
async def test_what_makes_no_sense_is_refused(client: Client, query: dict[str, str], field: str) -> None:
    problem = check_problem(await client.get("/usage", params=query), 422, "invalid_body")
    assert problem["field"] == field
