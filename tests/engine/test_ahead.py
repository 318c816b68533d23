"""What is made before an instant counts only if nothing changes until then: whatever does, the tick knows."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from oneoff.core.run import Run
from oneoff.core.ticks import fire_time
from oneoff.engine import ahead
from oneoff.engine.ledger import schedule_of
from oneoff.engine.scheduler import Scheduler
from oneoff.engine.spec import variables_place
from oneoff.errors import ServiceBusy
from oneoff.operations import crons, deploys, jobs, pauses, services, variables
from oneoff.operations.cron_runs import CronRuns
from oneoff.operations.crons import Cron
from oneoff.operations.variables import VariableChange
from oneoff.store import installation, runs, tables, ticks
from tests.engine.test_scheduler import MINUTE, Town
from tests.operations.home import NEXT_DIGEST, NEXT_IMAGE, open_home
from tests.operations.test_crons import START, StillClock

pytestmark = pytest.mark.anyio
DUE = START + timedelta(minutes=4, seconds=30)
Change = Callable[["Coming"], Awaitable[object]]


class Coming(Town):
    """A town whose scheduler counts the runs it makes, ahead or at the instant."""

    made = 0
    cron: Cron

    def new_scheduler(self) -> Scheduler:
        town = self

        class Counting(CronRuns):
            def make(self, cron: Cron, due: datetime, at: datetime) -> tuple[Run, bytes]:
                made = super().make(cron, due, at)
                town.made += 1
                return made

        return Scheduler(self.context, lambda connection, due: Counting(town.context, connection, due))

    async def read_ahead(self) -> None:
        """Up to a second before the instant, with a scheduler awake."""
        self.clock.time = DUE - timedelta(seconds=1)
        await self.scheduler.tick()

    async def come(self, **late: float) -> list[Run]:
        self.clock.time = DUE + timedelta(**late)
        await self.scheduler.tick()
        made = await self.runs()
        assert all(run.created_at >= (run.scheduled_for or run.created_at) for run in made)
        return made

    async def variables_of(self, run: Run) -> dict[str, str]:
        box = await self.context.database.read(lambda c: runs.fetch_sealed_variables(c, run.id))
        opened = json.loads(self.context.sealer.open(box, variables_place(run.id)))
        return opened["variables"] | opened["builtins"]  # type: ignore[no-any-return]

    async def write(self, statement: Any) -> None:
        await self.context.database.run(lambda c: c.execute(statement) and None)


@pytest.fixture(params=["sqlite", "postgres"])
async def town(request: pytest.FixtureRequest, tmp_path: Any, anyio_backend: str) -> AsyncIterator[Coming]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    home = await open_home(tmp_path, url)
    town = Coming(home, StillClock())
    await town.open()
    yield town
    home.close()


async def test_the_run_of_an_unchanged_cron_is_made_before_its_instant_and_never_accepted_early(town: Coming) -> None:
    cron = await town.add_cron()
    await town.read_ahead()
    assert (town.made, await town.runs()) == (1, [])
    (run,) = await town.come(milliseconds=40)
    assert town.made == 1
    assert (run.scheduled_for, run.created_at) == (DUE, DUE + timedelta(milliseconds=40))
    assert (await town.variables_of(run))["ONEOFF_SCHEDULED_FOR"] == "2026-03-01T12:05:00Z"
    (tick,) = await crons.list_ticks(town.context, cron.id, None, 10, None)
    assert (tick.run_id, tick.decided_at) == (run.id, run.created_at)
    assert (await crons.get_cron(town.context, cron.id)).next_due_at == DUE + timedelta(minutes=5)


async def lose_image(town: Coming) -> None:
    await town.write(tables.services.update().values(live_deploy_id=None))


async def take_jobs_from_plan(town: Coming) -> None:
    await town.context.database.run(lambda c: installation.change_plan(c, town.context.workspace_id, "starter"))


async def fill_disk(town: Coming) -> None:
    town.context = replace(town.context, settings=replace(town.context.settings, disk_reserve_bytes=10**18))


async def begin_deploy_that_holds(town: Coming) -> None:
    at = int((DUE - timedelta(milliseconds=500)).timestamp() * 1_000_000)
    deploy = {"id": "dep-" + "0" * 20, "status": "created", "image": "i", "actor": "a", "created_at": at}
    await town.write(tables.deploys.insert().values(service_id=town.service.id, **deploy))


KEEPS_FROM_FIRING: dict[str, tuple[Change, list[str]]] = {
    "the cron is paused": (lambda town: crons.set_paused(town.context, town.cron.id, True), ["paused"]),
    "its environment is paused": (
        lambda town: pauses.pause_environment(town.context, town.service.environment_id, True),
        ["paused"],
    ),
    "the workspace is paused": (lambda town: pauses.pause_workspace(town.context, True), ["paused"]),
    "its service is suspended": (
        lambda town: services.set_suspended(town.context, town.service.id, True),
        ["suspended"],
    ),
    "the cron is deleted": (lambda town: crons.delete_cron(town.context, town.cron.id), []),
    "its job is deleted": (lambda town: jobs.delete_job(town.context, town.job_id, with_crons=True), []),
    "it is due at another time": (
        lambda town: crons.change_cron(town.context, town.cron.id, {"expression": "7 * * * *"}),
        [],
    ),
    "a run begins by hand": (lambda town: town.run_now(), ["skipped_overlap"]),
    "a deploy begins": (begin_deploy_that_holds, []),
    "nothing is live": (lose_image, ["no_live_image"]),
    "the plan has no jobs": (take_jobs_from_plan, ["blocked_by_plan"]),
    "the disk is full": (fill_disk, ["refused"]),
}


@pytest.mark.parametrize("name", KEEPS_FROM_FIRING)
async def test_what_keeps_a_cron_from_firing_counts_up_to_its_instant(town: Coming, name: str) -> None:
    change, expected = KEEPS_FROM_FIRING[name]
    town.cron = await town.add_cron(hold_during_deploy=True)
    await town.read_ahead()
    await change(town)
    assert [run for run in await town.come() if run.cron_id is not None] == []
    listed = await town.context.database.read(lambda c: ticks.list_ticks(c, town.cron.id, None, 10, None))
    assert [each.outcome.value for each in listed] == expected


async def give_variable_to(owner_id: str, town: Coming) -> None:
    await variables.merge_variables(town.context, owner_id, {"A": VariableChange("new")})


CHANGES_THE_RUN: dict[str, tuple[Change, Callable[[Run, dict[str, str]], bool]]] = {
    "the job has another command": (
        lambda town: jobs.change_job(town.context, town.job_id, {"command": ["new"]}),
        lambda run, _: run.command == ("new",),
    ),
    "the job has another name": (
        lambda town: jobs.change_job(town.context, town.job_id, {"name": "new"}),
        lambda _, variables: variables["ONEOFF_JOB"] == "new",
    ),
    "the job has another variable": (
        lambda town: jobs.change_job(town.context, town.job_id, {"variables": {"A": VariableChange("new")}}),
        lambda _, variables: variables["A"] == "new",
    ),
    "the service has another variable": (
        lambda town: give_variable_to(town.service.id, town),
        lambda _, variables: variables["A"] == "new",
    ),
    "the environment has another variable": (
        lambda town: give_variable_to(town.service.environment_id, town),
        lambda _, variables: variables["A"] == "new",
    ),
    "the service is of another size": (
        lambda town: services.change_service(town.context, town.service.id, {"instance_type": "plan-srv-008"}),
        lambda run, _: run.instance_type == "plan-srv-008",
    ),
    "another image is live": (
        lambda town: deploys.create_deploy(town.context, town.service.id, NEXT_IMAGE, "tester"),
        lambda run, _: run.digest == NEXT_DIGEST,
    ),
    "the cron has another name": (
        lambda town: crons.change_cron(town.context, town.cron.id, {"name": "new"}),
        lambda run, _: run.actor == "cron new",
    ),
}


@pytest.mark.parametrize("name", CHANGES_THE_RUN)
async def test_what_a_run_is_made_of_counts_up_to_its_instant(town: Coming, name: str) -> None:
    change, is_changed = CHANGES_THE_RUN[name]
    town.cron = await town.add_cron()
    await town.read_ahead()
    await change(town)
    (run,) = await town.come()
    assert is_changed(run, await town.variables_of(run))
    assert await town.outcomes(town.cron) == ["fired"]
    assert town.made == 2


async def test_two_changes_of_a_job_at_one_moment_are_two(town: Coming) -> None:
    await town.add_cron()
    town.clock.time = DUE - timedelta(seconds=1)
    await jobs.change_job(town.context, town.job_id, {"command": ["old"]})
    await town.read_ahead()
    await jobs.change_job(town.context, town.job_id, {"command": ["new"]})
    (run,) = await town.come()
    assert run.command == ("new",)


async def test_what_another_server_fired_is_not_fired_again(town: Coming) -> None:
    cron = await town.add_cron()
    await town.read_ahead()
    town.clock.time = DUE
    await town.new_scheduler().tick()
    assert len(await town.come()) == 1
    assert await town.outcomes(cron) == ["fired"]


@pytest.mark.parametrize("late", [2, 59, 61, 200])
async def test_a_scheduler_that_stood_still_makes_the_run_as_of_when_it_goes_on(town: Coming, late: int) -> None:
    cron = await town.add_cron()
    await town.read_ahead()
    (run,) = await town.come(seconds=late)
    assert (run.scheduled_for, run.created_at, town.made) == (DUE, DUE + timedelta(seconds=late), 2)
    assert await town.outcomes(cron) == ["fired"]


async def test_a_clock_that_is_set_back_after_reading_ahead_fires_nothing_early_and_loses_nothing(town: Coming) -> None:
    cron = await town.add_cron()
    await town.read_ahead()
    town.clock.time = DUE - timedelta(hours=1)
    await town.scheduler.tick()
    assert await town.runs() == []
    assert len(await town.come()) == 1
    assert await town.outcomes(cron) == ["fired"]


async def test_it_is_made_once_however_often_the_scheduler_is_woken_before(town: Coming) -> None:
    await town.add_cron()
    for _ in range(3):
        await town.read_ahead()
    assert len(await town.come()) == town.made == 1


async def test_a_clock_that_is_set_back_while_crons_are_read_fires_nothing_early(town: Coming) -> None:
    cron = await town.add_cron()
    await town.read_ahead()

    class SetBack(StillClock):
        """By a second, when it has been looked at once."""

        def now(self) -> datetime:
            self.time, shown = DUE - timedelta(seconds=1), self.time
            return shown

    town.scheduler._context = replace(town.context, clock=(clock := SetBack()))
    clock.time = DUE
    await town.scheduler.tick()
    assert await town.runs() == []
    town.scheduler._context = town.context
    assert len(await town.come()) == 1
    assert await town.outcomes(cron) == ["fired"]


async def test_a_service_is_not_deleted_under_a_run_that_was_made_ahead(town: Coming) -> None:
    """Nobody has asked for its row in the transaction of the tick."""
    await town.add_cron()
    is_inside, may_go_on = threading.Event(), threading.Event()

    class StandingStill(CronRuns):
        def admit(self, run: Run) -> None:
            is_inside.set()
            assert may_go_on.wait(60)
            super().admit(run)

    town.scheduler = Scheduler(town.context, partial(StandingStill, town.context))
    await town.read_ahead()
    firing = asyncio.create_task(town.come())
    await asyncio.to_thread(is_inside.wait, 30)
    deleting = asyncio.create_task(services.delete_service(town.context, town.service.id, with_jobs=True))
    await asyncio.wait([deleting], timeout=0.2)
    may_go_on.set()
    assert len(await firing) == 1
    with pytest.raises(ServiceBusy):
        await deleting


async def test_one_bad_row_does_not_keep_others_from_being_made_ahead(town: Coming) -> None:
    bad, good = await town.add_cron(overlap="allow"), await town.add_cron(overlap="allow")
    await town.write(tables.crons.update().where(tables.crons.c.id == bad.id).values(expression="nonsense"))
    await town.read_ahead()
    assert set(town.scheduler._ahead.made) == {good.id}
    assert [run.cron_id for run in await town.come()] == [good.id]


async def test_crons_that_are_fired_one_by_one_know_what_has_changed_since_they_were_read(town: Coming) -> None:
    bad, good = await town.add_cron(overlap="allow"), await town.add_cron(overlap="allow")
    await town.write(tables.crons.update().where(tables.crons.c.id == bad.id).values(expression="nonsense"))

    class Changing:
        """Another caller comes when the crons were read that do not fire together."""

        async def run(self, work: Any) -> Any:
            result = await town.context.database.run(work)
            if isinstance(result, list):
                await jobs.change_job(town.context, town.job_id, {"command": ["new"]})
            return result

        def __getattr__(self, name: str) -> Any:
            return getattr(town.context.database, name)

    await town.read_ahead()
    town.scheduler._context = replace(town.context, database=Changing())  # type: ignore[arg-type]
    (run,) = await town.come()
    assert (run.cron_id, run.command) == (good.id, ("new",))


async def test_no_more_is_made_ahead_than_there_is_room_for_and_nothing_is_kept_for_crons_that_are_gone(
    town: Coming, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = [await town.add_cron(overlap="allow", name=f"n-{number}") for number in range(2)]
    monkeypatch.setattr(ahead, "_MOST_BYTES", 1)
    await town.read_ahead()
    assert len(town.scheduler._ahead.made) == town.made == 1
    assert len(await town.come()) == town.made == 2
    town.clock.time += 5 * MINUTE - timedelta(seconds=1)
    await town.scheduler.tick()
    for cron in two:
        await crons.delete_cron(town.context, cron.id)
    assert town.scheduler._ahead.made
    await town.scheduler.tick()
    assert not town.scheduler._ahead.made


async def test_runs_of_one_job_made_ahead_are_as_old_as_their_order_says(town: Coming) -> None:
    """A run that waits for another one is the younger, whatever chance put into the ids."""
    for number in range(2):
        await town.add_cron("* * * * *", overlap="queue", name=f"n-{number}")
    for _ in range(8):
        town.clock.time = town.clock.time.replace(second=59)
        await town.scheduler.tick()
        town.clock.time += timedelta(seconds=1)
        await town.scheduler.tick()
        first, second = sorted((await town.runs())[-2:], key=lambda run: run.waiting_for is not None)
        assert second.waiting_for == f"the end of {first.id}"
        assert [await town.is_held_back(run) for run in (first, second)] == [False, True]
        await town.finish(first)
        await town.finish(second)


async def test_a_run_that_must_end_by_a_time_of_day_is_not_accepted_behind_it(town: Coming) -> None:
    """Jitter puts the moment of acceptance right before that time, and the scheduler is a second late."""
    cron = await town.add_cron("* * * * *", jitter_seconds=59, overlap="allow")
    schedule, instant = schedule_of(cron), START.replace(second=0) + MINUTE
    while fire_time(schedule, instant).second != 59:
        instant += timedelta(minutes=1)
    end = instant + timedelta(minutes=1)
    await jobs.change_job(town.context, town.job_id, {"must_end_by": f"{end:%H:%M} UTC"})
    for seconds in (-1.5, 0.5):
        town.clock.time = end + timedelta(seconds=seconds)
        await town.scheduler.tick()
    (run,) = [run for run in await town.runs() if run.scheduled_for == instant]
    assert run.must_end_at == end + timedelta(days=1)


async def test_an_instant_that_jitter_holds_back_is_not_lost_when_the_one_before_fires_behind_it(town: Coming) -> None:
    """Jitter puts the first right before the second, and the scheduler is a second late."""
    cron = await town.add_cron("* * * * *", jitter_seconds=59, overlap="allow")
    schedule, first = schedule_of(cron), START.replace(second=0) + MINUTE
    while fire_time(schedule, first).second != 59 or fire_time(schedule, first + MINUTE).second < 3:
        first += MINUTE
    second = first + MINUTE
    for moment in (second - timedelta(seconds=1.5), second + timedelta(seconds=0.5)):
        made = town.made
        town.clock.time = moment
        await town.scheduler.tick()
    assert town.made == made  # the first is the one that was made ahead
    town.clock.time = second + MINUTE
    await town.scheduler.tick()
    assert {first, second} <= {run.scheduled_for for run in await town.runs()}
    ledger = [row.due_at for row in await crons.list_ticks(town.context, cron.id, None, 100, None)]
    assert {first, second} <= set(ledger)
