"""/services and their variables' siblings: create, list, change, suspend, resume, delete."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from oneoff.api.answers import answer, to_service
from oneoff.api.bodies import ChangeService, CreateService
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
from oneoff.api.shapes import Page, ServiceShape
from oneoff.operations import services
from oneoff.operations.services import NewService

router = APIRouter(prefix=API, tags=["services"])


@router.post("/services", status_code=201, response_model=ServiceShape)
async def create_service(body: CreateService, request: Request) -> Response:
    """Make a service, with its project and environment if they are new; nothing when its image cannot be had."""
    context = context_of(request)
    given = body.model_dump(exclude_unset=True, exclude={"path", "type", "image", "registry"})
    credentials = body.registry.to_credentials() if body.registry else None
    new = NewService(body.path, body.type, body.image, credentials, given)
    idempotency = await idempotency_of(request)
    return answer(to_service(await services.create_service(context, new, caller_of(request).name, idempotency)), 201)


@router.get("/services", response_model=Page[ServiceShape])
async def list_services(
    request: Request,
    limit: Limit = 50,
    cursor: Cursor = None,
    path: Annotated[
        str | None, Query(max_length=300, description="The one service of this path: a list of 0 or 1.")
    ] = None,
) -> Response:
    """All services, newest first."""
    context = context_of(request)
    if path is not None:
        found = await services.find_service(context, path)
        return answer({"items": [to_service(found)] if found else [], "next_cursor": None})
    before = read_cursor(cursor, "service", "cron_service")
    listed = await services.list_services(context, limit + 1, before)
    return answer(to_page([to_service(each) for each in listed], limit))


@router.get("/services/{service_id}", response_model=ServiceShape)
async def get_service(service_id: str, request: Request) -> Response:
    """One service."""
    return answer(to_service(await services.get_service(context_of(request), service_id)))


@router.patch("/services/{service_id}", response_model=ServiceShape)
async def change_service(service_id: str, body: ChangeService, request: Request) -> Response:
    """Change what is given; null sets the default. Runs that were accepted keep what they were made with."""
    given: dict[str, Any] = body.model_dump(exclude_unset=True, exclude={"registry"})
    if "registry" in body.model_fields_set:
        given["credentials"] = body.registry.to_credentials() if body.registry else None
    return answer(to_service(await services.change_service(context_of(request), service_id, given)))


@router.delete("/services/{service_id}", status_code=204, response_class=Response)
async def delete_service(
    service_id: str,
    request: Request,
    with_jobs: Annotated[bool, Query(description="Its saved jobs and their crons go with it.")] = False,
) -> Response:
    """Delete a service that has no runs going, and no jobs unless they may go with it. Its ended runs stay in the
    history."""
    await services.delete_service(context_of(request), service_id, with_jobs=with_jobs)
    return Response(status_code=204)


@router.post("/services/{service_id}/suspend", response_model=ServiceShape)
async def suspend_service(service_id: str, request: Request) -> Response:
    """Crons of the service do not fire until it is resumed. Going runs are not interrupted."""
    return answer(to_service(await services.set_suspended(context_of(request), service_id, True)))


@router.post("/services/{service_id}/resume", response_model=ServiceShape)
async def resume_service(service_id: str, request: Request) -> Response:
    """The end of a suspension."""
    return answer(to_service(await services.set_suspended(context_of(request), service_id, False)))
