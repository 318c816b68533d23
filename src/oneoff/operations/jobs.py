"""Saved jobs: made, changed, deleted, and run now. Used by the API and by whoever makes runs of jobs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from oneoff.core.command import make_command, make_entrypoint
from oneoff.core.gates import make_gate
from oneoff.core.groups import make_group
from oneoff.core.job import Job as Job
from oneoff.core.job import check_job_name, with_arguments
from oneoff.core.retry_text import make_retries, to_text
from oneoff.core.run import Run
from oneoff.core.variables import Variable, check_variables
from oneoff.errors import AlreadyExists, InvalidBody, JobHasCrons
from oneoff.operations.context import Context
from oneoff.operations.ids import check_id
from oneoff.operations.limits import check_may_run, check_retention, check_time, choose_size
from oneoff.operations.runs import Origin, RunRequest, accept, insert_run
from oneoff.operations.time_control import check_must_end_by, check_warning, next_end
from oneoff.operations.variables import VariableChange, Variables, merge
from oneoff.store import idempotency, jobs, services
from oneoff.store.dialect import Connection
from oneoff.store.idempotency import Idempotency
from oneoff.store.jobs import JobFilter as JobFilter
from oneoff.store.services import Launch

_MOST_ARGUMENTS = 100_000
_MOST_OPENED = 2048


@dataclass(frozen=True, slots=True)
class NewJob:
    """`settings` are those of SETTINGS that the caller gave, unchecked, with `command` or `shell`, and `variables`."""

    service_id: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What one run of a job has otherwise; None = as the job has it."""

    arguments: tuple[str, ...] = ()  # behind the job's own
    variables: Mapping[str, VariableChange] = field(default_factory=dict)
    instance_type: str | None = None
    timeout_seconds: int | None = None


NO_OVERRIDES = Overrides()


async def create_job(context: Context, new: NewJob, request: Idempotency | None = None) -> Job:
    """Raises NotFound for the service, InvalidInput, AlreadyExists, IdempotencyKeyReused."""
    check_id("service", new.service_id)

    def work(connection: Connection) -> Job:
        if (earlier := idempotency.find_resource(connection, request)) is not None:
            return jobs.get_job(connection, earlier)
        job = insert_job(context, connection, new)
        idempotency.save_resource(connection, request, job.id, job.created_at)
        return job

    return await context.database.run(work)


def insert_job(context: Context, connection: Connection, new: NewJob, managed_by: str | None = None) -> Job:
    """Inside the caller's transaction. Raises NotFound for the service, InvalidInput, AlreadyExists."""
    launch = services.get_launch(connection, new.service_id)
    now = context.clock.now()
    job_id = context.new_id("job")
    given = dict(new.settings)
    variables = _change_variables({}, given.pop("variables", None) or {})
    job = Job(
        id=job_id,
        workspace_id=launch.workspace_id,
        service_id=launch.service_id,
        service=launch.path,
        name=check_job_name(new.name),
        managed_by=managed_by,
        variables_sealed=_seal(context, job_id, variables),
        created_at=now,
        updated_at=now,
        **check_settings(context, launch, {"command": None} | dict.fromkeys(SETTINGS) | given),
    )
    check_warning(job.warn_seconds, job.timeout_seconds)
    if not jobs.save_new(connection, job):
        raise _taken(job)
    return job


async def get_job(context: Context, job_id: str) -> Job:
    """Raises NotFound."""
    check_id("job", job_id)
    return await context.database.read(lambda c: jobs.get_job(c, job_id))


async def list_jobs(context: Context, wanted: JobFilter, limit: int, before: str | None) -> list[Job]:
    """Newest first."""
    return await context.database.read(lambda c: jobs.list_jobs(c, context.workspace_id, wanted, limit, before))


async def change_job(context: Context, job_id: str, given: Mapping[str, Any]) -> Job:
    """`given` are settings to change (None = the default), perhaps `name`, `command` or `shell`, and `variables` (None
    removes one, or all). Runs that were accepted keep what they were made with. Raises NotFound, InvalidInput,
    AlreadyExists."""
    check_id("job", job_id)
    return await context.database.run(lambda c: update_job(context, c, jobs.get_job(c, job_id), given))


def update_job(context: Context, connection: Connection, job: Job, given: Mapping[str, Any]) -> Job:
    """`change_job` inside the caller's transaction."""
    changed = change_settings(context, connection, job, given)
    jobs.replace_job(connection, changed)
    return changed


def change_settings(context: Context, connection: Connection, job: Job, given: Mapping[str, Any]) -> Job:
    """The job as it would be, not saved. Raises what `change_job` raises."""
    launch = services.get_launch(connection, job.service_id)
    settings = dict(given)
    changes: dict[str, Any] = {}
    if "variables" in settings:
        asked = settings.pop("variables")
        variables = {} if asked is None else _change_variables(open_job_variables(context, job), asked)
        changes["variables_sealed"] = _seal(context, job.id, variables)
    if "name" in settings:
        changes["name"] = check_job_name(settings.pop("name") or "")
    changes |= check_settings(context, launch, settings)
    # Later than before also when the clock is set back: what was made of the job is known by it.
    updated_at = max(context.clock.now(), job.updated_at + timedelta(microseconds=1))
    changed = replace(job, **changes, updated_at=updated_at)
    check_warning(changed.warn_seconds, changed.timeout_seconds)
    if changed.name != job.name and jobs.find_by_name(connection, job.service_id, changed.name) is not None:
        raise _taken(changed)
    return changed


async def delete_job(context: Context, job_id: str, *, with_crons: bool = False) -> None:
    """Its runs go on and stay in the history. Raises NotFound, JobHasCrons."""
    check_id("job", job_id)

    await context.database.run(lambda c: remove_job(c, jobs.get_job(c, job_id), with_crons=with_crons))


def remove_job(connection: Connection, job: Job, *, with_crons: bool = False) -> None:
    """`delete_job` inside the caller's transaction."""
    if (crons := jobs.count_crons(connection, job.id)) and not with_crons:
        raise JobHasCrons(job.path, crons)
    jobs.delete_with_crons(connection, job.id)


async def run_job(
    context: Context, job_id: str, overrides: Overrides, origin: Origin, request: Idempotency | None = None
) -> Run:
    """The run, queued and durable. Raises what `accept_run` raises."""
    check_id("job", job_id)

    def insert(connection: Connection) -> Run:
        return insert_job_run(context, connection, jobs.get_job(connection, job_id), overrides, origin=origin)

    return await accept(context, insert, request)


def insert_job_run(
    context: Context, connection: Connection, job: Job, overrides: Overrides = NO_OVERRIDES, *, origin: Origin
) -> Run:
    """A run of the job inside the caller's transaction; see `insert_run`."""
    request = to_request(context, job, overrides)
    return insert_run(context, connection, job.service_id, request, replace(origin, job_id=job.id))


def to_request(
    context: Context,
    job: Job,
    overrides: Overrides = NO_OVERRIDES,
    told: Mapping[str, str] | None = None,
    at: datetime | None = None,
) -> RunRequest:
    """What a run of the job asks for that is accepted at `at`, None = now; `told` are built-in variables beside the
    job's own. Raises InvalidCommand, InvalidVariables."""
    if len(overrides.arguments) > _MOST_ARGUMENTS:
        raise InvalidBody(f"a run takes at most {_MOST_ARGUMENTS} arguments", "arguments")
    return RunRequest(
        with_arguments(job.command, overrides.arguments),
        _to_changes(context, job, overrides.variables),
        overrides.instance_type or job.instance_type,
        job.timeout_seconds if overrides.timeout_seconds is None else overrides.timeout_seconds,
        job.entrypoint,
        retries=job.retries,
        must_end_at=next_end(job.must_end_by, at or context.clock.now()),
        warn_seconds=job.warn_seconds,
        concurrency_group=job.concurrency_group,
        builtins={"ONEOFF_JOB": job.name} | dict(told or {}),
    )


_opened: dict[bytes, Mapping[str, VariableChange]] = {}  # by the sealed bytes, which no other variables ever have


def _to_changes(context: Context, job: Job, changes: Mapping[str, VariableChange]) -> Mapping[str, VariableChange]:
    """The job's variables for a run, with `changes` on top. Crons ask for the same ones again and again."""
    if (own := _opened.get(job.variables_sealed)) is None:
        # One that is no secret of the job may be one of its service, and stays that.
        found = open_job_variables(context, job).items()
        own = {name: VariableChange(each.value, each.secret or None) for name, each in found}
        if len(_opened) >= _MOST_OPENED:
            _opened.clear()
        _opened[job.variables_sealed] = own
    return {**own, **{name: change.on_top_of(own.get(name)) for name, change in changes.items()}} if changes else own


def open_job_variables(context: Context, job: Job) -> Variables:
    """The job's own, without those of its service."""
    opened = json.loads(context.sealer.open(job.variables_sealed, variables_place(job.id)))
    return {name: Variable(each["value"], each["secret"]) for name, each in opened.items()}


def variables_place(job_id: str) -> str:
    """Where a job's variables are sealed for."""
    return f"jobs/{job_id}/variables"


def check_settings(context: Context, launch: Launch, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Job that `given` settings become. Raises InvalidInput, PlanHasNoJobs."""
    check_may_run(context, launch.plan)
    fields = {name: SETTINGS[name](context, launch, value) for name, value in given.items() if name in SETTINGS}
    if "command" in given or "shell" in given:
        fields["command"] = make_command(given.get("command"), given.get("shell"))
    return fields


def _seal(context: Context, job_id: str, variables: Variables) -> bytes:
    plain = {name: {"value": each.value, "secret": each.secret} for name, each in variables.items()}
    return context.sealer.seal(json.dumps(plain).encode(), variables_place(job_id))


def _change_variables(present: Variables, changes: Mapping[str, VariableChange | None]) -> Variables:
    after = merge(present, changes)
    check_variables({name: each.value for name, each in after.items()})
    return after


def _taken(job: Job) -> AlreadyExists:
    return AlreadyExists("job", job.path, f"`oneoff job update {job.path}` changes it")


def _check_instance_type(context: Context, launch: Launch, asked: str | None) -> str | None:
    return None if asked is None else choose_size(context, asked, launch.type).id


def _check_timeout(context: Context, launch: Launch, asked: int | None) -> int | None:
    return None if asked is None else check_time(context, context.plan(launch.plan), asked)


# Each takes what the caller gave (None = the default) and returns what is kept.
SETTINGS: Mapping[str, Callable[[Context, Launch, Any], Any]] = {
    "entrypoint": lambda _context, _launch, asked: make_entrypoint(asked),
    "instance_type": _check_instance_type,
    "timeout_seconds": _check_timeout,
    "retries": lambda _context, _launch, asked: None if asked is None else to_text(make_retries(asked)),
    "retention": lambda context, launch, asked: check_retention(context, context.plan(launch.plan), asked),
    "concurrency_group": lambda _context, _launch, asked: None if asked is None else make_group(asked).name,
    "gate": lambda _context, _launch, asked: None if asked is None else make_gate(asked).value,
    "must_end_by": lambda _context, _launch, asked: check_must_end_by(asked),
    "warn_seconds": lambda _context, _launch, asked: asked,
}
