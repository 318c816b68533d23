"""Crons as callers make, change and pause them, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from oneoff.core.command import make_command
from oneoff.core.ticks import TickOutcome
from oneoff.errors import (
    AlreadyExists,
    CronTooFrequent,
    InvalidCron,
    InvalidName,
    InvalidSchedule,
    NotFound,
    OneoffError,
    PlanHasNoJobs,
    UnknownTimeZone,
)
from oneoff.operations import crons, pauses
from oneoff.operations.crons import Cron, CronFilter, NewCron
from oneoff.operations.jobs import Job, NewJob, create_job
from oneoff.store import tables
from tests.operations.home import Home

pytestmark = pytest.mark.anyio
START = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)


class StillClock:
    """Says what the test wants."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return (self.time - START).total_seconds()

    async def sleep(self, _seconds: float) -> None:
        raise AssertionError("nobody sleeps here")


@pytest.fixture
async def clock(home: Home) -> StillClock:
    made = StillClock()
    home.context = replace(home.context, clock=made)
    return made


@pytest.fixture
async def job(home: Home, clock: StillClock) -> Job:
    service = await home.add_service()
    command = {"command": make_command(("true",), None).argv}
    return await create_job(home.context, NewJob(service.id, "backup", command))


async def add_cron(home: Home, job: Job, expression: str = "*/5 * * * *", **settings: Any) -> Cron:
    return await crons.create_cron(home.context, NewCron(job.id, {"expression": expression, **settings}))


async def outcomes(home: Home, cron: Cron) -> list[tuple[datetime, str, int]]:
    listed = await crons.list_ticks(home.context, cron.id, None, 100, None)
    return [(each.due_at, each.outcome.value, each.count) for each in reversed(listed)]


async def test_a_cron_is_due_at_its_first_instant_from_now_on(home: Home, job: Job) -> None:
    cron = await add_cron(home, job)
    assert (cron.name, cron.job, cron.zone, cron.overlap) == ("schedule", "shop/production/web:backup", "UTC", "skip")
    assert cron.next_due_at == START + timedelta(minutes=4, seconds=30)
    assert await crons.get_cron(home.context, cron.id) == cron
    assert await crons.list_crons(home.context, CronFilter(job_id=job.id), 10, None) == [cron]
    assert await crons.list_crons(home.context, CronFilter(service_id="srv-" + "0" * 20), 10, None) == []


async def test_a_job_may_have_several_crons_with_names_of_their_own(home: Home, job: Job) -> None:
    names = [(await add_cron(home, job, name=name)).name for name in (None, None, "nightly")]
    assert names == ["schedule", "schedule-2", "nightly"]
    with pytest.raises(AlreadyExists):
        await add_cron(home, job, name="nightly")


@pytest.mark.parametrize(
    ("settings", "problem", "says"),
    [
        ({"expression": "0 0 0 * * *"}, InvalidCron, "seconds"),
        ({"expression": "@reboot"}, InvalidCron, "after.deploy"),
        ({"expression": "61 * * * *"}, InvalidCron, "minute"),
        ({"expression": "0 0 * * " + "1," * 100 + "1"}, InvalidCron, "200 characters"),
        ({"time_zone": "Europe/Berln"}, UnknownTimeZone, "Europe/Berlin"),
        ({"time_zone": "berlin"}, UnknownTimeZone, "Europe/Berlin"),
        ({"time_zone": "europe/berlin"}, UnknownTimeZone, "Europe/Berlin"),
        ({"time_zone": "posix/Europe/Berlin"}, UnknownTimeZone, "Europe/Berlin"),
        ({"time_zone": "Europe"}, UnknownTimeZone, "Europe"),
        ({"time_zone": "\0"}, UnknownTimeZone, "IANA"),
        ({"name": "Nightly"}, InvalidName, "a cron"),
        ({"jitter_seconds": 300}, InvalidSchedule, "jitter"),
        ({"starts_at": datetime(2027, 1, 1, tzinfo=UTC), "ends_at": datetime(2026, 6, 1, tzinfo=UTC)},
         InvalidSchedule, "end before it starts"),
        ({"ends_at": datetime(2026, 1, 1, tzinfo=UTC)}, InvalidSchedule, "never fire"),
        ({"ends_at": datetime(2027, 1, 1)}, InvalidSchedule, "offset"),  # noqa: DTZ001
    ],
)  # fmt: skip
async def test_what_breaks_a_rule_is_refused_with_what_would_do(
    home: Home, job: Job, settings: dict[str, Any], problem: type[OneoffError], says: str
) -> None:
    with pytest.raises(problem, match=says):
        await add_cron(home, job, **{"expression": "*/5 * * * *", **settings})
    cron = await add_cron(home, job)
    with pytest.raises(problem, match=says):
        await crons.change_cron(home.context, cron.id, settings)
    assert await crons.get_cron(home.context, cron.id) == cron


async def change_plan(home: Home, plan: str) -> None:
    change = tables.workspaces.update().values(plan=plan)
    await home.context.database.run(lambda c: c.execute(change) and None)


async def test_the_plan_limits_the_real_worst_gap(home: Home, job: Job) -> None:
    await change_plan(home, "pro")
    await add_cron(home, job, "*/5 * * * *")
    with pytest.raises(CronTooFrequent, match="4m"):
        await add_cron(home, job, "0,56 * * * *")
    await change_plan(home, "starter")
    with pytest.raises(PlanHasNoJobs, match="Pro"):
        await add_cron(home, job)


async def test_a_change_counts_from_now_on_and_leaves_no_instant_out(home: Home, job: Job, clock: StillClock) -> None:
    cron = await add_cron(home, job)
    clock.time += timedelta(minutes=5)  # 12:05 is due, and no scheduler was there
    changed = await crons.change_cron(home.context, cron.id, {"expression": "* * * * *", "overlap": "queue"})
    assert (changed.overlap, changed.next_due_at) == ("queue", datetime(2026, 3, 1, 12, 6, tzinfo=UTC))
    assert await outcomes(home, cron) == [(datetime(2026, 3, 1, 12, 5, tzinfo=UTC), "paused", 1)]
    reset = await crons.change_cron(home.context, cron.id, {"overlap": None, "name": "often"})
    assert (reset.overlap, reset.name, reset.expression) == ("skip", "often", "* * * * *")


async def test_ticks_of_a_pause_are_recorded_and_never_caught_up(home: Home, job: Job, clock: StillClock) -> None:
    cron = await add_cron(home, job)
    assert (await crons.set_paused(home.context, cron.id, True)).paused
    clock.time += timedelta(minutes=12)
    resumed = await crons.set_paused(home.context, cron.id, False)
    assert not resumed.paused
    at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    assert resumed.next_due_at == at + timedelta(minutes=15)
    assert await outcomes(home, cron) == [(at + timedelta(minutes=m), "paused", 1) for m in (5, 10)]


async def test_a_long_pause_is_one_row(home: Home, job: Job, clock: StillClock) -> None:
    cron = await add_cron(home, job)
    await crons.set_paused(home.context, cron.id, True)
    clock.time += timedelta(days=30)
    await crons.set_paused(home.context, cron.id, False)
    first = datetime(2026, 3, 1, 12, 5, tzinfo=UTC)
    assert await outcomes(home, cron) == [(first, "paused", 30 * 288)]


@pytest.mark.parametrize("scope", ["environment", "workspace"])
async def test_an_environment_and_the_workspace_can_be_paused(
    home: Home, job: Job, clock: StillClock, scope: str
) -> None:
    cron = await add_cron(home, job)

    async def set_paused(paused: bool) -> None:
        if scope == "workspace":
            await pauses.pause_workspace(home.context, paused)
        else:
            await pauses.pause_environment(home.context, cron.environment_id, paused)

    for _ in range(2):
        await set_paused(True)
    seen = await crons.get_cron(home.context, cron.id)
    assert (seen.paused, seen.is_paused) == (False, True)
    clock.time += timedelta(minutes=5)
    await set_paused(False)
    assert not (await crons.get_cron(home.context, cron.id)).is_paused
    assert [outcome for _, outcome, _ in await outcomes(home, cron)] == ["paused"]


async def test_deleting_a_cron_leaves_its_job_and_its_ledger(home: Home, job: Job, clock: StillClock) -> None:
    cron = await add_cron(home, job)
    await crons.set_paused(home.context, cron.id, True)
    clock.time += timedelta(minutes=5)
    await crons.delete_cron(home.context, cron.id)
    with pytest.raises(NotFound):
        await crons.get_cron(home.context, cron.id)
    assert [outcome for _, outcome, _ in await outcomes(home, cron)] == ["paused"]
    assert await crons.list_ticks(home.context, cron.id, TickOutcome.FIRED, 10, None) == []
    with pytest.raises(NotFound):
        await crons.list_ticks(home.context, "cron-" + "0" * 20, None, 10, None)


async def test_a_clock_that_was_set_back_gives_no_instant_twice(home: Home, job: Job, clock: StillClock) -> None:
    cron = await add_cron(home, job)
    await crons.set_paused(home.context, cron.id, True)
    clock.time += timedelta(minutes=10)
    await crons.change_cron(home.context, cron.id, {"overlap": "allow"})
    clock.time -= timedelta(minutes=8)
    await crons.change_cron(home.context, cron.id, {"overlap": "skip"})
    clock.time += timedelta(minutes=13)
    await crons.set_paused(home.context, cron.id, False)
    at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    assert [due for due, _, _ in await outcomes(home, cron)] == [at + timedelta(minutes=m) for m in (5, 10, 15)]
