"""Concurrency groups: their limits, and claims that race for their places, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from oneoff.core.command import Command
from oneoff.core.plan import PLANS
from oneoff.core.run import Run, Trigger
from oneoff.engine.admission import NoRoom, check_group, check_plan
from oneoff.errors import InvalidGroup
from oneoff.operations import groups, runs
from oneoff.operations.runs import Origin, RunRequest
from oneoff.store import runs as run_rows
from oneoff.store.dialect import Connection
from oneoff.store.runs import Placement
from tests.operations.home import Home

pytestmark = pytest.mark.anyio


async def accept_in(home: Home, service_id: str, group: str) -> Run:
    asked = RunRequest(Command(("true",)), concurrency_group=group)
    return await runs.accept_run(home.context, service_id, asked, Origin("tester", Trigger.API))


async def claim(home: Home, run: Run, *, is_tight: bool = False) -> bool:
    """As the executor does it."""
    context, now = home.context, home.context.clock.now()
    placement = Placement(context.facts.node, "fake", f"oneoff-{run.id}", context.lease)

    def work(connection: Connection) -> None:
        assert run_rows.start_if_queued(connection, run.id, placement, now)
        check_group(connection, run)
        if is_tight:
            check_plan(context, connection, run)

    try:
        await context.database.run(work)
    except NoRoom:
        return False
    return True


@pytest.mark.parametrize("limit", [1, 3])
async def test_of_claims_at_once_exactly_as_many_win_as_the_limit_says(home: Home, limit: int) -> None:
    service = await home.add_service()
    await groups.set_limit(home.context, "db", limit)
    waiting = [await accept_in(home, service.id, "db") for _ in range(6)]
    won = await asyncio.gather(*(claim(home, run) for run in waiting))
    assert sum(won) == limit
    load = (await groups.list_groups(home.context))[0]
    assert (load.group.name, load.group.limit, load.going) == ("db", limit, limit)


async def test_of_claims_at_once_exactly_as_many_win_as_the_plan_says(home: Home) -> None:
    service = await home.add_service()
    home.context = replace(home.context, plans={"team": replace(PLANS["team"], runs_at_once=2)})
    request = RunRequest(Command(("true",)))
    waiting = [
        await runs.accept_run(home.context, service.id, request, Origin("tester", Trigger.API)) for _ in range(6)
    ]
    won = await asyncio.gather(*(claim(home, run, is_tight=True) for run in waiting))
    assert sum(won) == 2
    view = await runs.view_run(home.context, waiting[won.index(False)].id)
    assert (view.queue_position, view.waiting_for) == (1, "the plan's 2 runs at once")


async def test_a_group_that_nobody_has_set_lets_one_run_at_a_time_and_the_others_say_so(home: Home) -> None:
    service = await home.add_service()
    first, second = await accept_in(home, service.id, "db"), await accept_in(home, service.id, "db")
    assert await claim(home, first)
    assert not await claim(home, second)
    view = await runs.view_run(home.context, second.id)
    assert (view.queue_position, view.waiting_for) == (None, "group db: 1 at once")


@pytest.mark.parametrize(("name", "limit"), [("Db", 1), ("", 1), ("db", 0), ("db", 1001)])
async def test_a_name_or_limit_that_breaks_a_rule_is_refused(home: Home, name: str, limit: int) -> None:
    with pytest.raises(InvalidGroup):
        await groups.set_limit(home.context, name, limit)
