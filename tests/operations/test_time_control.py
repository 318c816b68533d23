"""More time for a run, and times of day, as callers ask for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from oneoff.core.command import Command
from oneoff.core.run import Run, Trigger
from oneoff.errors import InvalidBody, InvalidTimeOfDay, RunNotGoing, TimeLimitTooLong, UnknownTimeZone
from oneoff.operations import jobs, runs
from oneoff.operations.jobs import NewJob, Overrides
from oneoff.operations.runs import Origin, RunRequest
from oneoff.operations.time_control import check_must_end_by, extend_run, next_end
from tests.operations.home import Home

pytestmark = pytest.mark.anyio
MANUAL = Origin("tester", Trigger.MANUAL)


async def accept(home: Home, timeout: int = 60) -> Run:
    service = await home.add_service()
    return await runs.accept_run(
        home.context, service.id, RunRequest(Command(("true",)), timeout_seconds=timeout), MANUAL
    )


async def test_a_going_run_gets_more_time_and_its_watchers_are_told(home: Home) -> None:
    run = await accept(home)
    await home.start(run.id)
    with home.context.signals.watch(run.id) as changed:
        assert (await extend_run(home.context, run.id, 30)).timeout_seconds == 90
        assert changed.is_set()
    assert (await extend_run(home.context, run.id, 10)).timeout_seconds == 100


async def test_a_run_gets_no_more_than_the_plan_allows_and_none_when_it_is_ended_or_being_ended(home: Home) -> None:
    run = await accept(home)
    for more, told in (
        (30 * 86_400, "the run has 1m already, ask for 29d23h59m more or less"),
        (1, "it can get no more"),
    ):
        with pytest.raises(TimeLimitTooLong, match=told):
            await extend_run(home.context, run.id, more)
        if more > 1:
            await extend_run(home.context, run.id, 30 * 86_400 - 60)
    await home.start(run.id)
    await runs.cancel_run(home.context, run.id, "tester")
    with pytest.raises(RunNotGoing, match="being ended"):
        await extend_run(home.context, run.id, 30)
    await home.finish(run.id)
    with pytest.raises(RunNotGoing, match="succeeded"):
        await extend_run(home.context, run.id, 30)


async def test_a_job_must_end_by_a_time_of_day_in_its_zone(home: Home) -> None:
    service = await home.add_service()
    settings = {"command": ["true"], "must_end_by": "08:00 Europe/Berlin", "timeout_seconds": 60, "warn_seconds": 10}
    job = await jobs.create_job(home.context, NewJob(service.id, "night", settings))
    run = await jobs.run_job(home.context, job.id, Overrides(), MANUAL)
    assert run.must_end_at is not None
    assert timedelta(0) < run.must_end_at - run.created_at <= timedelta(hours=25)
    assert (run.must_end_at.minute, run.must_end_at.hour in (6, 7), run.warn_seconds) == (0, True, 10)
    with pytest.raises(InvalidBody):
        await jobs.change_job(home.context, job.id, {"warn_seconds": 60})


def test_a_time_of_day_is_kept_with_its_zone_and_is_utc_without() -> None:
    assert check_must_end_by("08:00") == "08:00 UTC"
    assert check_must_end_by(None) is None
    noon = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
    assert next_end("08:00 Europe/Berlin", noon) == datetime(2026, 7, 2, 6, 0, tzinfo=UTC)
    with pytest.raises(InvalidTimeOfDay):
        check_must_end_by("8 o'clock")
    with pytest.raises(UnknownTimeZone):
        check_must_end_by("08:00 Europe/Berln")
