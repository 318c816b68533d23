"""What happens when jobs are saved, changed, run and deleted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import insert

from oneoff.core.command import Command
from oneoff.core.run import RunStatus, Trigger
from oneoff.engine.spec import variables_place
from oneoff.errors import (
    AlreadyExists,
    IdempotencyKeyReused,
    InvalidCommand,
    InvalidName,
    InvalidVariables,
    JobHasCrons,
    NoLiveImage,
    NotFound,
    ServiceHasJobs,
    TimeLimitTooLong,
    UnknownInstanceType,
)
from oneoff.operations import jobs, runs, services, variables
from oneoff.operations.jobs import Job, JobFilter, NewJob, Overrides
from oneoff.operations.reruns import run_again
from oneoff.operations.runs import Origin
from oneoff.operations.variables import VariableChange
from oneoff.store import runs as run_rows
from oneoff.store import tables
from oneoff.store.idempotency import Idempotency
from tests.operations.home import DIGEST, Home

pytestmark = pytest.mark.anyio
ORIGIN = Origin("tester", Trigger.MANUAL)
MIGRATE = {"command": ["manage.py", "migrate"]}


async def add_job(home: Home, service_id: str, name: str = "migrate", **settings: Any) -> Job:
    return await jobs.create_job(home.context, NewJob(service_id, name, MIGRATE | settings))


async def opened(home: Home, run_id: str) -> dict[str, Any]:
    box = await home.context.database.read(lambda c: run_rows.fetch_sealed_variables(c, run_id))
    found: dict[str, Any] = json.loads(home.context.sealer.open(box, variables_place(run_id)))
    return found


async def test_a_job_comes_back_as_it_was_saved(home: Home) -> None:
    service = await home.add_service()
    job = await add_job(home, service.id, entrypoint=["tini", "--"], timeout_seconds=60, instance_type="plan-srv-008")
    assert (job.path, job.command) == ("shop/production/web:migrate", Command(("manage.py", "migrate")))
    assert (job.entrypoint, job.timeout_seconds, job.instance_type) == (("tini", "--"), 60, "plan-srv-008")
    assert await jobs.get_job(home.context, job.id) == job
    assert await jobs.list_jobs(home.context, JobFilter(service.id, "migrate"), 10, None) == [job]
    assert await jobs.list_jobs(home.context, JobFilter(name="other"), 10, None) == []


async def test_a_run_of_a_job_has_what_the_job_says_and_belongs_to_it(home: Home) -> None:
    service = await home.add_service()
    job = await add_job(home, service.id, timeout_seconds=60, entrypoint="clear", instance_type="plan-srv-008")
    run = await jobs.run_job(home.context, job.id, Overrides(), ORIGIN)
    assert (run.job_id, run.status, run.digest, run.actor) == (job.id, RunStatus.QUEUED, DIGEST, "tester")
    assert (run.command, run.timeout_seconds, run.entrypoint) == (job.command.argv, 60, "clear")
    assert run.instance_type == "plan-srv-008"
    assert (await opened(home, run.id))["builtins"] == {"ONEOFF_JOB": "migrate"}
    assert home.context.signals.dispatch.is_set()


async def test_overrides_are_of_one_run_alone(home: Home) -> None:
    service = await home.add_service()
    job = await add_job(home, service.id, timeout_seconds=60)
    run = await jobs.run_job(home.context, job.id, Overrides(("--fake",), {}, "plan-srv-008", 30), ORIGIN)
    assert run.command == ("manage.py", "migrate", "--fake")
    assert (run.instance_type, run.timeout_seconds) == ("plan-srv-008", 30)
    assert await jobs.get_job(home.context, job.id) == job


async def test_variables_of_service_job_and_run_win_in_that_order_and_a_secret_stays_one(home: Home) -> None:
    service = await home.add_service()
    await variables.replace_variables(home.context, service.id, {n: VariableChange("service") for n in "ABC"})
    own = {"B": VariableChange("job", True), "C": VariableChange("job", True)}
    job = await add_job(home, service.id, variables=own)
    run = await jobs.run_job(home.context, job.id, Overrides(variables={"C": VariableChange("run")}), ORIGIN)
    found = await opened(home, run.id)
    assert found["variables"] == {"A": "service", "B": "job", "C": "run"}
    assert found["secret"] == ["B", "C"]
    assert b"job" not in job.variables_sealed


async def test_what_takes_the_place_of_a_secret_is_one(home: Home) -> None:
    service = await home.add_service()
    secrets = {name: VariableChange("hidden", True) for name in ("OF_SERVICE", "OF_JOB", "OF_RUN", "SHOWN")}
    await variables.replace_variables(home.context, service.environment_id, secrets)
    await variables.replace_variables(home.context, service.id, {"OF_SERVICE": VariableChange("plain")})
    job = await add_job(home, service.id, variables={"OF_JOB": VariableChange("plain"), "A": VariableChange("plain")})
    own = {"OF_RUN": VariableChange("plain"), "SHOWN": VariableChange("plain", False), "A": VariableChange("b")}
    run = await jobs.run_job(home.context, job.id, Overrides(variables=own), ORIGIN)
    found = await opened(home, run.id)
    assert found["variables"] == dict.fromkeys(secrets, "plain") | {"A": "b"}
    assert sorted(found["secret"]) == ["OF_JOB", "OF_RUN", "OF_SERVICE"]
    without = await jobs.run_job(home.context, job.id, Overrides(), ORIGIN)
    assert sorted((await opened(home, without.id))["secret"]) == sorted(secrets)
    again, _ = await run_again(home.context, run.id, ORIGIN)
    assert await opened(home, again.id) == found


async def test_a_changed_job_changes_its_next_run_and_not_those_before(home: Home) -> None:
    service = await home.add_service()
    job = await add_job(home, service.id, variables={"A": VariableChange("1"), "B": VariableChange("2")})
    before = await jobs.run_job(home.context, job.id, Overrides(), ORIGIN)
    changes = {"name": "seed", "shell": "a | b", "variables": {"A": None, "C": VariableChange("3")}}
    changed = await jobs.change_job(home.context, job.id, changes)
    assert (changed.name, changed.command) == ("seed", Command(shell="a | b"))
    assert changed.updated_at > job.updated_at
    after = await jobs.run_job(home.context, job.id, Overrides(("c d",)), ORIGIN)
    assert after.shell == "a | b 'c d'"
    assert (await opened(home, after.id))["variables"] == {"B": "2", "C": "3"}
    assert (await runs.get_run(home.context, before.id)).command == ("manage.py", "migrate")


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"command": None}, InvalidCommand),
        ({"command": ["true"], "shell": "true"}, InvalidCommand),
        ({"command": []}, InvalidCommand),
        ({"timeout_seconds": 30 * 86_400 + 1}, TimeLimitTooLong),
        ({"instance_type": "plan-crn-003"}, UnknownInstanceType),
        ({"variables": {"ONEOFF_X": VariableChange("1")}}, InvalidVariables),
        ({"entrypoint": "/bin/sh"}, InvalidCommand),
    ],
)
async def test_what_breaks_a_rule_is_refused_when_it_is_saved(
    home: Home, settings: dict[str, Any], error: type[Exception]
) -> None:
    service = await home.add_service()
    with pytest.raises(error):
        await add_job(home, service.id, **settings)
    job = await add_job(home, service.id)
    with pytest.raises(error):
        await jobs.change_job(home.context, job.id, settings)
    assert await jobs.list_jobs(home.context, JobFilter(), 10, None) == [job]


async def test_a_name_is_taken_once_in_a_service(home: Home) -> None:
    first, second = await home.add_service("shop/production/web"), await home.add_service("shop/production/worker")
    await add_job(home, first.id)
    other = await add_job(home, first.id, "other")
    await add_job(home, second.id)
    with pytest.raises(AlreadyExists):
        await add_job(home, first.id)
    with pytest.raises(AlreadyExists):
        await jobs.change_job(home.context, other.id, {"name": "migrate"})
    with pytest.raises(InvalidName):
        await jobs.change_job(home.context, other.id, {"name": None})


async def test_the_same_key_makes_one_job_and_one_run(home: Home) -> None:
    service = await home.add_service()
    key = Idempotency("tok-1", "k", "same")
    new = NewJob(service.id, "migrate", MIGRATE)
    made = await asyncio.gather(*(jobs.create_job(home.context, new, key) for _ in range(4)))
    assert len({job.id for job in made}) == 1
    key = Idempotency("tok-1", "r", "same")
    same = [await jobs.run_job(home.context, made[0].id, Overrides(), ORIGIN, key) for _ in range(2)]
    assert same[0] == same[1]
    with pytest.raises(IdempotencyKeyReused):
        await jobs.run_job(home.context, made[0].id, Overrides(), ORIGIN, Idempotency("tok-1", "r", "other"))


async def test_a_deleted_job_leaves_its_runs(home: Home) -> None:
    service = await home.add_service()
    job = await add_job(home, service.id)
    run = await jobs.run_job(home.context, job.id, Overrides(), ORIGIN)
    await jobs.delete_job(home.context, job.id)
    with pytest.raises(NotFound):
        await jobs.get_job(home.context, job.id)
    with pytest.raises(NotFound):
        await jobs.run_job(home.context, job.id, Overrides(), ORIGIN)
    assert (await runs.get_run(home.context, run.id)).job_id == job.id


async def test_a_job_with_crons_and_a_service_with_jobs_are_deleted_only_when_they_may_go_with_it(home: Home) -> None:
    service = await home.add_service()
    first, second = await add_job(home, service.id), await add_job(home, service.id, "other")
    for job in (first, second):
        await add_cron(home, job)
    with pytest.raises(JobHasCrons, match="--with-crons"):
        await jobs.delete_job(home.context, first.id)
    await jobs.delete_job(home.context, first.id, with_crons=True)
    with pytest.raises(ServiceHasJobs, match="--with-jobs"):
        await services.delete_service(home.context, service.id)
    await services.delete_service(home.context, service.id, with_jobs=True)
    assert await jobs.list_jobs(home.context, JobFilter(), 10, None) == []


async def add_cron(home: Home, job: Job) -> None:
    row = {
        "id": home.context.new_id("cron"), "workspace_id": job.workspace_id, "job_id": job.id, "name": "nightly",
        "expression": "@daily", "zone": "UTC", "overlap": "skip", "dst_policy": "debian", "catch_up": "latest",
        "catch_up_seconds": 60, "jitter_seconds": 0, "paused": False, "hold_during_deploy": False, "cursor": 0,
        "created_at": 0,
    }  # fmt: skip
    await home.context.database.run(lambda c: c.execute(insert(tables.crons).values(row)) and None)


async def test_a_job_of_a_service_without_a_live_image_is_saved_and_its_run_refused(home: Home) -> None:
    service = await home.add_service(image=None)
    job = await add_job(home, service.id)
    with pytest.raises(NoLiveImage):
        await jobs.run_job(home.context, job.id, Overrides(), ORIGIN)


@pytest.mark.parametrize("job_id", ["jdf-00000000000000000000", "nothing", "\0", "run-00000000000000000000"])
async def test_an_unknown_job_is_not_found(home: Home, job_id: str) -> None:
    with pytest.raises(NotFound):
        await jobs.get_job(home.context, job_id)
