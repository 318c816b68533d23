"""The very same run once more, and how it differs from what a new one would get. Used by the API."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from oneoff.core.command import Command
from oneoff.core.instance_types import InstanceType
from oneoff.core.run import Run
from oneoff.core.terms import at_price_of
from oneoff.engine.again import insert_again
from oneoff.engine.spec import variables_place
from oneoff.operations.context import Context
from oneoff.operations.ids import check_id
from oneoff.operations.jobs import open_job_variables
from oneoff.operations.launches import get_materials
from oneoff.operations.limits import check_may_run, check_time, choose_size
from oneoff.operations.runs import Origin, accept
from oneoff.store import jobs, runs
from oneoff.store.dialect import Connection
from oneoff.store.idempotency import Idempotency
from oneoff.store.services import Launch

Pair = tuple[str, str | None]  # then, now


@dataclass(frozen=True, slots=True)
class Difference:
    """None = the same. The three lists are names of variables, in order."""

    digest: Pair | None
    command: Pair | None
    instance_type: Pair | None
    changed: list[str]
    only_then: list[str]
    only_now: list[str]


async def run_again(
    context: Context, run_id: str, origin: Origin, request: Idempotency | None = None
) -> tuple[Run, Difference]:
    """The new run, queued and durable. Raises NotFound for the run or its service; PlanHasNoJobs, TimeLimitTooLong,
    UnknownInstanceType and InstanceTypeTooLarge where plan, catalogue or node have less now; DiskFull,
    IdempotencyKeyReused."""
    check_id("run", run_id)

    def insert(connection: Connection) -> Run:
        run = runs.get_run(connection, run_id)
        size = check_limits(context, get_materials(context, connection, run.service_id).launch, run)
        return insert_again(
            context,
            connection,
            run,
            trigger=origin.trigger,
            actor=origin.actor,
            rerun_of=run.id,
            **dict.fromkeys(("retry_of", "cron_id", "batch_id", "batch_index", "not_before", "must_end_at")),
            attempt=1,
            terms=at_price_of(run.terms, size),
        )

    made = await accept(context, insert, request)
    return made, await context.database.read(lambda c: tell_difference(context, c, made))


def tell_difference(context: Context, connection: Connection, run: Run) -> Difference:
    """Between `run` and a new run of its job, or of its service when it has none any more."""
    materials = get_materials(context, connection, run.service_id)
    job = None if run.job_id is None else jobs.find_job(connection, run.job_id)
    now = materials.variables | (open_job_variables(context, job) if job else {})
    opened = context.sealer.open(runs.fetch_sealed_variables(connection, run.id), variables_place(run.id))
    then: Mapping[str, str] = json.loads(opened)["variables"]
    command = _shown(Command(run.command, run.shell))
    return Difference(
        _pair(run.digest, materials.launch.digest),
        _pair(command, _shown(job.command)) if job else None,
        _pair(run.instance_type, (job.instance_type if job else None) or materials.launch.instance_type),
        sorted(name for name in then.keys() & now.keys() if then[name] != now[name].value),
        sorted(then.keys() - now.keys()),
        sorted(now.keys() - then.keys()),
    )


def check_limits(context: Context, launch: Launch, run: Run) -> InstanceType:
    """Of a run that is made like an earlier one; returns what its instance type is now. Raises PlanHasNoJobs,
    TimeLimitTooLong, UnknownInstanceType, InstanceTypeTooLarge."""
    check_time(context, check_may_run(context, launch.plan), run.timeout_seconds)
    return choose_size(context, run.instance_type, launch.type)


def _pair(then: str, now: str | None) -> Pair | None:
    return None if then == now else (then, now)


def _shown(command: Command) -> str:
    return shlex.join(command.argv) if command.argv is not None else command.shell or ""
