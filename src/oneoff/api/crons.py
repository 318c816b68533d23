"""/crons and their ticks, and the pauses of environments and of the workspace."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from oneoff.api.answers import answer
from oneoff.api.cron_answers import to_cron, to_instants, to_tick
from oneoff.api.cron_shapes import (
    ChangeCron,
    CreateCron,
    CronShape,
    PauseShape,
    PreviewCron,
    PreviewShape,
    TickShape,
)
from oneoff.api.door import API
from oneoff.api.requests import (
    Cursor,
    Limit,
    context_of,
    idempotency_of,
    read_cursor,
    read_time_cursor,
    to_page,
    to_time_cursor,
)
from oneoff.api.shapes import Page
from oneoff.core.cron_preview import preview
from oneoff.core.cron_words import describe_cron
from oneoff.core.dst import DstPolicy
from oneoff.core.ticks import TickOutcome
from oneoff.engine.ledger import timing_of
from oneoff.operations import crons, pauses
from oneoff.operations.context import Context
from oneoff.operations.crons import Cron, CronFilter, NewCron, Tick
from oneoff.operations.runs import find_service_id

router = APIRouter(prefix=API, tags=["crons"])

_SHOWN_IN_LISTS, _SHOWN = 1, 5


@router.post("/crons", status_code=201, response_model=CronShape)
async def create_cron(body: CreateCron, request: Request) -> Response:
    """Fire a job by the clock. Refused when two instants would be closer than the plan allows."""
    context = context_of(request)
    new = NewCron(body.job, body.to_settings())
    return answer(_show(context, await crons.create_cron(context, new, await idempotency_of(request))), 201)


@router.post("/crons/preview", response_model=PreviewShape)
async def preview_cron(body: PreviewCron, request: Request) -> Response:
    """When an expression would fire, without saving anything. Gaps that `skip` leaves out are told too."""
    policy = body.dst_policy or DstPolicy.DEBIAN
    timing = timing_of(body.expression, body.time_zone or "UTC", policy)
    coming = preview(timing, context_of(request).clock.now(), body.count)
    told = {"description": describe_cron(timing.expression), "time_zone": body.time_zone or "UTC"}
    return answer({**told, "dst_policy": policy.value, "items": to_instants(coming)})


@router.get("/crons", response_model=Page[CronShape])
async def list_crons(
    request: Request,
    limit: Limit = 50,
    cursor: Cursor = None,
    job: Annotated[str | None, Query(max_length=40, pattern=r"^[^\x00]*$", description="A job's id.")] = None,
    service: Annotated[str | None, Query(max_length=300, description="A service's id or path.")] = None,
) -> Response:
    """Crons, newest first, each with its next instant."""
    context = context_of(request)
    wanted = CronFilter(job, await find_service_id(context, service))
    listed = await crons.list_crons(context, wanted, limit + 1, read_cursor(cursor, "cron"))
    return answer(to_page([_show(context, each, _SHOWN_IN_LISTS) for each in listed], limit))


@router.get("/crons/{cron_id}", response_model=CronShape)
async def get_cron(cron_id: str, request: Request) -> Response:
    """One cron, with its next instants."""
    context = context_of(request)
    return answer(_show(context, await crons.get_cron(context, cron_id)))


@router.patch("/crons/{cron_id}", response_model=CronShape)
async def change_cron(cron_id: str, body: ChangeCron, request: Request) -> Response:
    """Change what is given; null sets the default. The new schedule counts from now on."""
    context = context_of(request)
    return answer(_show(context, await crons.change_cron(context, cron_id, body.to_settings())))


@router.delete("/crons/{cron_id}", status_code=204, response_class=Response)
async def delete_cron(cron_id: str, request: Request) -> Response:
    """Delete a cron. Its job, its runs and its ticks stay."""
    await crons.delete_cron(context_of(request), cron_id)
    return Response(status_code=204)


@router.get("/crons/{cron_id}/ticks", response_model=Page[TickShape])
async def list_ticks(
    cron_id: str,
    request: Request,
    limit: Limit = 50,
    cursor: Cursor = None,
    outcome: TickOutcome | None = None,
) -> Response:
    """What became of each due instant, newest first; also of a cron that was deleted."""
    before = read_time_cursor(cursor)
    listed = await crons.list_ticks(context_of(request), cron_id, outcome, limit + 1, before)
    return answer(_to_tick_page(listed, limit))


@router.post("/crons/{cron_id}/pause", response_model=CronShape)
async def pause_cron(cron_id: str, request: Request) -> Response:
    """Its instants are recorded as `paused` and do not fire. Its job may be run by hand."""
    context = context_of(request)
    return answer(_show(context, await crons.set_paused(context, cron_id, True)))


@router.post("/crons/{cron_id}/resume", response_model=CronShape)
async def resume_cron(cron_id: str, request: Request) -> Response:
    """Fire again from now on. What was due during the pause is not caught up."""
    context = context_of(request)
    return answer(_show(context, await crons.set_paused(context, cron_id, False)))


@router.post("/environments/{environment_id}/pause", response_model=PauseShape)
async def pause_environment(environment_id: str, request: Request) -> Response:
    """No cron of the environment fires. Jobs may be run by hand."""
    paused = await pauses.pause_environment(context_of(request), environment_id, True)
    return answer({"crons_paused": paused})


@router.post("/environments/{environment_id}/resume", response_model=PauseShape)
async def resume_environment(environment_id: str, request: Request) -> Response:
    """Crons of the environment that are not paused themselves fire again."""
    paused = await pauses.pause_environment(context_of(request), environment_id, False)
    return answer({"crons_paused": paused})


@router.post("/workspace/pause", response_model=PauseShape)
async def pause_workspace(request: Request) -> Response:
    """No cron fires. Jobs may be run by hand."""
    return answer({"crons_paused": await pauses.pause_workspace(context_of(request), True)})


@router.post("/workspace/resume", response_model=PauseShape)
async def resume_workspace(request: Request) -> Response:
    """Crons that are not paused themselves, or with their environment, fire again."""
    return answer({"crons_paused": await pauses.pause_workspace(context_of(request), False)})


def _show(context: Context, cron: Cron, count: int = _SHOWN) -> dict[str, Any]:
    return to_cron(cron, crons.preview_cron(context, cron, count))


def _to_tick_page(listed: list[Tick], limit: int) -> dict[str, Any]:
    """A tick has no id: its instant is the cursor."""
    last: datetime | None = listed[limit - 1].due_at if len(listed) > limit else None
    items = [to_tick(each) for each in listed[:limit]]
    return {"items": items, "next_cursor": None if last is None else to_time_cursor(last)}
