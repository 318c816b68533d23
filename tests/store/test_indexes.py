"""Questions about the few among many runs are answered by the index of those few."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection

from oneoff.store import going, runs
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
