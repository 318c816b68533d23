"""/services/{id}/deploys and /deploys/{id}."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from oneoff.api.answers import answer, to_deploy
from oneoff.api.bodies import CreateDeploy
from oneoff.api.requests import (
    Cursor,
    IdempotencyKey,
    Limit,
    caller_of,
    context_of,
    idempotency_of,
    read_cursor,
    to_page,
)
from oneoff.api.shapes import DeployShape, Page
from oneoff.operations import deploys

router = APIRouter(tags=["deploys"])


@router.post("/services/{service_id}/deploys", status_code=201, response_model=DeployShape)
async def create_deploy(
    service_id: str, body: CreateDeploy, request: Request, idempotency_key: IdempotencyKey = None
) -> Response:
    """Make an image the live image of a service. The answer comes when the deploy has ended: `live`,
    `image_unavailable` (then `message` says why, and the image before stays live), or `canceled`."""
    context = context_of(request)
    deploy = await deploys.create_deploy(
        context,
        service_id,
        body.image,
        caller_of(request).name,
        credentials=body.registry.to_credentials() if body.registry else None,
        request=await idempotency_of(request, idempotency_key),
    )
    return answer(to_deploy(*await deploys.get_deploy(context, deploy.id)), 201)


@router.get("/services/{service_id}/deploys", response_model=Page[DeployShape])
async def list_deploys(service_id: str, request: Request, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """Deploys of a service, newest first."""
    before = read_cursor(cursor, "deploy")
    listed, service = await deploys.list_deploys(context_of(request), service_id, limit + 1, before)
    return answer(to_page([to_deploy(each, service) for each in listed], limit))


@router.get("/deploys/{deploy_id}", response_model=DeployShape)
async def get_deploy(deploy_id: str, request: Request) -> Response:
    """One deploy."""
    return answer(to_deploy(*await deploys.get_deploy(context_of(request), deploy_id)))
