"""What plan, catalogue and node allow, asked before anything is accepted. Used by the operations that make or keep what
runs."""

from __future__ import annotations

from collections.abc import Mapping

from oneoff.core.instance_types import InstanceType, choose_instance_type, default_for
from oneoff.core.plan import Plan, check_has_jobs, check_longest_run
from oneoff.core.retention import Wish, to_text
from oneoff.core.service import ServiceType
from oneoff.errors import InvalidBody, PlanNotOffered
from oneoff.operations.context import Context
from oneoff.store import crons
from oneoff.store.dialect import Connection
from oneoff.store.offered import find_other_types

_MOST_TOLD = 20


def check_may_run(context: Context, plan_id: str) -> Plan:
    """The plan, when it has jobs, runs and crons at all: `plan_id` is the `plan` of a Launch or a Cron. Raises
    PlanHasNoJobs, PlanNotOffered."""
    plan = context.plan(plan_id)
    check_has_jobs(plan, context.plans)
    return plan


def check_time(context: Context, plan: Plan, asked: int | None) -> int:
    """The time limit of a run: what was asked for, or the longest. Raises TimeLimitTooLong."""
    if asked is None:
        return plan.longest_run_seconds
    return check_longest_run(plan, asked, context.plans)


def check_retention(context: Context, plan: Plan, asked: Mapping[str, int | None] | None) -> str | None:
    """What a job asks to be kept of its runs ({runs, days}), as text. Raises InvalidBody beyond the plan."""
    if asked is None:
        return None
    for name, most in (("runs", "kept_runs"), ("days", "kept_days")):
        value, allowed = asked.get(name), getattr(plan, most)
        if value is not None and value > allowed:
            names = [each.name for each in context.plans.values() if each.has_jobs and getattr(each, most) >= value]
            other = f", or change to {' or '.join(names)} with `oneoff plan set`" if names else ""
            raise InvalidBody(f"the {plan.name} plan keeps at most {allowed} {name}: ask for less{other}", "retention")
    return to_text(Wish(asked.get("runs"), asked.get("days")))


def choose_size(context: Context, asked: str | None, kind: ServiceType) -> InstanceType:
    """The instance type; None = the default of services of this kind. Raises UnknownInstanceType, also for one that was
    dropped from the catalogue, and InstanceTypeTooLarge for one that the node can never hold."""
    catalogue, node = context.catalogue, context.facts
    if asked is None:
        return default_for(kind, catalogue)
    return choose_instance_type(asked, kind, node.cpus, node.memory_bytes, catalogue)


async def find_gone(context: Context) -> list[str]:
    """What the workspace uses and the operator's files offer no more, each as a sentence with its mend. Until then runs
    of it are refused; nothing is changed by itself."""

    def work(connection: Connection) -> list[str]:
        told = []
        try:
            context.plan(crons.find_plan(connection, context.workspace_id))
        except PlanNotOffered as problem:
            told.append(str(problem))
        for use in find_other_types(connection, [each.id for each in context.catalogue], _MOST_TOLD):
            kind = "job" if ":" in use.path else "service"
            told.append(
                f"{use.path} has the instance type {use.instance_type}, which is not in the catalogue any more: "
                f"`oneoff {kind} update {use.path} --instance-type ID`"
            )
        return told

    return await context.database.read(work)
