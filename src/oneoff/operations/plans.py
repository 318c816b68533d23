"""The plan of the workspace: looked at, changed, and what a change will block. Used by the API."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from oneoff.core.limits import format_duration
from oneoff.core.plan import Plan, check_cron_gap, check_has_jobs, find_plan_id
from oneoff.engine.events import record
from oneoff.engine.ledger import timing_of
from oneoff.errors import CronTooFrequent, PlanHasNoJobs
from oneoff.operations.context import Context
from oneoff.operations.tokens import Token, check_admin
from oneoff.store import concurrency, crons, history, installation, offered, tokens
from oneoff.store.crons import Cron, CronFilter
from oneoff.store.dialect import Connection
from oneoff.store.offered import LongJob

_MOST_TOLD = 100  # of each kind; then one line says how many more
_ALL = 1_000_000


@dataclass(frozen=True, slots=True)
class PlanNow:
    """`plan` is None when the operator's file has lost it."""

    plan_id: str
    plan: Plan | None
    runs_going: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change of the plan will block, or let go: `kind` is runs, cron, job, tokens or history; `id` and `name`
    are those of a cron or a job."""

    kind: str
    message: str
    id: str | None = None
    name: str | None = None


async def get_plan(context: Context) -> PlanNow:
    now = context.clock.now()

    def work(connection: Connection) -> PlanNow:
        load = concurrency.fetch_load(connection, context.workspace_id, now)
        count = tokens.count_tokens(connection, context.workspace_id)
        return PlanNow(load.plan, context.plans.get(load.plan), load.going, count)

    return await context.database.read(work)


async def set_plan(
    context: Context, caller: Token, asked: str, *, dry_run: bool = False
) -> tuple[PlanNow, list[Effect]]:
    """Nothing is deleted by it, and going runs are not touched. Returns what the plan does not allow of what there is;
    with `dry_run` that is all. Raises NotAllowed, UnknownPlan."""
    check_admin(caller, "change the plan")
    plan_id = find_plan_id(asked, context.plans)
    effects = await find_effects(context, context.plans[plan_id])
    if not dry_run:
        await context.database.run(lambda c: _change(context, c, plan_id, caller.name))
        context.signals.run_accepted()  # more runs may go at once now
    return await get_plan(context), effects


async def find_effects(context: Context, plan: Plan) -> list[Effect]:
    """What there is now and `plan` does not allow."""
    now, workspace_id = context.clock.now(), context.workspace_id

    def work(connection: Connection) -> tuple[list[Cron], list[LongJob], int, int]:
        return (
            crons.list_crons(connection, workspace_id, CronFilter(), _ALL, None),
            offered.find_jobs_longer_than(connection, workspace_id, plan.longest_run_seconds),
            tokens.count_tokens(connection, workspace_id),
            _count_dropped(context, connection, plan, now),
        )

    found, jobs, count, beyond = await context.database.read(work)
    effects = []
    if not plan.has_jobs:
        effects.append(
            Effect("runs", f"the {plan.name} plan has no jobs and runs: new ones are refused, crons do not fire")
        )
    else:
        effects += await asyncio.to_thread(lambda: _cut(_blocked_crons(context, plan, found, now), "crons"))
        effects += _cut(_long_jobs(plan, jobs), "jobs")
    if count > plan.tokens:
        words = f"{count} tokens are in use, and the plan has {plan.tokens}: they go on working, new ones are refused"
        effects.append(Effect("tokens", words))
    if beyond:
        kept = f"{plan.retention.most_runs} of each job, for {plan.retention.days} days"
        words = (
            f"{beyond} ended runs are beyond what is kept ({kept}): they and their logs go, oldest first, from then on"
        )
        effects.append(Effect("history", words))
    return effects


def _count_dropped(context: Context, connection: Connection, plan: Plan, now: datetime) -> int:
    """Ended runs that `plan` does not keep and the present one does."""
    present = context.plans.get(crons.find_plan(connection, context.workspace_id))
    goes_anyway = 0 if present is None else history.count_beyond(connection, present.retention, now)
    return max(0, history.count_beyond(connection, plan.retention, now) - goes_anyway)


def _change(context: Context, connection: Connection, plan_id: str, actor: str) -> None:
    before = crons.find_plan(connection, context.workspace_id)
    if before != plan_id:
        installation.change_plan(connection, context.workspace_id, plan_id)
        body = {"before": before, "plan": plan_id, "actor": actor}
        record(context, connection, "plan.changed", context.workspace_id, body)


def _blocked_crons(context: Context, plan: Plan, found: list[Cron], now: datetime) -> Iterator[Effect]:
    for cron in found:
        try:
            check_has_jobs(plan, context.plans)
            check_cron_gap(plan, timing_of(cron.expression, cron.zone, cron.dst_policy), now, context.plans)
        except (PlanHasNoJobs, CronTooFrequent) as problem:
            yield Effect("cron", f"its ticks will be blocked_by_plan: {problem}", cron.id, f"{cron.job} {cron.name}")


def _long_jobs(plan: Plan, jobs: list[LongJob]) -> Iterator[Effect]:
    most = format_duration(plan.longest_run_seconds)
    for job in jobs:
        limit = format_duration(job.timeout_seconds)
        words = f"its time limit of {limit} is beyond the plan's {most}: its runs will be refused until it is shorter"
        yield Effect("job", words, job.id, job.path)


def _cut(effects: Iterator[Effect], what: str) -> list[Effect]:
    listed = list(effects)
    if len(listed) <= _MOST_TOLD:
        return listed
    more = len(listed) - _MOST_TOLD
    return [*listed[:_MOST_TOLD], Effect(listed[0].kind, f"and so are {more} more {what}")]
