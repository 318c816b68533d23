"""Crons fire by a turned clock: what each due instant does, and that none is left out or done twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from oneoff.core.plan import PLANS
from oneoff.core.run import Run, RunStatus, Trigger
from oneoff.engine.dispatcher import Dispatcher
from oneoff.engine.executor import Executor
from oneoff.engine.janitor import Janitor
from oneoff.engine.scheduler import Scheduler
from oneoff.errors import DiskFull, NotFound
from oneoff.operations import crons, services
from oneoff.operations.cron_runs import CronRuns
from oneoff.operations.crons import Cron, NewCron
from oneoff.operations.jobs import NewJob, Overrides, create_job, run_job
from oneoff.operations.runs import Origin
from oneoff.store import events, going, runs, tables, ticks
from oneoff.store.events import EventFilter
from oneoff.store.runs import RunFilter
from tests.operations.home import Home, open_home
from tests.operations.test_crons import START, StillClock

pytestmark = pytest.mark.anyio
MINUTE = timedelta(minutes=1)


class Town:
    """A home with one job, its scheduler, and hands for the clock."""

    def __init__(self, home: Home, clock: StillClock) -> None:
        self.home, self.clock = home, clock
        self.context = replace(home.context, clock=clock)
        home.context = self.context
        self.job_id = ""
        self.scheduler = self.new_scheduler()

    def new_scheduler(self) -> Scheduler:
        return Scheduler(self.context, partial(CronRuns, self.context))

    async def open(self) -> Town:
        self.service = await self.home.add_service()
        new = NewJob(self.service.id, "backup", {"command": ["true"]})
        self.job_id = (await create_job(self.context, new)).id
        return self

    async def add_cron(self, expression: str = "*/5 * * * *", **settings: Any) -> Cron:
        new = NewCron(self.job_id, {"expression": expression, **settings})
        return await crons.create_cron(self.context, new)

    async def turn(self, *, minutes: float = 0, days: float = 0, steps: int = 1) -> None:
        """Let time pass, in steps with a scheduler awake, or at once without one."""
        for _ in range(steps):
            self.clock.time += timedelta(minutes=minutes, days=days) / steps
            await self.scheduler.tick()

    async def run_now(self) -> Run:
        return await run_job(self.context, self.job_id, Overrides(), Origin("tester", Trigger.MANUAL))

    async def runs(self) -> list[Run]:
        wanted = RunFilter(job_id=self.job_id)
        return (await self.context.database.read(lambda c: runs.list_runs(c, wanted, 1000, None)))[::-1]

    async def outcomes(self, cron: Cron) -> list[str]:
        listed = await crons.list_ticks(self.context, cron.id, None, 2000, None)
        return [each.outcome.value for each in reversed(listed)]

    async def finish(self, run: Run) -> None:
        await self.home.start(run.id)
        await self.home.finish(run.id)

    async def is_held_back(self, run: Run) -> bool:
        return await self.context.database.read(lambda c: going.is_held_back(c, run.id))

    async def events(self) -> list[str]:
        listed = await self.context.database.read(
            lambda c: events.list_events(c, self.context.workspace_id, EventFilter(), 100, None)
        )
        return [each.kind for each in reversed(listed) if each.kind in ("cron.overdue", "cron.recovered")]


@pytest.fixture(params=["sqlite", "postgres"])
async def town(request: pytest.FixtureRequest, data_dir: Path, anyio_backend: str) -> AsyncIterator[Town]:
    url = request.getfixturevalue("schema_url") if request.param == "postgres" else None
    home = await open_home(data_dir, url)
    yield await Town(home, StillClock()).open()
    home.close()


async def test_it_sleeps_until_the_earliest_is_due_and_never_fires_early(town: Town) -> None:
    cron = await town.add_cron()
    town.clock.time = START + timedelta(minutes=4, seconds=29)
    assert await town.scheduler.tick() == 1.0
    assert await town.runs() == []
    town.clock.time += timedelta(seconds=1)
    assert await town.scheduler.tick() == 5.0
    (run,) = await town.runs()
    assert (run.trigger, run.cron_id, run.job_id, run.actor) == ("cron", cron.id, town.job_id, "cron schedule")
    assert run.scheduled_for == START + timedelta(minutes=4, seconds=30)
    (tick,) = await crons.list_ticks(town.context, cron.id, None, 10, None)
    assert (tick.outcome, tick.run_id, tick.due_at) == ("fired", run.id, run.scheduled_for)


async def test_a_run_is_told_for_which_instant_it_is(town: Town) -> None:
    await town.add_cron()
    await town.turn(minutes=5)
    (run,) = await town.runs()
    from oneoff.engine.spec import make_spec, prepare_image

    facts = await town.context.database.read(lambda c: runs.fetch_start_facts(c, run.id))
    spec = make_spec(town.context, run, facts, await prepare_image(town.context, run, facts))
    assert spec.variables["ONEOFF_SCHEDULED_FOR"] == "2026-03-01T12:05:00Z"
    assert (spec.variables["ONEOFF_JOB"], spec.variables["ONEOFF_TRIGGER"]) == ("backup", "cron")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("skip", ["fired", "skipped_overlap", "skipped_overlap"]),
        ("allow", ["fired", "fired", "fired"]),
        ("queue", ["fired", "queued", "skipped_overlap"]),
        ("replace", ["fired", "replaced", "replaced"]),
    ],
)
async def test_a_tick_while_the_job_is_going_does_what_the_policy_says(
    town: Town, policy: str, expected: list[str]
) -> None:
    cron = await town.add_cron(overlap=policy)
    await town.turn(minutes=5)
    await town.home.start((await town.runs())[0].id)
    await town.turn(minutes=10, steps=2)
    assert await town.outcomes(cron) == expected
    assert len(await town.runs()) == len([each for each in expected if each != "skipped_overlap"])


async def test_a_manual_run_counts_as_going_and_is_never_replaced(town: Town) -> None:
    cron = await town.add_cron(overlap="replace")
    manual = await town.run_now()
    await town.turn(minutes=5)
    assert await town.outcomes(cron) == ["skipped_overlap"]
    assert (await town.runs())[0].stop_kind is None
    await town.finish(manual)
    await town.turn(minutes=5)
    assert await town.outcomes(cron) == ["skipped_overlap", "fired"]


async def test_a_queued_run_waits_for_the_end_of_the_others(town: Town) -> None:
    await town.add_cron(overlap="queue")
    await town.turn(minutes=5)
    (first,) = await town.runs()
    await town.home.start(first.id)
    await town.turn(minutes=5)
    second = (await town.runs())[1]
    assert second.waiting_for == f"the end of {first.id}"
    assert await town.is_held_back(second)
    await town.home.finish(first.id)
    assert not await town.is_held_back(second)


async def test_a_replacing_run_waits_until_the_replaced_container_has_ended(town: Town) -> None:
    await town.add_cron(overlap="replace")
    await town.turn(minutes=5)
    (first,) = await town.runs()
    await town.home.start(first.id)
    await town.turn(minutes=5)
    first, second = await town.runs()
    assert (first.status, first.stop_kind, first.stop_actor) == ("running", "cancel", "cron schedule")
    await town.turn(minutes=5)
    assert [run.status for run in await town.runs()] == ["running", "canceled", "queued"]
    assert [run.stop_actor for run in await town.runs()] == ["cron schedule", "cron schedule", None]
    assert second.id not in [run.id for run in await town.runs() if run.status is RunStatus.QUEUED]
    third = (await town.runs())[2]
    assert await town.is_held_back(third)
    await town.home.finish(first.id)
    assert not await town.is_held_back(third)


async def test_two_crons_of_one_job_due_at_once_do_not_run_it_twice(town: Town) -> None:
    both = [await town.add_cron() for _ in range(2)]
    await town.turn(minutes=5)
    assert len(await town.runs()) == 1
    assert sorted([*await town.outcomes(both[0]), *await town.outcomes(both[1])]) == ["fired", "skipped_overlap"]


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ("none", ["missed"] * 12),
        ("latest", ["missed"] * 11 + ["fired"]),
        ("all", ["missed"] * 2 + ["fired"] * 10),
    ],
)
async def test_after_a_downtime_it_catches_up_within_the_window(town: Town, catch_up: str, expected: list[str]) -> None:
    cron = await town.add_cron(catch_up=catch_up, overlap="allow", catch_up_window_seconds=50 * 60)
    await town.turn(minutes=63)
    assert await town.outcomes(cron) == expected
    await town.turn(minutes=2)
    assert (await town.outcomes(cron))[12:] == ["fired"]


async def test_a_year_of_downtime_is_few_rows_that_count_every_instant(town: Town) -> None:
    cron = await town.add_cron()
    await town.turn(days=365)
    listed = await crons.list_ticks(town.context, cron.id, None, 2000, None)
    assert sum(each.count for each in listed) == 365 * 288
    assert [each.outcome.value for each in listed] == ["fired", "missed"]


async def test_paused_and_suspended_ticks_are_recorded_and_the_suspension_ends_where_it_ended(town: Town) -> None:
    cron = await town.add_cron(overlap="allow")
    await crons.set_paused(town.context, cron.id, True)
    await town.turn(minutes=5)
    await crons.set_paused(town.context, cron.id, False)
    await services.set_suspended(town.context, town.service.id, True)
    await town.turn(minutes=5)
    town.clock.time += 12 * MINUTE  # nobody is there
    await services.set_suspended(town.context, town.service.id, False)
    await town.turn(minutes=5)
    assert await town.outcomes(cron) == ["paused", "suspended", "suspended", "suspended", "fired"]
    assert (await town.run_now()).status == "queued"


async def test_a_deploy_holds_crons_that_want_it_and_what_waited_is_caught_up(town: Town) -> None:
    held = await town.add_cron(overlap="allow", hold_during_deploy=True)
    free = await town.add_cron(overlap="allow")
    deploy = {
        "id": "dep-" + "0" * 20, "service_id": town.service.id, "status": "created", "image": "i", "actor": "a",
        "created_at": int((START + MINUTE).timestamp() * 1_000_000),
    }  # fmt: skip
    await town.context.database.run(lambda c: c.execute(tables.deploys.insert().values(deploy)) and None)
    await town.turn(minutes=11, steps=11)
    assert (await town.outcomes(held), await town.outcomes(free)) == ([], ["fired", "fired"])
    done = tables.deploys.update().where(tables.deploys.c.id == deploy["id"])
    at = int(town.clock.time.timestamp() * 1_000_000)
    await town.context.database.run(lambda c: c.execute(done.values(status="live", finished_at=at)) and None)
    await town.turn(minutes=1)
    assert await town.outcomes(held) == ["held_by_deploy", "fired"]


async def test_a_plan_without_jobs_or_with_a_larger_smallest_gap_blocks_ticks(town: Town) -> None:
    cron = await town.add_cron("* * * * *", overlap="allow")
    for plan in ("pro", "starter", "team"):
        change = tables.workspaces.update().values(plan=plan)
        await town.context.database.run(lambda c, change=change: c.execute(change) and None)  # type: ignore[misc]
        await town.turn(minutes=1)
    assert await town.outcomes(cron) == ["blocked_by_plan", "blocked_by_plan", "fired"]
    why = [each.message for each in await crons.list_ticks(town.context, cron.id, None, 10, None)]
    assert "5m" in str(why[2])
    assert "Starter" in str(why[1])


async def test_without_a_live_image_and_when_refused_the_ledger_says_why(town: Town) -> None:
    cron = await town.add_cron(overlap="allow")
    nothing_live = tables.services.update().values(live_deploy_id=None)
    deploy_id = (await services.get_service(town.context, town.service.id)).live_deploy_id
    await town.context.database.run(lambda c: c.execute(nothing_live) and None)
    await town.turn(minutes=5)
    again = tables.services.update().values(live_deploy_id=deploy_id)
    await town.context.database.run(lambda c: c.execute(again) and None)

    class Refusing(CronRuns):
        def admit(self, run: Run) -> None:
            raise DiskFull("/data", "1 MB", "1 GB")

    town.scheduler = Scheduler(town.context, partial(Refusing, town.context))
    await town.turn(minutes=5)
    town.scheduler = town.new_scheduler()
    await town.turn(minutes=5)
    assert await town.outcomes(cron) == ["no_live_image", "refused", "fired"]
    listed = await crons.list_ticks(town.context, cron.id, None, 10, None)
    assert "no new runs or deploys" in str(listed[1].message)


async def test_a_clock_that_is_set_back_fires_nothing_twice(town: Town) -> None:
    cron = await town.add_cron(overlap="allow")
    await town.turn(minutes=5)
    await town.turn(minutes=-4)
    await town.turn(minutes=9, steps=9)
    assert await town.outcomes(cron) == ["fired", "fired"]
    assert len({run.scheduled_for for run in await town.runs()}) == 2


async def test_one_bad_row_does_not_keep_the_others_from_firing(town: Town) -> None:
    bad, good = await town.add_cron(overlap="allow"), await town.add_cron(overlap="allow")
    spoil = tables.crons.update().where(tables.crons.c.id == bad.id)
    await town.context.database.run(lambda c: c.execute(spoil.values(expression="nonsense")) and None)
    await town.turn(minutes=5)
    assert await town.outcomes(good) == ["fired"]
    await town.context.database.run(lambda c: c.execute(spoil.values(expression="*/5 * * * *")) and None)
    await town.turn(minutes=1)
    assert await town.outcomes(bad) == ["fired"]


async def test_no_success_for_too_many_ticks_raises_one_event_until_the_next_success(town: Town) -> None:
    cron = await town.add_cron(overlap="allow", alert_after_ticks=3)
    await town.turn(minutes=15, steps=3)
    assert await town.events() == []
    await town.turn(minutes=15, steps=3)
    assert await town.events() == ["cron.overdue"]
    assert (await crons.get_cron(town.context, cron.id)).alerted_at is not None
    await town.finish((await town.runs())[-1])
    await town.turn(minutes=5)
    assert await town.events() == ["cron.overdue", "cron.recovered"]
    await town.turn(minutes=25, steps=5)
    assert await town.events() == ["cron.overdue", "cron.recovered", "cron.overdue"]


async def test_the_last_success_is_that_of_the_latest_instant_whatever_the_order_of_the_ids(town: Town) -> None:
    await town.add_cron(overlap="allow", catch_up="all", alert_after_ticks=3)
    await town.turn(minutes=100)
    for run in (caught_up := await town.runs()):
        await town.finish(run)
    assert len(caught_up) == 20
    await town.turn(minutes=5)
    assert await town.events() == []


async def test_a_pause_is_no_reason_for_an_alert(town: Town) -> None:
    cron = await town.add_cron(overlap="allow", alert_after_ticks=2)
    await crons.set_paused(town.context, cron.id, True)
    await town.turn(minutes=60, steps=12)
    await crons.set_paused(town.context, cron.id, False)
    await town.turn(minutes=10, steps=2)
    assert await town.events() == []
    await town.turn(minutes=5)
    assert await town.events() == ["cron.overdue"]


async def test_thousands_due_at_once_all_fire_in_bounded_transactions(town: Town) -> None:
    for number in range(230):
        await town.add_cron(overlap="allow", name=f"n-{number}")
    await town.turn(minutes=5)
    assert len(await town.runs()) == 230
    await town.turn(minutes=4)
    assert len(await town.runs()) == 230


async def test_jitter_delays_each_tick_by_its_own_time_and_loses_none(town: Town) -> None:
    cron = await town.add_cron(overlap="allow", jitter_seconds=200)
    await town.turn(minutes=60, steps=720)
    created = [(run.created_at - (run.scheduled_for or START)).total_seconds() for run in await town.runs()]
    assert len(created) in (11, 12)
    assert all(0 <= delay <= 205 for delay in created)
    assert len({delay // 20 for delay in created}) > 2
    assert set(await town.outcomes(cron)) == {"fired"}


async def test_dates_bound_a_cron(town: Town) -> None:
    starts, ends = START + timedelta(minutes=12), START + timedelta(minutes=22)
    cron = await town.add_cron(overlap="allow", starts_at=starts, ends_at=ends)
    await town.turn(minutes=60, steps=12)
    assert [run.scheduled_for for run in await town.runs()] == [
        datetime(2026, 3, 1, 12, minute, tzinfo=START.tzinfo) for minute in (15, 20)
    ]
    assert (await crons.get_cron(town.context, cron.id)).next_due_at is None


async def test_the_ledger_is_bounded_by_count_and_age_and_ticks_of_deleted_crons_go_too(town: Town) -> None:
    kept, deleted = await town.add_cron(overlap="allow"), await town.add_cron(overlap="allow")
    await town.turn(minutes=50, steps=10)
    await crons.delete_cron(town.context, deleted.id)

    def forget(connection: Any) -> list[int]:
        first = ticks.find_cron_after(connection, "")
        second = ticks.find_cron_after(connection, str(first))
        assert {first, second} == {kept.id, deleted.id}
        assert ticks.find_cron_after(connection, str(second)) is None
        by_count = ticks.forget_old(connection, kept.id, 6, START)
        by_age = ticks.forget_old(connection, deleted.id, 100, START + timedelta(minutes=29, seconds=30))
        return [by_count, by_age]

    assert await town.context.database.run(forget) == [4, 5]
    assert [len(await town.outcomes(each)) for each in (kept, deleted)] == [6, 5]
    before = kept.created_at
    plan = PLANS["team"]
    town.clock.time = before + timedelta(days=plan.kept_days + 1)
    server = Janitor(town.context, Dispatcher(town.context, Executor(town.context)))
    await server.tick()
    assert [len(await town.outcomes(each)) for each in (kept,)] == [0]
    with pytest.raises(NotFound):
        await crons.list_ticks(town.context, deleted.id, None, 1, None)
