"""Attempts of a run: each is a run of its own, none is lost and none is doubled."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from oneoff.core.retry import RetryPolicy
from oneoff.core.retry_text import to_text
from oneoff.core.run import Reason, Run, RunStatus, Trigger
from oneoff.drivers.fake_engine import Script
from oneoff.store import runs, tables
from tests.engine.conftest import StartServer
from tests.engine.world import START, World, eventually

pytestmark = pytest.mark.anyio


async def accept_with(world: World, service_id: str, policy: RetryPolicy, **more: Any) -> str:
    """A queued run with retries that no server has seen without them."""
    run_id = await world.accept(service_id, "job")
    values = {"retries": to_text(policy), **more}
    await world.database.run(
        lambda c: c.execute(update(tables.runs).where(tables.runs.c.id == run_id).values(values)) and None
    )
    return run_id


async def retry_of(world: World, run_id: str) -> Run | None:
    def work(c: Any) -> Run | None:
        found = c.execute(select(tables.runs.c.id).where(tables.runs.c.retry_of == run_id)).scalars().all()
        assert len(found) <= 1, "two attempts follow one"
        return runs.get_run(c, found[0]) if found else None

    return await world.database.read(work)


async def let_pass(world: World, run_id: str) -> Run:
    """Time passes, a little at a time, until the run has ended."""

    async def ended() -> Run | None:
        world.clock.turn(1)
        run = await world.get(run_id)
        return run if run.status.is_final else None

    found: Run = await eventually(ended, f"{run_id} did not end")
    return found


async def test_a_failed_attempt_is_followed_after_its_back_off_with_the_same_variables(
    world: World, start_server: StartServer
) -> None:
    service = await world.add_service("web")
    world.engine.scripts[("job",)] = Script(code=7)
    first = await accept_with(world, service, RetryPolicy(2, delay_seconds=60))
    await start_server()
    assert (await world.until_ended(first)).exit_code == 7
    second = await retry_of(world, first)
    assert second is not None
    assert (second.attempt, second.trigger, second.status) == (2, Trigger.RETRY, RunStatus.QUEUED)
    world.clock.turn(50)
    await asyncio.sleep(0.1)
    assert (await world.get(second.id)).status is RunStatus.QUEUED
    ended = await let_pass(world, second.id)
    assert ended.exit_code == 7
    assert ended.started_at is not None
    assert ended.started_at >= START + timedelta(seconds=60)
    assert world.engine.starts[second.id] == 1
    third = await retry_of(world, second.id)
    assert third is not None
    world.engine.scripts[("job",)] = Script(code=0)
    assert (await let_pass(world, third.id)).status is RunStatus.SUCCEEDED
    assert await retry_of(world, third.id) is None


@pytest.mark.parametrize(
    ("policy", "code"),
    [(RetryPolicy(0), 7), (RetryPolicy(3, exit_codes=frozenset({75})), 7), (RetryPolicy(3), 0)],
)
async def test_an_end_that_the_policy_does_not_name_is_the_last(
    world: World, start_server: StartServer, policy: RetryPolicy, code: int
) -> None:
    service = await world.add_service("web")
    world.engine.scripts[("job",)] = Script(code=code)
    run_id = await accept_with(world, service, policy)
    await start_server()
    await world.until_ended(run_id)
    assert await retry_of(world, run_id) is None


async def test_a_canceled_run_is_not_retried_even_when_it_failed_before_the_cancel_arrived(
    world: World, start_server: StartServer
) -> None:
    service = await world.add_service("web")
    world.engine.scripts[("job",)] = Script(code=None, code_on_term=None)
    run_id = await accept_with(world, service, RetryPolicy(3))
    await start_server()
    await world.until_status(run_id, "running")
    world.engine.finish(run_id, 7)
    world.clock.turn(1)
    await world.cancel(run_id)
    ended = await world.until_ended(run_id)
    assert ended.reason in (Reason.NONZERO_EXIT, Reason.CANCELED)
    if ended.stop_kind == "cancel":
        assert await retry_of(world, run_id) is None


async def test_an_image_that_cannot_be_had_is_tried_again(world: World, start_server: StartServer) -> None:
    service = await world.add_service("web")
    run_id = await accept_with(world, service, RetryPolicy(1, delay_seconds=0), image_ref="registry.example.com/gone:1")
    await start_server()
    assert (await world.until_ended(run_id)).reason is Reason.IMAGE_UNAVAILABLE
    second = await retry_of(world, run_id)
    assert second is not None
    assert (await let_pass(world, second.id)).attempt == 2
    assert await retry_of(world, second.id) is None


async def test_a_server_killed_around_the_end_of_an_attempt_leaves_exactly_one_next_attempt(
    world: World, start_server: StartServer
) -> None:
    service = await world.add_service("web")
    world.engine.scripts[("job",)] = Script(code=7)
    run_id = await accept_with(world, service, RetryPolicy(1, delay_seconds=0))
    server = await start_server()
    await world.until_status(run_id, "starting", "running", "failed")
    await server.crash()
    await start_server()
    await world.until_ended(run_id)
    second = await retry_of(world, run_id)
    assert second is not None
    await let_pass(world, second.id)
    assert world.engine.starts[second.id] == 1
