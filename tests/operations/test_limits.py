"""What a plan or a catalogue does not have is refused wherever it is asked for, and the refusal says what would do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from oneoff.core.command import Command
from oneoff.core.instance_types import CATALOGUE
from oneoff.core.run import Run, Trigger
from oneoff.core.service import ServiceType
from oneoff.errors import (
    CronTooFrequent,
    InstanceTypeTooLarge,
    OneoffError,
    PlanHasNoJobs,
    PlanNotOffered,
    TimeLimitTooLong,
    UnknownInstanceType,
)
from oneoff.operations import crons, jobs, reruns, runs, services
from oneoff.operations.crons import NewCron
from oneoff.operations.jobs import NewJob, Overrides
from oneoff.operations.limits import find_gone
from oneoff.operations.runs import Origin, RunRequest
from oneoff.operations.services import NewService
from oneoff.operations.time_control import extend_run
from oneoff.store import configuration, tables
from oneoff.store.dialect import Connection
from tests.operations.home import IMAGE, Home

pytestmark = pytest.mark.anyio
MANUAL = Origin("tester", Trigger.MANUAL)
TRUE: dict[str, Any] = {"command": ["true"]}


class Shop:
    """A service with a job, a cron and a run, made under the largest plan; then whatever is asked of it."""

    def __init__(self, home: Home) -> None:
        self.home = home

    async def open(self) -> Shop:
        self.service = await self.home.add_service()
        self.job = await jobs.create_job(self.home.context, NewJob(self.service.id, "job", TRUE))
        self.cron = await crons.create_cron(self.home.context, NewCron(self.job.id, {"expression": "@daily"}))
        self.old = await self.run(timeout=3 * 86_400)
        return self

    async def run(self, timeout: int | None = None, size: str | None = None) -> Run:
        request = RunRequest(Command(("true",)), timeout_seconds=timeout, instance_type=size)
        return await runs.accept_run(self.home.context, self.service.id, request, MANUAL)

    def asking(self, **settings: Any) -> dict[str, Callable[[], Awaitable[object]]]:
        """Everything that makes or keeps what runs, by its name."""
        context, job, cron = self.home.context, self.job, self.cron
        overrides = Overrides(
            timeout_seconds=settings.get("timeout_seconds"), instance_type=settings.get("instance_type")
        )
        return {
            "run": lambda: self.run(settings.get("timeout_seconds"), settings.get("instance_type")),
            "new job": lambda: jobs.create_job(context, NewJob(self.service.id, "other", TRUE | settings)),
            "job": lambda: jobs.change_job(context, job.id, TRUE | settings),
            "run now": lambda: jobs.run_job(context, job.id, overrides, MANUAL),
            "rerun": lambda: reruns.run_again(context, self.old.id, MANUAL),
            "new cron": lambda: crons.create_cron(context, NewCron(job.id, {"expression": "@hourly"})),
            "cron": lambda: crons.change_cron(context, cron.id, {"jitter_seconds": 60}),
            "extend": lambda: extend_run(context, self.old.id, 60),
        }

    async def give_plan(self, plan: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute(update(tables.workspaces).values(plan=plan))
            configuration.change_version(connection)

        await self.home.context.database.run(work)


@pytest.fixture
async def shop(home: Home) -> Shop:
    return await Shop(home).open()


async def refusals(asked: dict[str, Callable[[], Awaitable[object]]]) -> dict[str, OneoffError | None]:
    found: dict[str, OneoffError | None] = {}
    for name, ask in asked.items():
        found[name] = None
        try:
            await ask()
        except OneoffError as problem:
            found[name] = problem
    return found


async def test_a_plan_without_jobs_refuses_all_that_runs_and_names_the_plans_that_have_them(shop: Shop) -> None:
    await shop.give_plan("starter")
    found = await refusals(shop.asking())
    assert isinstance(found.pop("extend"), TimeLimitTooLong)
    for name, problem in found.items():
        assert isinstance(problem, PlanHasNoJobs), name
        assert "change to Pro or Team with `oneoff plan set`" in str(problem)


async def test_a_plan_that_is_gone_refuses_with_those_there_are_and_is_told_at_start(shop: Shop) -> None:
    assert await find_gone(shop.home.context) == []
    await shop.give_plan("gold")
    for name, problem in (await refusals(shop.asking())).items():
        assert isinstance(problem, PlanNotOffered), name
        assert "one of starter, pro, team" in str(problem)
    assert ["gold" in each for each in await find_gone(shop.home.context)] == [True]


async def test_a_time_limit_is_the_plan_s_by_default_and_at_most(shop: Shop) -> None:
    await shop.give_plan("pro")
    found = await refusals(shop.asking(timeout_seconds=86_401))
    too_long = {name for name, problem in found.items() if isinstance(problem, TimeLimitTooLong)}
    assert too_long == {"run", "new job", "job", "run now", "rerun", "extend"}
    assert all("or change to Team with" in str(found[name]) for name in too_long)
    assert (await shop.run()).timeout_seconds == 86_400
    kept = await shop.run(60)
    with pytest.raises(TimeLimitTooLong):
        await extend_run(shop.home.context, kept.id, 86_400)
    assert (await extend_run(shop.home.context, kept.id, 86_340)).timeout_seconds == 86_400


async def test_a_cron_is_not_saved_closer_than_the_plan_allows(shop: Shop) -> None:
    await shop.give_plan("pro")
    context = shop.home.context
    with pytest.raises(CronTooFrequent, match="or change to Team with"):
        await crons.create_cron(context, NewCron(shop.job.id, {"expression": "*/4 * * * *"}))
    with pytest.raises(CronTooFrequent):
        await crons.change_cron(context, shop.cron.id, {"expression": "* * * * *"})
    await crons.change_cron(context, shop.cron.id, {"expression": "*/5 * * * *"})


async def test_a_type_the_node_can_never_hold_is_refused_when_it_is_named(shop: Shop) -> None:
    home = shop.home
    home.context = replace(home.context, facts=replace(home.context.facts, cpus=1, memory_bytes=2 << 30))
    found = await refusals(shop.asking(instance_type="plan-srv-010"))
    wrong = {name for name, problem in found.items() if isinstance(problem, InstanceTypeTooLarge)}
    assert wrong == {"run", "new job", "job", "run now"}
    assert all("Types that fit: plan-srv-006, plan-srv-008" in str(found[name]) for name in wrong)
    new = NewService("shop/production/big", ServiceType.WEB_SERVICE, IMAGE, None, {"instance_type": "plan-srv-010"})
    with pytest.raises(InstanceTypeTooLarge):
        await services.create_service(home.context, new, "tester")
    with pytest.raises(InstanceTypeTooLarge):
        await services.change_service(home.context, shop.service.id, {"instance_type": "plan-srv-010"})


async def test_a_type_that_is_gone_is_refused_with_those_there_are_and_is_told_at_start(shop: Shop) -> None:
    home = shop.home
    await jobs.change_job(home.context, shop.job.id, {"instance_type": "plan-srv-006"})
    home.context = replace(home.context, catalogue=[each for each in CATALOGUE if each.id != "plan-srv-006"])
    found = await refusals(shop.asking())
    wrong = {name for name, problem in found.items() if isinstance(problem, UnknownInstanceType)}
    assert wrong == {"run", "run now", "rerun"}
    assert all("use one of plan-srv-008, " in str(found[name]) for name in wrong)
    told = await find_gone(home.context)
    assert [each.split(" ")[0] for each in told] == ["shop/production/web", "shop/production/web:job"]
    assert "`oneoff service update shop/production/web --instance-type ID`" in told[0]
    await services.change_service(home.context, shop.service.id, {"instance_type": None})
    assert (await shop.run()).instance_type == "plan-srv-008"
