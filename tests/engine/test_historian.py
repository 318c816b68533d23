"""History stays bounded, with what must stay, and what dropped runs cost is not forgotten: on both databases."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from oneoff.core.ids import make_id
from oneoff.core.plan import PLANS
from oneoff.core.retention import KeptRun, runs_to_drop
from oneoff.core.run import Reason, Run, RunStatus
from oneoff.core.usage import By
from oneoff.engine.historian import Historian
from oneoff.logs.folder import log_folder
from oneoff.operations import jobs, services
from oneoff.operations.plans import find_effects
from oneoff.operations.usage import Usage, fetch_usage
from oneoff.store import history, runs, tables
from oneoff.store.deploy_tables import deploy_gates
from tests.engine.test_scheduler import Town
from tests.operations.home import open_home
from tests.operations.test_crons import StillClock

pytestmark = pytest.mark.anyio
PLAN = replace(PLANS["team"], kept_runs=10, kept_days=20)
DAY = timedelta(days=1)


class Archive:
    """A town with a past."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.numbers = iter(range(10**6))

    @property
    def context(self) -> Any:
        return self.town.context

    async def open(self, plan: Any = PLAN) -> Archive:
        self.town.context = replace(self.context, plans={"team": plan})
        self.town.home.context = self.context
        self.pattern = await self.town.run_now()
        await self.town.finish(self.pattern)
        self.box = await self.context.database.read(lambda c: runs.fetch_sealed_variables(c, self.pattern.id))
        self.historian = Historian(self.context)
        return self

    def ended(self, ago: timedelta, status: RunStatus = RunStatus.SUCCEEDED, **changes: Any) -> Run:
        """A run that ended so long ago, after 90.5 seconds."""
        end = self.town.clock.time - ago
        values = {
            "id": make_id("run", end - timedelta(seconds=91), next(self.numbers).to_bytes(8)),
            "status": status,
            "reason": {"succeeded": Reason.COMPLETED, "failed": Reason.NONZERO_EXIT}.get(status, Reason.CANCELED),
            "created_at": end - timedelta(seconds=91),
            "started_at": end - timedelta(seconds=90, microseconds=500_000),
            "finished_at": end,
        }
        return self.pattern._replace(**values | changes)

    async def save(self, *made: Run) -> list[str]:
        for begin in range(0, len(made), 500):
            rows = [(run, self.box) for run in made[begin : begin + 500]]
            await self.context.database.run(lambda c, rows=rows: runs.save_all_new(c, rows))
        return [run.id for run in made]

    def write_logs(self, *ids: str) -> None:
        for run_id in ids:
            self.town.home.write_log(run_id, ("stdout", b"x"), ended=True)

    def has_log(self, run_id: str) -> bool:
        return log_folder(self.context.settings.logs_dir, run_id).exists()

    async def ids(self) -> set[str]:
        return set(await self.context.database.read(lambda c: c.execute(select(tables.runs.c.id)).scalars().all()))

    async def tick(self, times: int = 1) -> float:
        delay = 0.0
        for _ in range(times):
            delay = await self.historian.tick()
        return delay

    async def usage(self) -> Usage:
        return await fetch_usage(self.context, date(2020, 1, 1), date(2030, 1, 1), list(By))


@pytest.fixture(params=["sqlite", "postgres"])
async def archive(request: pytest.FixtureRequest, data_dir: Path, anyio_backend: str) -> AsyncIterator[Archive]:
    url = request.getfixturevalue("schema_url") if request.param == "postgres" else None
    home = await open_home(data_dir, url)
    yield await Archive(await Town(home, StillClock()).open()).open()
    home.close()


async def test_what_is_dropped_is_what_the_policy_says_and_its_logs_and_its_cost(archive: Archive) -> None:
    chance = random.Random(7)
    made = []
    for _ in range(120):
        status = chance.choice([RunStatus.SUCCEEDED, RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELED])
        job_id = chance.choice([archive.town.job_id, None, "jdf-" + "9" * 20])
        ago = chance.choice([DAY, timedelta(hours=1)]) * chance.uniform(0, 45)
        made.append(archive.ended(ago, status, job_id=job_id))
    made[0] = made[0]._replace(started_at=None)
    ids = await archive.save(*made)
    archive.write_logs(*ids[:40])
    before = await archive.usage()
    expected = set()
    for line in {run.job_id for run in made}:
        kept = [KeptRun(run.id, run.status, run.finished_at) for run in made if run.job_id == line]
        if line == archive.town.job_id:
            kept.append(KeptRun(archive.pattern.id, RunStatus.SUCCEEDED, archive.town.clock.time))
        expected |= set(runs_to_drop(kept, PLAN.retention, archive.town.clock.time))
    assert 20 < len(expected) < 110
    assert await archive.tick() == 60.0
    assert await archive.ids() == {archive.pattern.id, *ids} - expected
    assert {run_id for run_id in ids[:40] if not archive.has_log(run_id)} == expected & set(ids[:40])
    after = await archive.usage()
    assert after.lines == before.lines
    assert after.total == before.total
    assert after.total.runs == 120
    await archive.tick()
    assert (await archive.usage()).total == before.total


async def test_what_something_open_refers_to_stays_until_that_is_over(archive: Archive) -> None:
    context, town = archive.context, archive.town
    cron = await town.add_cron("0 0 1 * *", alert_after_ticks=2)
    old = 60 * DAY
    success = archive.ended(old, cron_id=cron.id, scheduled_for=town.clock.time - old)
    older = archive.ended(old + DAY, cron_id=cron.id, scheduled_for=town.clock.time - old - DAY)
    retried, repeated = archive.ended(old, RunStatus.FAILED), archive.ended(old)
    follower = archive.ended(old, deploy_id="dep-2")
    of_batch, gate, plain = (
        archive.ended(old, batch_id="bat-1"),
        archive.ended(old, deploy_id="dep-1"),
        archive.ended(old),
    )
    queued = {"status": RunStatus.QUEUED, "reason": None, "started_at": None, "finished_at": None}
    waiting = [archive.ended(DAY, retry_of=retried.id), archive.ended(DAY, rerun_of=repeated.id)]
    kept = [success, retried, repeated, of_batch, gate, follower]
    going = [run._replace(**queued) for run in waiting]
    await archive.save(older, *kept, plain, *going)
    open_batch = {
        **dict.fromkeys(("id", "service_id", "status", "template", "actor"), "bat-1"),
        "workspace_id": context.workspace_id,
        "status": "running", "stop_on_failure": False, "request_sealed": b"", "created_at": 0,
        **dict.fromkeys(("max_parallel", "item_count", "index_count", "going", "succeeded", "failed", "canceled"), 1),
    }  # fmt: skip
    open_deploy = {"id": "dep-1", "service_id": town.service.id, "status": "created", "image": "i", "actor": "a"}

    def open_them(connection: Any) -> None:
        connection.execute(insert(tables.batches).values(open_batch))
        connection.execute(insert(tables.deploys).values(**open_deploy, created_at=0))
        follows = {"deploy_id": "dep-2", "job_id": town.job_id, "job": "backup", "gate": "after_deploy"}
        connection.execute(insert(deploy_gates).values(**follows, run_id=follower.id))

    await context.database.run(open_them)
    await archive.tick()
    assert await archive.ids() == {archive.pattern.id, *(run.id for run in (*kept, *going))}

    def close_them(connection: Any) -> None:
        for table in (tables.batches, tables.deploys):
            change = update(table).where(table.c.id.in_(["bat-1", "dep-1"]))
            connection.execute(change.values(finished_at=1))
        connection.execute(update(tables.crons).values(alert_after_ticks=None))
        connection.execute(update(deploy_gates).values(status="succeeded"))
        mine = tables.runs.c.id.in_([run.id for run in going])
        connection.execute(update(tables.runs).where(mine).values(status="canceled", finished_at=1))

    await context.database.run(close_them)
    await archive.tick(2)
    assert await archive.ids() == {archive.pattern.id}


async def test_a_job_may_keep_less_and_what_is_deleted_has_a_history_too(archive: Archive) -> None:
    context, town = archive.context, archive.town
    await jobs.change_job(context, town.job_id, {"retention": {"runs": 3, "days": None}})
    await archive.save(*(archive.ended(DAY * n) for n in range(1, 9)))
    await archive.tick()
    assert len(await archive.ids()) == 3
    other = await town.home.add_service("shop/production/other")
    await archive.save(*(archive.ended(DAY * n, service_id=other.id, job_id=None) for n in range(1, 30)))
    await jobs.delete_job(context, town.job_id)
    await services.delete_service(context, other.id)
    await archive.tick(2)
    assert len(await archive.ids()) == 3 + PLAN.kept_runs
    town.clock.time += DAY * 50
    await archive.tick(2)
    assert await archive.ids() == set()
    assert (await archive.usage()).total.runs == 38


async def test_logs_whose_run_is_gone_are_swept_and_those_of_others_are_left(archive: Archive) -> None:
    [kept, crashed] = await archive.save(archive.ended(DAY), archive.ended(DAY))
    archive.write_logs(kept, crashed)
    assert await archive.context.database.run(lambda c: history.drop_ended(c, [crashed])) == [crashed]
    await archive.tick()
    assert [archive.has_log(each) for each in (kept, crashed)] == [True, False]
    root: Path = archive.context.settings.logs_dir
    (root / "instance").write_text("another")
    archive.write_logs(crashed)
    await archive.tick()
    assert archive.has_log(crashed)


async def test_nothing_is_dropped_while_the_plan_is_not_known(archive: Archive) -> None:
    await archive.save(archive.ended(60 * DAY))
    archive.historian = Historian(replace(archive.context, plans={"other": PLAN}))
    await archive.tick()
    assert len(await archive.ids()) == 2


async def test_a_change_of_the_plan_tells_how_much_will_go(archive: Archive) -> None:
    goes_anyway = archive.ended(60 * DAY)
    await archive.save(goes_anyway, *(archive.ended(DAY * n) for n in range(1, 9)))
    assert await find_effects(archive.context, PLAN) == []
    [told] = await find_effects(archive.context, replace(PLAN, kept_runs=5, kept_days=5))
    assert told.kind == "history"
    assert told.message.startswith("4 ended runs are beyond what is kept (5 of each job, for 5 days)")


async def test_a_long_past_goes_in_small_steps(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oneoff.engine.historian._RUNS_AT_ONCE", 40)
    await archive.save(*(archive.ended(DAY + timedelta(minutes=n)) for n in range(100)))
    counts = []
    for _ in range(4):
        counts.append((await archive.tick(), len(await archive.ids())))
    assert counts == [(0.5, 61), (0.5, 21), (60.0, 10), (60.0, 10)]


async def test_a_five_minute_cron_stays_at_the_plan_s_count(tmp_path: Path, anyio_backend: str) -> None:
    home = await open_home(tmp_path)
    archive = await Archive(await Town(home, StillClock()).open()).open(PLANS["pro"])
    total = 1
    for _ in range(6):
        archive.town.clock.time += DAY
        await archive.save(*(archive.ended(n * timedelta(minutes=5)) for n in range(288)))
        total += 288
        assert await archive.tick() == 60.0
        assert len(await archive.ids()) == PLANS["pro"].kept_runs
    assert (await archive.usage()).total.runs == total
    home.close()
