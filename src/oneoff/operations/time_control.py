"""The time of a run: "must end by" a time of day, and more time for a going one. Used by the API and for jobs."""

from __future__ import annotations

from datetime import datetime

from oneoff.core.limits import format_duration
from oneoff.core.plan import check_longest_run
from oneoff.core.run import Run
from oneoff.core.windows import end_by, parse_time_of_day
from oneoff.errors import InvalidBody, RunNotGoing, UnknownTimeZone
from oneoff.operations.context import Context
from oneoff.operations.ids import check_id
from oneoff.operations.launches import get_materials
from oneoff.store import runs
from oneoff.store.dialect import Connection
from oneoff.zones import find_zone


def check_must_end_by(text: str | None) -> str | None:
    """`08:00 Europe/Berlin`; UTC when no zone is given. Raises InvalidTimeOfDay, UnknownTimeZone."""
    if text is None:
        return None
    time, _, zone = text.partition(" ")
    try:
        return f"{parse_time_of_day(time)} {find_zone(zone.strip() or 'UTC').key}"
    except UnknownTimeZone as problem:
        problem.field = "must_end_by"  # no request has a time zone beside it
        raise


def next_end(text: str | None, after: datetime) -> datetime | None:
    """The first moment later than `after` at which a checked text says that the work must have ended."""
    if text is None:
        return None
    time, _, zone = text.partition(" ")
    return end_by(parse_time_of_day(time), find_zone(zone), after)


def check_warning(warn_seconds: int | None, timeout_seconds: int | None) -> int | None:
    """A warning before the beginning would tell nothing. Raises InvalidBody."""
    if warn_seconds is not None and timeout_seconds is not None and warn_seconds >= timeout_seconds:
        limit = format_duration(timeout_seconds)
        raise InvalidBody(f"the warning must come within the time limit of {limit}: ask for less", "warn_seconds")
    return warn_seconds


async def extend_run(context: Context, run_id: str, more_seconds: int) -> Run:
    """A longer time limit for a run that has not ended. Raises NotFound, RunNotGoing, TimeLimitTooLong."""
    check_id("run", run_id)

    def work(connection: Connection) -> Run:
        run = runs.get_run(connection, run_id)
        if not run.is_going or run.stop_kind is not None:
            raise RunNotGoing(run_id, run.status.value if run.status.is_final else "being ended")
        plan = context.plan(get_materials(context, connection, run.service_id).launch.plan)
        limit = check_longest_run(plan, run.timeout_seconds + more_seconds, context.plans, run.timeout_seconds)
        if not runs.extend_if_going(connection, run_id, limit):
            raise RunNotGoing(run_id, "being ended")
        return runs.get_run(connection, run_id)

    run = await context.database.run(work)
    context.signals.run_changed(run_id)
    return run
