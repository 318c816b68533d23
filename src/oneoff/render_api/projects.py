"""/projects and /environments: they are made with their first service, and go with their last one."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from oneoff.entrance.requests import context_of
from oneoff.errors import InvalidBody, NotFound
from oneoff.operations import places, services
from oneoff.operations.context import Context
from oneoff.operations.places import Environment, Project
from oneoff.operations.services import Service
from oneoff.render_api.absent import refusals
from oneoff.render_api.answers import answer, to_listed, to_time
from oneoff.render_api.cursors import read_id
from oneoff.render_api.owners import is_asked_for, to_owner
from oneoff.render_api.queries import get_limit, get_list, get_window
from oneoff.render_api.routing import at
from oneoff.render_api.selecting import Fetch, fetch_all, is_within, select

_PROJECTS, _ENVIRONMENTS = "proj", "envi"


def routes() -> list[BaseRoute]:
    return [
        at("/projects", GET=list_projects, **refusals("/projects")),
        at("/projects/{project_id}", GET=get_project, **refusals("/projects/{project_id}")),
        at("/environments", GET=list_environments, **refusals("/environments")),
        at("/environments/{environment_id}", GET=get_environment, **refusals("/environments/{environment_id}")),
    ]


async def list_projects(request: Request) -> Response:
    context = context_of(request)
    names = get_list(request, "name")
    created, updated = get_window(request, "created"), get_window(request, "updated")

    def matches(project: Project) -> bool:
        at_ = project.created_at
        return (not names or project.name in names) and is_within(at_, created) and is_within(at_, updated)

    before = read_id(_PROJECTS, request.query_params.get("cursor"), "project")
    limit = get_limit(request)
    fetch = _projects(context)
    listed = await select(fetch, matches, limit, before) if is_asked_for(request, context) else []
    environments = await fetch_all(_environments(context))
    owner = await to_owner(context)
    shapes = [(each.id, _to_project(each, owner, environments)) for each in listed]
    return answer(to_listed("project", _PROJECTS, shapes))


async def get_project(request: Request) -> Response:
    context, project_id = context_of(request), request.path_params["project_id"]
    found = [each for each in await fetch_all(_projects(context)) if each.id == project_id]
    if not found:
        raise NotFound("project", project_id)
    return answer(_to_project(found[0], await to_owner(context), await fetch_all(_environments(context))))


async def list_environments(request: Request) -> Response:
    context = context_of(request)
    projects = get_list(request, "projectId")
    if not projects:
        raise InvalidBody("projectId is missing: GET /projects lists them", "projectId")
    names, ids = get_list(request, "name"), get_list(request, "environmentId")
    created, updated = get_window(request, "created"), get_window(request, "updated")

    def matches(each: Environment) -> bool:
        is_named = (not names or to_name(each) in names) and (not ids or each.id in ids)
        is_timely = is_within(each.created_at, created) and is_within(each.created_at, updated)
        return each.project_id in projects and is_named and is_timely

    before = read_id(_ENVIRONMENTS, request.query_params.get("cursor"), "environment")
    limit = get_limit(request)
    fetch = _environments(context)
    listed = await select(fetch, matches, limit, before) if is_asked_for(request, context) else []
    there = await fetch_services(context)
    return answer(to_listed("environment", _ENVIRONMENTS, [(e.id, _to_environment(e, there)) for e in listed]))


async def get_environment(request: Request) -> Response:
    context = context_of(request)
    found = await find_environment(context, request.path_params["environment_id"])
    return answer(_to_environment(found, await fetch_services(context)))


async def find_environment(context: Context, environment_id: str) -> Environment:
    """Raises NotFound."""
    for each in await fetch_all(_environments(context)):
        if each.id == environment_id:
            return each
    raise NotFound("environment", environment_id)


async def fetch_environments(context: Context) -> list[Environment]:
    return await fetch_all(_environments(context))


async def fetch_services(context: Context) -> list[Service]:
    return await fetch_all(lambda limit, before: services.list_services(context, limit, before))


def to_name(environment: Environment) -> str:
    return environment.path.rpartition("/")[2]


def to_group_id(environment_id: str) -> str:
    """The variables of an environment are one group, linked to all its services."""
    return "evg-" + environment_id.removeprefix("evm-")


def _projects(context: Context) -> Fetch[Project]:
    return lambda limit, before: places.list_projects(context, limit, before)


def _environments(context: Context) -> Fetch[Environment]:
    return lambda limit, before: places.list_environments(context, None, limit, before)


def _to_project(project: Project, owner: dict[str, Any], environments: list[Environment]) -> dict[str, Any]:
    return {
        "id": project.id,
        "createdAt": to_time(project.created_at),
        "updatedAt": to_time(project.created_at),
        "name": project.name,
        "owner": owner,
        "environmentIds": [each.id for each in environments if each.project_id == project.id],
    }


def _to_environment(environment: Environment, there: list[Service]) -> dict[str, Any]:
    return {
        "id": environment.id,
        "name": to_name(environment),
        "projectId": environment.project_id,
        "databasesIds": [],
        "redisIds": [],
        "serviceIds": [each.id for each in there if each.environment_id == environment.id],
        "envGroupIds": [to_group_id(environment.id)],
        "protectedStatus": "unprotected",
        "networkIsolationEnabled": False,
    }
