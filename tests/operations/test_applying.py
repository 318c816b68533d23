"""Job files: what they make, change, leave alone and refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from oneoff.errors import JobFileInvalid, NotFound, PlanOutdated
from oneoff.operations import crons, jobs
from oneoff.operations.applying import JobFile, Manner, Plan, WantedCron, WantedJob, apply_file
from oneoff.operations.crons import CronFilter, NewCron
from oneoff.operations.jobs import JobFilter, NewJob
from oneoff.operations.variables import VariableChange
from oneoff.store import concurrency
from tests.operations.home import Home

pytestmark = pytest.mark.anyio
WEB = "shop/production/web"
NIGHTLY = WantedCron("nightly", {"expression": "30 2 * * *", "time_zone": "Europe/Berlin"})
MIGRATE = WantedJob(WEB, "migrate", {"command": ["migrate"], "gate": "before_deploy"})
CLEAN = WantedJob(
    WEB,
    "clean",
    {"shell": "clean | tee log", "timeout_seconds": 600, "retries": {"count": 2}, "concurrency_group": "db"},
    {"DAYS": VariableChange("30"), "KEY": VariableChange("k", secret=True)},
    [NIGHTLY],
)
FILE = JobFile("oneoff.yaml", WEB, {"db": 2}, [MIGRATE, CLEAN])


class Shop:
    def __init__(self, home: Home) -> None:
        self.context = home.context

    async def apply(self, file: JobFile = FILE, **manner: Any) -> list[tuple[str, str, list[str]]]:
        plan = await self.plan(file, **manner)
        return [(item.action.value, item.name, [each.field for each in item.changes]) for item in plan.items]

    async def plan(self, file: JobFile = FILE, **manner: Any) -> Plan:
        return await apply_file(self.context, file, Manner(**manner))

    async def problems(self, file: JobFile, **manner: Any) -> dict[str, str]:
        with pytest.raises(JobFileInvalid) as caught:
            await self.plan(file, **manner)
        return dict(caught.value.problems)

    async def jobs(self) -> dict[str, jobs.Job]:
        return {each.name: each for each in await jobs.list_jobs(self.context, JobFilter(), 100, None)}

    async def crons(self) -> dict[str, crons.Cron]:
        return {each.name: each for each in await crons.list_crons(self.context, CronFilter(), 100, None)}


@pytest.fixture
async def shop(home: Home) -> Shop:
    await home.add_service(WEB)
    await home.add_service("shop/production/worker")
    return Shop(home)


async def test_what_a_file_names_is_made_and_a_second_time_nothing_is_to_do(shop: Shop) -> None:
    told = await shop.apply(dry_run=True)
    assert await shop.jobs() == {}
    assert await shop.apply() == told
    assert [(action, name) for action, name, _ in told] == [
        ("create", "db"),
        ("create", f"{WEB}:migrate"),
        ("create", f"{WEB}:clean"),
        ("create", f"{WEB}:clean:nightly"),
    ]
    made, cron = await shop.jobs(), (await shop.crons())["nightly"]
    assert (made["clean"].managed_by, cron.managed_by) == (f"oneoff.yaml ({WEB})",) * 2
    assert (made["migrate"].gate, made["clean"].timeout_seconds, cron.zone) == ("before_deploy", 600, "Europe/Berlin")
    groups = await shop.context.database.read(lambda c: concurrency.fetch_groups(c, shop.context.workspace_id))
    assert groups["db"].limit == 2
    again = await shop.apply()
    assert {(action, *fields) for action, _, fields in again} == {("keep",)}
    assert (await shop.jobs(), (await shop.crons())["nightly"]) == (made, cron)


async def test_what_the_file_says_otherwise_is_changed_and_what_it_omits_has_its_default(shop: Shop) -> None:
    await shop.apply()
    later = WantedCron("nightly", {"expression": "0 3 * * *"})
    variables = {"DAYS": VariableChange("31"), "NEW": VariableChange("x"), "KEY": VariableChange("k", secret=True)}
    clean = WantedJob(WEB, "clean", {"command": ["clean"]}, variables, [later])
    plan = await shop.plan(replace(FILE, jobs=[MIGRATE, clean]))
    changes = {item.name: {c.field: (c.before, c.after) for c in item.changes} for item in plan.items}
    assert changes[f"{WEB}:migrate"] == {}
    retries = changes[f"{WEB}:clean"].pop("retries")
    assert (retries[0]["count"], retries[1]) == (2, None)
    assert changes[f"{WEB}:clean"] == {
        "command": (None, ["clean"]),
        "shell": ("clean | tee log", None),
        "timeout_seconds": (600, None),
        "concurrency_group": ("db", None),
        "variables.DAYS": ("set", "another value"),
        "variables.NEW": (None, "set"),
    }
    assert changes[f"{WEB}:clean:nightly"] == {
        "expression": ("30 2 * * *", "0 3 * * *"),
        "time_zone": ("Europe/Berlin", "UTC"),
    }
    cron = (await shop.crons())["nightly"]
    assert (cron.expression, cron.zone) == ("0 3 * * *", "UTC")
    assert cron.next_due_at is not None
    assert cron.next_due_at.hour == 3


async def test_a_pause_is_not_the_files_business(shop: Shop) -> None:
    await shop.apply()
    await crons.set_paused(shop.context, (await shop.crons())["nightly"].id, True)
    assert {action for action, *_ in await shop.apply()} == {"keep"}
    assert (await shop.crons())["nightly"].paused


async def test_what_it_names_no_longer_is_told_and_goes_only_when_that_is_said(shop: Shop) -> None:
    await shop.apply()
    fewer = replace(FILE, jobs=[MIGRATE])
    assert await shop.apply(fewer) == [
        ("keep", "db", []),
        ("keep", f"{WEB}:migrate", []),
        ("leave", f"{WEB}:clean:nightly", []),
        ("leave", f"{WEB}:clean", []),
    ]
    assert set(await shop.jobs()) == {"migrate", "clean"}
    pruned = await shop.apply(fewer, prune=True)
    assert [action for action, *_ in pruned] == ["keep", "keep", "delete", "delete"]
    assert (set(await shop.jobs()), await shop.crons()) == ({"migrate"}, {})


async def test_a_job_with_a_cron_of_a_person_is_not_deleted(shop: Shop) -> None:
    await shop.apply()
    await crons.create_cron(shop.context, NewCron((await shop.jobs())["migrate"].id, {"expression": "@daily"}))
    problems = await shop.problems(replace(FILE, jobs=[CLEAN]), prune=True)
    assert "has crons (1)" in problems[f"{WEB}:migrate"]
    assert set(await shop.jobs()) == {"migrate", "clean"}


async def test_what_others_made_is_taken_over_only_when_that_is_said(shop: Shop) -> None:
    await shop.apply()
    service_id = (await shop.jobs())["migrate"].service_id
    await jobs.delete_job(shop.context, (await shop.jobs())["migrate"].id)
    await jobs.create_job(shop.context, NewJob(service_id, "migrate", {"command": ["by", "hand"]}))
    problems = await shop.problems(FILE)
    assert problems == {
        "jobs.0": f"job {WEB}:migrate was made by hand: give it another name, or let this file take it with --adopt"
    }
    others = await shop.problems(replace(FILE, source="other.yaml", jobs=[CLEAN]))
    assert f"was made by oneoff.yaml ({WEB})" in others["jobs.0"]
    adopted = await shop.apply(adopt=True)
    assert ("adopt", f"{WEB}:migrate", ["command", "gate"]) in adopted
    assert {action for action, *_ in await shop.apply()} == {"keep"}


async def test_all_that_is_wrong_is_told_together_and_nothing_is_done(shop: Shop) -> None:
    wrong = [
        MIGRATE,
        WantedJob(WEB, "Bad Name", {"command": ["x"]}),
        WantedJob(WEB, "huge", {"command": ["x"], "timeout_seconds": 10**8}),
        replace(CLEAN, crons=[WantedCron("often", {"expression": "* * * * * *"}), NIGHTLY]),
        WantedJob("shop/nowhere", "x", {"command": ["x"]}),
        MIGRATE,
    ]
    problems = await shop.problems(replace(FILE, groups={"DB": 1}, jobs=wrong))
    assert list(problems) == [
        "groups.DB.concurrency_group",
        "jobs.1.name",
        "jobs.2.timeout_seconds",
        "jobs.3.crons.0.expression",
        "jobs.4",
        "jobs.5.name",
    ]
    assert await shop.jobs() == {}


async def test_a_plan_that_is_outdated_is_not_carried_out(shop: Shop) -> None:
    seen = await shop.plan(dry_run=True)
    await shop.apply(replace(FILE, jobs=[MIGRATE]))
    with pytest.raises(PlanOutdated):
        await shop.plan(expected=seen.digest)
    assert set(await shop.jobs()) == {"migrate"}
    fresh = await shop.plan(dry_run=True)
    assert (await shop.plan(expected=fresh.digest)).digest == fresh.digest


async def test_the_same_file_of_another_service_is_another_file(shop: Shop) -> None:
    await shop.apply()
    worker = "shop/production/worker"
    file = JobFile("oneoff.yaml", worker, {}, [WantedJob(worker, "clean", {"command": ["x"]})])
    assert [action for action, *_ in await shop.apply(file, prune=True)] == ["create"]
    assert len(await shop.jobs()) == 2
    with pytest.raises(NotFound, match="service create"):
        await shop.plan(replace(file, service="shop/nowhere"))
