"""Crons: made, changed, paused, deleted, previewed. Used by the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from oneoff.core.cron_preview import Previewed, preview
from oneoff.core.dst import DstPolicy
from oneoff.core.job import check_job_name
from oneoff.core.overlap import Overlap
from oneoff.core.plan import check_cron_gap
from oneoff.core.ticks import DEFAULT_WINDOW_SECONDS, CatchUp, TickOutcome, check_schedule, next_fire
from oneoff.engine.events import record_pause
from oneoff.engine.ledger import record_until, schedule_of, timing_of
from oneoff.errors import AlreadyExists, InvalidCron, InvalidName, InvalidSchedule
from oneoff.operations.context import Context
from oneoff.operations.ids import check_id
from oneoff.operations.limits import check_may_run
from oneoff.store import crons, idempotency, ticks
from oneoff.store import jobs as job_rows
from oneoff.store.crons import Cron as Cron
from oneoff.store.crons import CronFilter as CronFilter
from oneoff.store.dialect import Connection
from oneoff.store.idempotency import Idempotency
from oneoff.store.ticks import Tick as Tick

_MOST_CHARACTERS = 200
_FIRST_NAME = "schedule"
_CHANGED = "the cron was changed before they could fire"


@dataclass(frozen=True, slots=True)
class NewCron:
    """`settings` are those of _COLUMNS that the caller gave, unchecked; what is not given, or None, has its default."""

    job_id: str
    settings: Mapping[str, Any] = field(default_factory=dict)


# What callers give -> the column, and what null stands for. Those without a default must be given.
_COLUMNS: Mapping[str, str] = {
    **{name: name for name in ("name", "expression", "overlap", "dst_policy", "catch_up", "jitter_seconds")},
    **{name: name for name in ("starts_at", "ends_at", "hold_during_deploy", "alert_after_ticks")},
    "time_zone": "zone",
    "catch_up_window_seconds": "catch_up_seconds",
}
NAMES: Mapping[str, str] = {column: name for name, column in _COLUMNS.items()}  # what callers call the columns
_DEFAULTS: Mapping[str, Any] = {
    "expression": "",
    "zone": "UTC",
    "overlap": Overlap.SKIP,
    "dst_policy": DstPolicy.DEBIAN,
    "catch_up": CatchUp.LATEST,
    "catch_up_seconds": DEFAULT_WINDOW_SECONDS,
    "jitter_seconds": 0,
    "starts_at": None,
    "ends_at": None,
    "hold_during_deploy": False,
    "alert_after_ticks": None,
}


async def create_cron(context: Context, new: NewCron, request: Idempotency | None = None) -> Cron:
    """Its first instant is the next one from now on. Raises NotFound for the job, InvalidInput, CronTooFrequent,
    PlanHasNoJobs, AlreadyExists, IdempotencyKeyReused."""
    check_id("job", new.job_id)

    def work(connection: Connection) -> Cron:
        if (earlier := idempotency.find_resource(connection, request)) is not None:
            return crons.get_cron(connection, earlier)
        cron = insert_cron(context, connection, new)
        idempotency.save_resource(connection, request, cron.id, cron.created_at)
        return cron

    cron = await context.database.run(work)
    context.signals.crons_changed()
    return cron


def insert_cron(context: Context, connection: Connection, new: NewCron, managed_by: str | None = None) -> Cron:
    """Inside the caller's transaction, who calls `signals.crons_changed` after the commit."""
    job = job_rows.get_job(connection, new.job_id)
    now = context.clock.now()
    columns = complete_settings(new.settings)
    columns["name"] = _choose_name(connection, job.id, columns.get("name"))
    cron = Cron(
        id=context.new_id("cron"),
        workspace_id=job.workspace_id,
        job_id=job.id,
        paused=False,
        alerted_at=None,
        managed_by=managed_by,
        cursor=now,
        next_due_at=None,
        version=1,
        created_at=now,
        **columns,
    )
    _check(context, connection, cron, now)
    cron = replace(cron, next_due_at=next_fire(schedule_of(cron), now))
    if not crons.save_new(connection, cron):
        raise AlreadyExists("cron", f"{job.path} {cron.name}", "choose another name, or change that one")
    return crons.get_cron(connection, cron.id)


async def get_cron(context: Context, cron_id: str) -> Cron:
    """Raises NotFound."""
    check_id("cron", cron_id)
    return await context.database.read(lambda c: crons.get_cron(c, cron_id))


async def list_crons(context: Context, wanted: CronFilter, limit: int, before: str | None) -> list[Cron]:
    """Newest first."""
    return await context.database.read(lambda c: crons.list_crons(c, context.workspace_id, wanted, limit, before))


async def change_cron(context: Context, cron_id: str, settings: Mapping[str, Any]) -> Cron:
    """`settings` are those to change; None = the default. Raises what `create_cron` raises."""
    check_id("cron", cron_id)
    cron = await context.database.run(lambda c: update_cron(context, c, crons.get_cron(c, cron_id), settings))
    context.signals.crons_changed()
    return cron


def update_cron(context: Context, connection: Connection, cron: Cron, settings: Mapping[str, Any]) -> Cron:
    """`change_cron` inside the caller's transaction."""
    given = _to_columns(settings)
    changes: dict[str, Any] = {name: _DEFAULTS.get(name) if value is None else value for name, value in given.items()}
    if "name" in given and given["name"] != cron.name:
        changes["name"] = check_cron_name(given["name"] or "")
        if changes["name"] in crons.list_names(connection, cron.job_id):
            raise AlreadyExists("cron", f"{cron.job} {changes['name']}", "choose another name")
    return update_columns(context, connection, cron, changes)


def complete_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a cron with these settings; those that are not given, or null, have their defaults."""
    given = {name: value for name, value in _to_columns(settings).items() if value is not None}
    return {**_DEFAULTS, **given}


def update_columns(context: Context, connection: Connection, cron: Cron, changes: Mapping[str, Any]) -> Cron:
    """As `update_cron`, of columns without a name."""
    now = context.clock.now()
    cursor = max(_record_all(context, connection, cron, now, _CHANGED), now)
    changed = replace(cron, **changes, cursor=cursor)
    _check(context, connection, changed, now)
    due = next_fire(schedule_of(changed), cursor)
    crons.save_changes(connection, cron.id, {**changes, "cursor": cursor, "next_due_at": due})
    return crons.get_cron(connection, cron.id)


async def set_paused(context: Context, cron_id: str, paused: bool) -> Cron:
    """Runs of its job may still be started by hand. Raises NotFound."""
    check_id("cron", cron_id)

    def work(connection: Connection) -> Cron:
        cron = crons.get_cron(connection, cron_id)
        if cron.paused is not paused:
            now = context.clock.now()
            cursor = record_until(context, connection, cron, now, _why(paused))
            due = next_fire(schedule_of(cron), cursor)
            crons.save_changes(connection, cron_id, {"paused": paused, "cursor": cursor, "next_due_at": due})
            record_pause(context, connection, ("cron", cron_id), paused, cron)
        return crons.get_cron(connection, cron_id)

    cron = await context.database.run(work)
    context.signals.crons_changed()
    return cron


async def delete_cron(context: Context, cron_id: str) -> None:
    """Its job, its runs and its ledger stay. Raises NotFound."""
    check_id("cron", cron_id)

    await context.database.run(lambda c: remove_cron(context, c, crons.get_cron(c, cron_id)))


def remove_cron(context: Context, connection: Connection, cron: Cron) -> None:
    """`delete_cron` inside the caller's transaction."""
    _record_all(context, connection, cron, context.clock.now(), "the cron was deleted before they could fire")
    crons.delete_cron(connection, cron.id)


async def list_ticks(
    context: Context, cron_id: str, outcome: TickOutcome | None, limit: int, before: datetime | None
) -> list[Tick]:
    """Newest first; also of a cron that was deleted. Raises NotFound."""
    check_id("cron", cron_id)

    def work(connection: Connection) -> list[Tick]:
        listed = ticks.list_ticks(connection, cron_id, outcome, limit, before)
        if not listed and not ticks.has_ticks(connection, cron_id):
            crons.get_cron(connection, cron_id)
        return listed

    return await context.database.read(work)


def preview_cron(context: Context, cron: Cron, count: int) -> list[Previewed]:
    """The next instants that it will have, within its dates."""
    after = max(context.clock.now(), cron.starts_at or cron.created_at)
    coming = preview(timing_of(cron.expression, cron.zone, cron.dst_policy), after, count)
    return [each for each in coming if cron.ends_at is None or each.moment is None or each.moment < cron.ends_at]


def check_cron_name(name: str) -> str:
    """The same rule as for jobs. Raises InvalidName."""
    try:
        return check_job_name(name)
    except InvalidName:
        problem = InvalidName("cron", name)
        problem.field = "name"
        raise problem from None


def _record_all(context: Context, connection: Connection, cron: Cron, now: datetime, why: str) -> datetime:
    """Also instants that jitter still holds back: the cron will not know of them any more."""
    return record_until(context, connection, replace(cron, jitter_seconds=0), now, why)


def _choose_name(connection: Connection, job_id: str, asked: str | None) -> str:
    if asked is not None:
        return check_cron_name(asked)
    taken = crons.list_names(connection, job_id)
    names = (_FIRST_NAME if number == 1 else f"{_FIRST_NAME}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def _to_columns(settings: Mapping[str, Any]) -> dict[str, Any]:
    columns = {_COLUMNS[name]: value for name, value in settings.items()}
    for name in ("starts_at", "ends_at"):
        if columns.get(name) is not None:
            columns[name] = _to_utc(name, columns[name])
    return columns


def _to_utc(name: str, moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise InvalidSchedule(f"{name} has no offset: write for example 2026-03-01T00:00:00Z", name)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidSchedule(f"{name} is beyond the calendar", name) from None


def _check(context: Context, connection: Connection, cron: Cron, now: datetime) -> None:
    plan = check_may_run(context, crons.find_plan(connection, cron.workspace_id))
    if len(cron.expression) > _MOST_CHARACTERS:
        raise InvalidCron(cron.expression[:40] + "…", f"it has more than {_MOST_CHARACTERS} characters")
    schedule = schedule_of(cron)
    check_cron_gap(plan, schedule.timing, now, context.plans)
    check_schedule(schedule, now)
    if next_fire(schedule, now) is None:
        raise InvalidSchedule("the cron would never fire: its dates or its expression leave no instant", "ends_at")


def _why(paused: bool) -> str:
    return "paused before they could fire" if paused else "paused when they were due"
