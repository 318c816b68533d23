"""/services/{id}/env-vars, and the same of a group: the variables of a service, and those of an environment."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from oneoff.chance import take
from oneoff.core.variables import Variable, check_variables
from oneoff.entrance.requests import caller_of, context_of
from oneoff.errors import InvalidBody, NotFound
from oneoff.operations import variables
from oneoff.operations.context import Context
from oneoff.operations.variables import VariableChange
from oneoff.render_api.answers import answer, answer_nothing, to_listed
from oneoff.render_api.cursors import read_cursor
from oneoff.render_api.queries import get_limit, read_body, read_json
from oneoff.render_api.routing import at

_CURSOR = "vars"
_GENERATED_BYTES = 32


def routes() -> list[BaseRoute]:
    address = "/services/{service_id}/env-vars"
    return [
        at(address, GET=list_env_vars, PUT=replace_env_vars),
        at(address + "/{key}", GET=get_env_var, PUT=put_env_var, DELETE=delete_env_var),
    ]


async def list_env_vars(request: Request) -> Response:
    """By name. Behind the cursor of a name that is gone comes what follows it."""
    after, limit = read_cursor(_CURSOR, request.query_params.get("cursor")), get_limit(request)
    found = await variables.fetch_variables(context_of(request), request.path_params["service_id"])
    names = [name for name in sorted(found) if after is None or name > after]
    return answer(_to_list(request, {name: found[name] for name in names[:limit]}))


async def replace_env_vars(request: Request) -> Response:
    """Afterwards there are exactly those given."""
    changes = to_changes(request, await read_json(request))
    after = await variables.replace_variables(context_of(request), request.path_params["service_id"], changes)
    return answer(_to_list(request, dict(sorted(after.items()))))


async def get_env_var(request: Request) -> Response:
    return answer(await show_variable(request, request.path_params["service_id"]))


async def put_env_var(request: Request) -> Response:
    return answer(await set_variable(request, request.path_params["service_id"]))


async def delete_env_var(request: Request) -> Response:
    await remove_variable(request, request.path_params["service_id"])
    return answer_nothing(204)


async def show_variable(request: Request, owner_id: str) -> dict[str, str]:
    """Of the `key` in the path. Raises NotFound."""
    key = request.path_params["key"]
    return to_env_var(request, key, await _get(context_of(request), owner_id, key))


async def set_variable(request: Request, owner_id: str) -> dict[str, str]:
    key = request.path_params["key"]
    change = _to_change(request, key, await read_body(request))
    after = await variables.merge_variables(context_of(request), owner_id, {key: change})
    return to_env_var(request, key, after[key])


async def remove_variable(request: Request, owner_id: str) -> None:
    """Raises NotFound."""
    context, key = context_of(request), request.path_params["key"]
    await _get(context, owner_id, key)
    await variables.merge_variables(context, owner_id, {key: None})


def to_changes(request: HTTPConnection, given: Any) -> dict[str, VariableChange]:
    """Of `[{"key", "value"} | {"key", "generateValue": true}]`. Raises InvalidBody, InvalidVariables."""
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise InvalidBody("environment variables are a list of objects with key and value", "envVars")
    changes = {}
    for each in given:
        if not isinstance(key := each.get("key"), str):
            raise InvalidBody("key is missing", "key")
        changes[key] = _to_change(request, key, each)
    check_variables({key: change.value or "" for key, change in changes.items()})
    return changes


def to_env_var(request: HTTPConnection, key: str, variable: Variable) -> dict[str, str]:
    """Values only for tokens that may reveal them; "" for others."""
    return {"key": key, "value": variable.value if caller_of(request).admin else ""}


async def _get(context: Context, owner_id: str, key: str) -> Variable:
    found = await variables.fetch_variables(context, owner_id)
    if key not in found:
        raise NotFound("environment variable", key)
    return found[key]


def _to_change(request: HTTPConnection, key: str, given: Mapping[str, Any]) -> VariableChange:
    if given.get("generateValue") is True:
        return VariableChange(base64.b64encode(take(_GENERATED_BYTES)).decode(), secret=True)
    if not isinstance(value := given.get("value"), str):
        raise InvalidBody(f"value of {key} must be text, or send generateValue: true", "value")
    # Who cannot see values reads "", and would wipe them by writing back what was read.
    return VariableChange(value or None if not caller_of(request).admin else value)


def _to_list(request: Request, shown: Mapping[str, Variable]) -> list[dict[str, Any]]:
    return to_listed("envVar", _CURSOR, [(name, to_env_var(request, name, each)) for name, each in shown.items()])
