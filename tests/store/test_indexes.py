"""Questions about the few among many runs are answered by the index of those few."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection

from oneoff.core.run import RunStatus, Trigger
from oneoff.store import going, runs, tables
from oneoff.store.runs import RunFilter
from tests.engine.conftest import world as world
from tests.engine.world import World
from tests.store.query_plans import steps_of

pytestmark = pytest.mark.anyio

ASKED: dict[str, Callable[[Connection], object]] = {
    "ix_runs_job (job_id=?)": lambda c: runs.list_runs(c, RunFilter(job_id="jdf-1"), 50, None),
    "ix_runs_job (job_id=? AND id<?)": lambda c: runs.list_runs(c, RunFilter(job_id="jdf-1"), 50, "run-1"),
    "ix_runs_cron (cron_id=?)": lambda c: runs.list_runs(c, RunFilter(cron_id="cron-1"), 50, None),
    "ix_runs_batch (batch_id=?)": lambda c: runs.list_runs(c, RunFilter(batch_id="bat-1"), 50, None),
    "ix_runs_going_of_job (job_id=? AND finished_at=?)": lambda c: going.fetch_going(c, {"jdf-1", "jdf-2"}),
}


@pytest.mark.parametrize("index", ASKED)
async def test_runs_of_a_job_a_cron_and_a_batch_are_found_by_their_index(world: World, index: str) -> None:
    steps = [step for step in await world.database.read(lambda c: steps_of(c, ASKED[index])) if " runs " in step]
    assert len(steps) == 1
    assert f"INDEX {index}" in steps[0]


@pytest.mark.parametrize(
    ("service_id", "index"),
    [(None, "ix_runs_status (status=?)"), ("srv-1", "ix_runs_service_status (service_id=? AND status=?)")],
)
@pytest.mark.parametrize("last", ["ix_runs_service_status", "ix_runs_service_trigger", "ix_runs_trigger"])
async def test_runs_of_a_status_and_a_trigger_are_found_in_an_index_alone(
    world: World, service_id: str | None, index: str, last: str
) -> None:
    """Whatever the order in which the indexes were made, by which SQLite chooses between two that are as good."""
    wanted = RunFilter(service_id, status=[RunStatus.FAILED], trigger=Trigger.MANUAL)

    def make_anew(connection: Connection) -> None:
        [made] = [each for each in tables.runs.indexes if each.name == last]
        made.drop(connection)
        made.create(connection)

    await world.database.run(make_anew)
    steps = await world.database.read(lambda c: steps_of(c, lambda c: runs.list_runs(c, wanted, 50, "run-1")))
    assert any(f"COVERING INDEX {index.removesuffix(')')} AND id<?)" in step for step in steps), steps
