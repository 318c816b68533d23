"""/services/{id}/deploys and /deploys/{id}."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from oneoff.api.answers import answer, to_deploy
from oneoff.api.bodies import CreateDeploy
from oneoff.api.door import API
from oneoff.api.requests import (
    Cursor,
    Limit,
    caller_of,
    context_of,
    idempotency_of,
    read_cursor,
    to_page,
)
from oneoff.api.shapes import DeployShape, Page
from oneoff.operations import deploys
from oneoff.operations.context import Context

router = APIRouter(prefix=API, tags=["deploys"])


@router.post("/services/{service_id}/deploys", status_code=201, response_model=DeployShape)
async def create_deploy(
    service_id: str,
    body: CreateDeploy,
    request: Request,
    wait: Annotated[bool, Query(description="False: answer at once, while it is `created`.")] = True,
) -> Response:
    """Make an image the live image of a service. The answer comes when the deploy has ended: `live`,
    `image_unavailable` (then `message` says why, and the image before stays live), or `canceled`. Where jobs of the
    service gate it, the answer comes when they are going: `pre_deploy_in_progress`; `created` when it waits for an
    earlier deploy whose gates are going. Ask GET /deploys/{deploy_id} then."""
    context = context_of(request)
    deploy = await (deploys.create_deploy if wait else deploys.begin_deploy)(
        context,
        service_id,
        body.image,
        caller_of(request).name,
        credentials=body.registry.to_credentials() if body.registry else None,
        request=await idempotency_of(request),
    )
    return answer(await _show(context, deploy.id), 201)


@router.get("/services/{service_id}/deploys", response_model=Page[DeployShape])
async def list_deploys(service_id: str, request: Request, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """Deploys of a service, newest first."""
    before = read_cursor(cursor, "deploy")
    context = context_of(request)
    listed, service = await deploys.list_deploys(context, service_id, limit + 1, before)
    gates = await deploys.fetch_gates(context, listed)
    return answer(to_page([to_deploy(each, service, gates[each.id]) for each in listed], limit))


@router.get("/deploys/{deploy_id}", response_model=DeployShape)
async def get_deploy(deploy_id: str, request: Request) -> Response:
    """One deploy."""
    return answer(await _show(context_of(request), deploy_id))


@router.post("/deploys/{deploy_id}/cancel", response_model=DeployShape)
async def cancel_deploy(deploy_id: str, request: Request) -> Response:
    """End a deploy that is not live yet. One that waits is `canceled` at once; the runs that gate one are asked to end,
    and it is `canceled` when they have. An ended one stays as it is."""
    context = context_of(request)
    await deploys.cancel_deploy(context, deploy_id, caller_of(request).name)
    return answer(await _show(context, deploy_id))


async def _show(context: Context, deploy_id: str) -> dict[str, Any]:
    deploy, service = await deploys.get_deploy(context, deploy_id)
    gates = await deploys.fetch_gates(context, [deploy])
    return to_deploy(deploy, service, gates[deploy_id])
