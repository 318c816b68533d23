"""Runs come back as they were saved, and lists show exactly those that were asked for, on both databases."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from oneoff.core.ids import make_id
from oneoff.core.run import TIMES, Reason, Run, RunStatus, Trigger
from oneoff.store import installation, runs
from oneoff.store.runs import RunFilter, Window
from oneoff.store.schema import upgrade

pytestmark = pytest.mark.anyio
BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOON = BEGIN + timedelta(hours=50)
WORKSPACE = "tea-" + "0" * 20
BARE: dict[str, Any] = {
    **dict.fromkeys(Run._fields),
    **dict.fromkeys(("service", "actor", "image", "image_ref", "digest", "instance_type"), "x"),
    **dict.fromkeys(("timeout_seconds", "grace_seconds", "stdout_bytes", "stderr_bytes", "missing_bytes"), 0),
    "workspace_id": WORKSPACE,
}
WANTED: dict[str, tuple[RunFilter, Callable[[Run], bool]]] = {
    "all": (RunFilter(), lambda _: True),
    "a job": (RunFilter(job_id="job-1"), lambda run: run.job_id == "job-1"),
    "a service, by trigger": (
        RunFilter("srv-1", trigger=Trigger.CRON),
        lambda run: run.service_id == "srv-1" and run.trigger is Trigger.CRON,
    ),
    "a cron and a batch": (
        RunFilter(cron_id="cron-1", batch_id="bat-1"),
        lambda run: run.cron_id == "cron-1" and run.batch_id == "bat-1",
    ),
    "a status": (RunFilter(status=[RunStatus.FAILED]), lambda run: run.status is RunStatus.FAILED),
    "statuses of a service": (
        RunFilter("srv-1", status=[RunStatus.FAILED, RunStatus.QUEUED, RunStatus.FAILED]),
        lambda run: run.service_id == "srv-1" and run.status in (RunStatus.FAILED, RunStatus.QUEUED),
    ),
    "a window": (RunFilter(created=Window(BEGIN, NOON)), lambda run: BEGIN < run.created_at < NOON),
    "windows": (
        RunFilter(started=Window(before=NOON), finished=Window(after=BEGIN)),
        lambda run: run.started_at is not None and run.started_at < NOON and (run.finished_at or BEGIN) > BEGIN,
    ),
}


@pytest.fixture
async def saved(database: Any, anyio_backend: str) -> list[Run]:
    """Sixty runs, an hour from each to the next, of all sorts."""
    chance = random.Random(1)
    await database.run(upgrade)
    await database.run(lambda c: installation.save_workspace_if_absent(c, WORKSPACE, "w", "team", BEGIN))
    made = [_run(number, chance) for number in range(60)]
    await database.run(lambda c: runs.save_all_new(c, [(run, b"sealed") for run in made]))
    return made


async def test_a_run_comes_back_as_it_was_saved(saved: list[Run], database: Any) -> None:
    for run in saved:
        assert await database.read(lambda c, i=run.id: runs.get_run(c, i)) == run
    assert {type(run.oom_seen) for run in await database.read(lambda c: runs.list_runs(c, RunFilter(), 99, None))} == {
        bool
    }


@pytest.mark.parametrize("name", WANTED)
async def test_a_list_shows_what_was_asked_for_newest_first(saved: list[Run], database: Any, name: str) -> None:
    wanted, is_wanted = WANTED[name]
    shown = [run for run in reversed(saved) if is_wanted(run)]
    assert len(shown) > 3
    first = await database.read(lambda c: runs.list_runs(c, wanted, 3, None))
    rest = await database.read(lambda c: runs.list_runs(c, wanted, 99, first[-1].id))
    assert [*first, *rest] == shown


def _run(number: int, chance: random.Random) -> Run:
    created = BEGIN + timedelta(hours=number, microseconds=chance.randrange(10**6))
    some: dict[str, Any] = {
        **{name: created + timedelta(microseconds=chance.randrange(10**9)) for name in TIMES},
        "job_id": chance.choice(["job-1", "job-2"]),
        "cron_id": "cron-1",
        "batch_id": "bat-1",
        "batch_index": number,
        "message": "grüße",
        "command": ("echo", "ü"),
        "shell": "echo",
        "exit_code": 3,
        "reason": chance.choice(list(Reason)),
        "retries": "{}",
    }
    return Run(
        **BARE
        | {name: value for name, value in some.items() if chance.random() < 0.7}
        | {
            "id": make_id("run", created, chance.randbytes(8)),
            "created_at": created,
            "service_id": chance.choice(["srv-1", "srv-2"]),
            "status": chance.choice(list(RunStatus)),
            "trigger": chance.choice([Trigger.CRON, Trigger.API]),
            "attempt": 1,
            "entrypoint": chance.choice(["clear", ("tini", "--")]),
            "oom_seen": chance.random() < 0.5,
        }
    )
