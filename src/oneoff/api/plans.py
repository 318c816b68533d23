"""/plan: what the workspace may do; changed by admins."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from oneoff.api.answers import answer
from oneoff.api.door import API
from oneoff.api.plan_shapes import ChangedPlan, ChangePlan, CurrentPlan
from oneoff.core.plan import Plan
from oneoff.entrance.requests import caller_of, context_of
from oneoff.operations import plans
from oneoff.operations.context import Context
from oneoff.operations.plans import PlanNow

router = APIRouter(prefix=API, tags=["plan"])


@router.get("/plan", response_model=CurrentPlan)
async def get_plan(request: Request) -> Response:
    """The plan of the workspace, what of it is in use, and the plans there are."""
    context = context_of(request)
    return answer(_to_current(context, await plans.get_plan(context)))


@router.patch("/plan", response_model=ChangedPlan)
async def change_plan(
    body: ChangePlan,
    request: Request,
    dry_run: Annotated[bool, Query(description="Only tell the effects.")] = False,
) -> Response:
    """Change the plan, and tell what it does not allow of what there is: that is refused from now on. Going runs are
    not touched, and nothing is deleted at once. Takes an admin token."""
    context = context_of(request)
    now, effects = await plans.set_plan(context, caller_of(request), body.plan, dry_run=dry_run)
    told = [{"kind": each.kind, "id": each.id, "name": each.name, "message": each.message} for each in effects]
    return answer(_to_current(context, now) | {"effects": told})


def _to_current(context: Context, now: PlanNow) -> dict[str, Any]:
    return {
        "id": now.plan_id,
        "plan": None if now.plan is None else _to_plan(now.plan_id, now.plan),
        "runs_going": now.runs_going,
        "tokens_in_use": now.tokens,
        "offered": [_to_plan(plan_id, plan) for plan_id, plan in context.plans.items()],
    }


def _to_plan(plan_id: str, plan: Plan) -> dict[str, Any]:
    return {
        "id": plan_id,
        "name": plan.name,
        "has_jobs": plan.has_jobs,
        "longest_run_seconds": plan.longest_run_seconds,
        "smallest_cron_gap_seconds": plan.smallest_cron_gap_seconds,
        "runs_at_once": plan.runs_at_once,
        "kept_runs": plan.kept_runs,
        "kept_days": plan.kept_days,
        "requests_per_minute": plan.requests_per_minute,
        "tokens": plan.tokens,
    }
