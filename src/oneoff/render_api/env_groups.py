"""/env-groups: the variables of an environment are one group, linked to all its services."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from oneoff.entrance.requests import context_of
from oneoff.errors import InvalidBody, NotFound
from oneoff.operations import variables
from oneoff.operations.places import Environment
from oneoff.operations.services import Service
from oneoff.render_api.answers import answer, answer_nothing, to_time
from oneoff.render_api.env_vars import remove_variable, set_variable, show_variable, to_env_var
from oneoff.render_api.owners import is_asked_for
from oneoff.render_api.projects import fetch_environments, fetch_services, find_environment, to_group_id
from oneoff.render_api.queries import get_limit, get_list, get_text, get_window
from oneoff.render_api.routing import at
from oneoff.render_api.selecting import is_within
from oneoff.render_api.service_shapes import SHORT_TYPES, to_slug

_FIXED = (
    "the variables of an environment are its only group, made with its first service and linked to all of them: "
    "change its variables by PUT /env-groups/{id}/env-vars/{key}, or those of one service"
)


def routes() -> list[BaseRoute]:
    one = "/env-groups/{group_id}"
    return [
        at("/env-groups", GET=list_groups, POST=refuse),
        at(one, GET=get_group, PATCH=refuse, DELETE=refuse),
        at(one + "/env-vars/{key}", GET=get_variable, PUT=put_variable, DELETE=delete_variable),
        at(one + "/services/{service_id}", POST=link, DELETE=refuse),
    ]


async def list_groups(request: Request) -> Response:
    """Without cursors beside them: `cursor` is the id of the last group received."""
    context, limit, behind = context_of(request), get_limit(request), get_text(request, "cursor")
    names, environments = get_list(request, "name"), get_list(request, "environmentId")
    created, updated = get_window(request, "created"), get_window(request, "updated")
    there = await fetch_environments(context) if is_asked_for(request, context) else []
    wanted = [
        each
        for each in there
        if (behind is None or to_group_id(each.id) < behind)
        and (not names or to_slug(each.path) in names)
        and (not environments or each.id in environments)
        and is_within(each.created_at, created)
        and is_within(each.created_at, updated)
    ]
    linked = await fetch_services(context)
    return answer([_to_group(each, linked, context.workspace_id) for each in wanted[:limit]])


async def get_group(request: Request) -> Response:
    return answer(await _show(request))


async def get_variable(request: Request) -> Response:
    return answer(await show_variable(request, await _owner_id(request)))


async def put_variable(request: Request) -> Response:
    """Answered with the group, as its document has it."""
    await set_variable(request, await _owner_id(request))
    return answer(await _show(request))


async def delete_variable(request: Request) -> Response:
    await remove_variable(request, await _owner_id(request))
    return answer_nothing(204)


async def link(request: Request) -> Response:
    """Of a service of the environment there is nothing to do."""
    shown = await _show(request)
    if request.path_params["service_id"] not in {each["id"] for each in shown["serviceLinks"]}:
        raise InvalidBody(_FIXED)
    return answer(shown)


async def refuse(_request: Request) -> Response:
    raise InvalidBody(_FIXED)


async def _owner_id(request: Request) -> str:
    """The environment's. Raises NotFound."""
    group_id = request.path_params["group_id"]
    if not group_id.startswith("evg-"):
        raise NotFound("environment group", group_id)
    environment_id = "evm-" + group_id.removeprefix("evg-")
    return (await find_environment(context_of(request), environment_id)).id


async def _show(request: Request) -> dict[str, Any]:
    context = context_of(request)
    environment = await find_environment(context, await _owner_id(request))
    found = await variables.fetch_variables(context, environment.id)
    shown = _to_group(environment, await fetch_services(context), context.workspace_id)
    return shown | {
        "envVars": [to_env_var(request, name, found[name]) for name in sorted(found)],
        "secretFiles": [],
    }


def _to_group(environment: Environment, there: list[Service], owner_id: str) -> dict[str, Any]:
    links = [
        {"id": each.id, "name": each.name, "type": SHORT_TYPES[each.type]}
        for each in there
        if each.environment_id == environment.id
    ]
    return {
        "id": to_group_id(environment.id),
        "name": to_slug(environment.path),
        "ownerId": owner_id,
        "createdAt": to_time(environment.created_at),
        "updatedAt": to_time(environment.created_at),
        "serviceLinks": links,
        "environmentId": environment.id,
    }
