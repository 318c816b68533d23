"""What the engine tells of runs, jobs and ticks, each in the transaction of what it tells."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from oneoff.core.clock import to_us
from oneoff.core.events import check_body
from oneoff.core.retry import RetryPolicy
from oneoff.core.run import RunStatus, Trigger
from oneoff.drivers.fake_engine import Script
from oneoff.operations import crons, pauses
from oneoff.store import events, tables
from oneoff.store.events import Event, EventFilter
from tests.engine.conftest import StartServer
from tests.engine.test_retries import accept_with, let_pass, retry_of
from tests.engine.test_scheduler import Town, town  # noqa: F401 - a fixture
from tests.engine.world import START, WORKSPACE, World

pytestmark = pytest.mark.anyio


async def events_of(world: World, subject_id: str) -> list[Event]:
    wanted = EventFilter(subject_id=subject_id)
    listed: list[Event] = await world.database.read(lambda c: events.list_after(c, WORKSPACE, wanted, 100, 0))
    return listed


async def add_job(world: World, service_id: str, job_id: str) -> None:
    row = {
        "id": job_id, "workspace_id": WORKSPACE, "service_id": service_id, "name": "backup", "variables_sealed": b"",
        "created_at": to_us(START), "updated_at": to_us(START),
    }  # fmt: skip
    await world.database.run(lambda c: c.execute(insert(tables.jobs).values(row)) and None)


async def test_a_run_is_told_twice_with_all_that_became_of_it(world: World, start_server: StartServer) -> None:
    world.engine.default_script = Script(code=137, oom=True)
    await start_server()
    service_id = await world.add_service("web")
    run = await world.until_ended(await world.accept(service_id))
    started, ended = await events_of(world, run.id)
    assert (started.kind, started.body["service"], started.service_id) == ("run.started", run.service, service_id)
    assert started.body["started_at"] == "2026-03-01T12:00:00Z"
    assert ended.kind == "run.ended"
    assert started.body.items() <= ended.body.items()
    told = {name: ended.body[name] for name in ("status", "reason", "exit_code", "signal", "oom_seen", "retried_by")}
    assert told == {
        "status": "failed", "reason": "oom_killed", "exit_code": 137, "signal": 9, "oom_seen": True, "retried_by": None,
    }  # fmt: skip
    assert (ended.body["memory_bytes"], ended.body["timeout_seconds"]) == (512 << 20, 3600)
    assert (ended.body["finished_at"], ended.body["duration_seconds"]) == ("2026-03-01T12:00:00Z", 0.0)


async def test_a_run_that_was_canceled_says_by_whom(world: World, start_server: StartServer) -> None:
    world.engine.default_script = Script(code=None, code_on_term=143)
    await start_server()
    run_id = await world.accept(await world.add_service("web"))
    await world.until_status(run_id, "running")
    assert await world.cancel(run_id)
    await world.until_ended(run_id)
    ended = (await events_of(world, run_id))[-1]
    assert (ended.body["status"], ended.body["canceled_by"]) == ("canceled", "tester")


async def test_a_job_fails_once_and_recovers_once_and_attempts_that_go_on_do_not_count(
    world: World, start_server: StartServer
) -> None:
    service_id, job_id = await world.add_service("web"), "jdf-" + "0" * 20
    await add_job(world, service_id, job_id)
    await start_server()

    async def run(code: int) -> None:
        world.engine.scripts[("job",)] = Script(code=code)
        first = await accept_with(world, service_id, RetryPolicy(1, delay_seconds=1), job_id=job_id)
        await let_pass(world, first)
        if code and (second := await retry_of(world, first)):
            assert (await events_of(world, first))[-1].body["retried_by"] == second.id
            await let_pass(world, second.id)

    for code in (0, 3, 3, 0, 0, 3):
        await run(code)
    told = await events_of(world, job_id)
    assert [each.kind for each in told] == ["job.failing", "job.recovered", "job.failing"]
    assert (told[0].body["job"], told[0].body["exit_code"]) == ("shop/production:backup", 3)
    assert told[1].body["since"] == told[0].body["since"]
    assert told[1].body["status"] == "succeeded"


async def ticks_told(town: Town) -> list[tuple[str, str, str, int]]:  # noqa: F811
    context = town.context
    listed = await context.database.read(
        lambda c: events.list_after(c, context.workspace_id, EventFilter(), 100, 0),
    )
    found = [each for each in listed if each.kind.startswith("tick.")]
    assert all(each.service_id == town.service.id for each in found)
    return [(each.kind, each.body["due_at"][11:16], each.body["until"][11:16], each.body["count"]) for each in found]


async def test_a_stretch_of_missed_instants_is_one_event(town: Town) -> None:  # noqa: F811
    await town.add_cron("*/5 * * * *", catch_up="latest")
    await town.turn(minutes=62)
    assert await ticks_told(town) == [("tick.missed", "12:05", "12:55", 11)]
    assert [each.trigger for each in await town.runs()] == [Trigger.CRON]


async def test_what_was_skipped_or_refused_is_told_and_what_was_paused_is_not(town: Town) -> None:  # noqa: F811
    cron = await town.add_cron("*/5 * * * *")
    await town.run_now()
    await town.turn(minutes=5)
    await crons.set_paused(town.context, cron.id, True)
    await town.turn(minutes=5)
    await pauses.pause_workspace(town.context, True)
    await crons.set_paused(town.context, cron.id, False)
    assert await ticks_told(town) == [("tick.skipped", "12:05", "12:05", 1)]
    told = await town.context.database.read(
        lambda c: events.list_after(c, town.context.workspace_id, EventFilter(["cron.paused", "cron.resumed"]), 9, 0)
    )
    assert [(each.kind, each.body["scope"]) for each in told] == [
        ("cron.paused", "cron"), ("cron.paused", "workspace"), ("cron.resumed", "cron"),
    ]  # fmt: skip


async def test_a_run_that_a_newer_one_replaced_in_the_queue_has_its_end_told(town: Town) -> None:  # noqa: F811
    await town.add_cron("*/5 * * * *", overlap="replace")
    await town.turn(minutes=10, steps=2)
    first, second = await town.runs()
    assert (first.status, second.status) == (RunStatus.CANCELED, RunStatus.QUEUED)
    listed = await town.context.database.read(
        lambda c: events.list_after(c, town.context.workspace_id, EventFilter(subject_id=first.id), 9, 0)
    )
    assert [(each.kind, each.body["started_at"]) for each in listed] == [("run.ended", None)]


async def test_the_janitor_drops_what_is_older_than_the_setting(world: World, start_server: StartServer) -> None:
    server = await start_server()
    run = await world.until_ended(await world.accept(await world.add_service("web")))
    world.clock.turn(timedelta(days=89).total_seconds())
    await server.janitor.tick()
    assert len(await events_of(world, run.id)) == 2
    world.clock.turn(timedelta(days=2).total_seconds())
    await server.janitor.tick()
    assert await events_of(world, run.id) == []


def test_a_body_that_is_not_in_the_table_is_a_defect() -> None:
    with pytest.raises(KeyError, match="extra"):
        check_body("plan.changed", {"before": "a", "plan": "b", "actor": "c", "extra": Any})
