"""/apply: job files."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from oneoff.api.answers import answer
from oneoff.api.apply_shapes import Apply, ApplyJob, ApplyShape
from oneoff.api.bodies import to_change
from oneoff.api.door import API
from oneoff.api.requests import context_of
from oneoff.core.applying import Action
from oneoff.operations.applying import JobFile, Manner, Plan, WantedCron, WantedJob, apply_file

router = APIRouter(prefix=API, tags=["jobs"])
_UNTOUCHED = (Action.KEEP, Action.LEAVE)


@router.post("/apply", response_model=ApplyShape)
async def apply(body: Apply, request: Request) -> Response:
    """Make and change the jobs, crons and group limits of a job file, all of it or nothing. The answer is the plan: of
    each what was done, or would be with `dry_run`. All that is wrong is told at once, in `errors`."""
    file = JobFile(body.source, body.service, body.groups, [_to_job(each) for each in body.jobs])
    manner = Manner(body.dry_run, body.prune, body.adopt, body.expected)
    return answer(_to_plan(await apply_file(context_of(request), file, manner), body.dry_run))


def _to_job(body: ApplyJob) -> WantedJob:
    crons = [WantedCron(each.name, {n: v for n, v in each.to_settings().items() if n != "name"}) for each in body.crons]
    variables = {name: to_change(value) for name, value in body.variables.items()}
    return WantedJob(body.service, body.name, body.to_settings(), variables, crons)


def _to_plan(plan: Plan, dry_run: bool) -> dict[str, Any]:
    return {
        "managed_by": plan.managed_by,
        "dry_run": dry_run,
        "digest": plan.digest,
        "changes": sum(item.action not in _UNTOUCHED for item in plan.items),
        "items": [asdict(item) for item in plan.items],
    }
