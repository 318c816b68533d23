"""/owners and /users: the workspace, and who calls."""

from __future__ import annotations

from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from oneoff.entrance.requests import caller_of, context_of
from oneoff.errors import NotFound
from oneoff.operations.context import Context
from oneoff.operations.places import get_workspace_name
from oneoff.render_api.answers import answer, to_listed
from oneoff.render_api.cursors import read_cursor
from oneoff.render_api.queries import get_limit, get_list
from oneoff.render_api.routing import at

_CURSOR = "ownr"


def routes() -> list[BaseRoute]:
    return [
        at("/owners", GET=list_owners),
        at("/owners/{owner_id}", GET=get_owner),
        at("/owners/{owner_id}/members", GET=list_members),
        at("/users", GET=get_user),
    ]


async def list_owners(request: Request) -> Response:
    """The one workspace."""
    context = context_of(request)
    get_limit(request)
    owner = await to_owner(context)
    names, emails = get_list(request, "name"), get_list(request, "email")
    matches = (not names or owner["name"] in names) and (not emails or owner["email"] in emails)
    behind = read_cursor(_CURSOR, request.query_params.get("cursor")) is not None
    return answer(to_listed("owner", _CURSOR, [(owner["id"], owner)] if matches and not behind else []))


async def get_owner(request: Request) -> Response:
    context = context_of(request)
    check_owner(context, request.path_params["owner_id"])
    return answer(await to_owner(context))


async def list_members(request: Request) -> Response:
    """Nobody: Oneoff has tokens, and no people behind them."""
    check_owner(context_of(request), request.path_params["owner_id"])
    return answer([])


async def get_user(request: Request) -> Response:
    """The token stands for a person."""
    caller = caller_of(request)
    return answer({"id": "usr-" + caller.id.removeprefix("tok-"), "email": "", "name": caller.name})


async def to_owner(context: Context) -> dict[str, Any]:
    name = await get_workspace_name(context)
    return {"id": context.workspace_id, "name": name, "email": "", "type": "team"}


def check_owner(context: Context, owner_id: str) -> None:
    """Raises NotFound."""
    if owner_id != context.workspace_id:
        raise NotFound("owner", owner_id, f"the workspace of this server is {context.workspace_id}")


def is_asked_for(request: HTTPConnection, context: Context) -> bool:
    """Whether `ownerId` names the workspace, or nobody."""
    owners = get_list(request, "ownerId")
    return not owners or context.workspace_id in owners
