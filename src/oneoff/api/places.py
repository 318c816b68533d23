"""/projects, /environments, /nodes and /instance-types: lists."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from oneoff.api.answers import answer, to_environment, to_instance_type, to_node, to_project
from oneoff.api.door import API
from oneoff.api.requests import Cursor, Limit, context_of, read_cursor, to_page
from oneoff.api.shapes import EnvironmentShape, InstanceTypes, Nodes, Page, ProjectShape
from oneoff.operations import places

router = APIRouter(prefix=API, tags=["places"])


@router.get("/projects", response_model=Page[ProjectShape])
async def list_projects(request: Request, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """Projects, newest first. They are made with their first service and go with their last."""
    listed = await places.list_projects(context_of(request), limit + 1, read_cursor(cursor, "project"))
    return answer(to_page([to_project(each) for each in listed], limit))


@router.get("/environments", response_model=Page[EnvironmentShape])
async def list_environments(
    request: Request,
    limit: Limit = 50,
    cursor: Cursor = None,
    path: Annotated[str | None, Query(max_length=300, description="project/environment: a list of 0 or 1.")] = None,
) -> Response:
    """Environments, newest first."""
    before = read_cursor(cursor, "environment")
    listed = await places.list_environments(context_of(request), path, limit + 1, before)
    return answer(to_page([to_environment(each) for each in listed], limit))


@router.get("/nodes", response_model=Nodes)
async def list_nodes(request: Request) -> Response:
    """Machines that run containers, and how many of their slots are taken."""
    loads = await places.list_nodes(context_of(request))
    return answer({"items": [to_node(each) for each in loads], "next_cursor": None})


@router.get("/instance-types", response_model=InstanceTypes)
async def list_instance_types(request: Request) -> Response:
    """CPU and memory a run can have, and what they cost."""
    return answer({"items": [to_instance_type(each) for each in context_of(request).catalogue], "next_cursor": None})
