"""/logs/streams: where the lines of all runs go, and of single services. Setting them is for admins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from oneoff.core.log_stream import LogStreamKind, LogStreamSetting
from oneoff.entrance.requests import caller_of, context_of
from oneoff.errors import InvalidBody, NotFound
from oneoff.operations import log_streams
from oneoff.operations.context import Context
from oneoff.operations.log_streams import LogStreamView, NewLogStream
from oneoff.operations.tokens import check_admin
from oneoff.render_api.answers import answer, answer_nothing, without_unset
from oneoff.render_api.owners import check_owner, is_asked_for
from oneoff.render_api.queries import (
    get_limit,
    get_list,
    get_text,
    get_words,
    need_text,
    read_body,
    read_word,
    take_text,
)
from oneoff.render_api.routing import at


def routes() -> list[BaseRoute]:
    return [
        at("/logs/streams/owner/{owner_id}", GET=get_owners, PUT=put_owners, DELETE=delete_owners),
        at("/logs/streams/resource", GET=list_resources),
        at("/logs/streams/resource/{resource_id}", GET=get_resources, PUT=put_resources, DELETE=delete_resources),
    ]


async def get_owners(request: Request) -> Response:
    context = context_of(request)
    return answer(_to_owners(await _get(context, _owner_id(request, context))))


async def put_owners(request: Request) -> Response:
    """Saved when the receiver takes a connection. `preview` is for what Oneoff does not have."""
    context, body = _admitted(request), await read_body(request)
    owner_id = _owner_id(request, context)
    read_word(need_text(body, "preview"), "preview", LogStreamSetting)
    endpoint = take_text(body, "endpoint") or await _find_endpoint(context, owner_id)
    return answer(_to_owners(await _set(context, owner_id, LogStreamSetting.SEND, endpoint, body)))


async def delete_owners(request: Request) -> Response:
    context = _admitted(request)
    await log_streams.delete_log_stream(context, _owner_id(request, context))
    return answer_nothing(204)


async def list_resources(request: Request) -> Response:
    """Without cursors beside them: `cursor` is the resourceId of the last one received."""
    context, limit, behind = context_of(request), get_limit(request), get_text(request, "cursor")
    streams, resources = get_list(request, "logStreamId"), get_list(request, "resourceId")
    settings = get_words(request, "setting", LogStreamSetting)
    there = await log_streams.list_log_streams(context) if is_asked_for(request, context) else []
    wanted = [
        view
        for view in sorted(there, key=lambda view: view.stream.scope_id)
        if view.stream.scope_id != context.workspace_id
        and (behind is None or view.stream.scope_id > behind)
        and (not streams or view.stream.id in streams)
        and (not resources or view.stream.scope_id in resources)
        and (not settings or view.stream.setting in settings)
    ]
    return answer([_to_resource(view) for view in wanted[:limit]])


async def get_resources(request: Request) -> Response:
    return answer(_to_resource(await _get(context_of(request), request.path_params["resource_id"])))


async def put_resources(request: Request) -> Response:
    """`drop` sends the service's lines nowhere; `send` takes an endpoint."""
    context, body = _admitted(request), await read_body(request)
    setting = read_word(need_text(body, "setting"), "setting", LogStreamSetting)
    endpoint = take_text(body, "endpoint")
    if (endpoint is not None) is not (setting is LogStreamSetting.SEND):
        raise InvalidBody("endpoint is needed with setting send, and only then", "endpoint")
    return answer(_to_resource(await _set(context, request.path_params["resource_id"], setting, endpoint, body)))


async def delete_resources(request: Request) -> Response:
    await log_streams.delete_log_stream(_admitted(request), request.path_params["resource_id"])
    return answer_nothing(204)


def _admitted(request: Request) -> Context:
    """The context, for admins only."""
    check_admin(caller_of(request), "set log streams")
    return context_of(request)


def _owner_id(request: Request, context: Context) -> str:
    check_owner(context, owner_id := str(request.path_params["owner_id"]))
    return owner_id


async def _get(context: Context, scope_id: str) -> LogStreamView:
    try:
        return await log_streams.get_log_stream(context, scope_id)
    except NotFound:
        raise NotFound("log stream of", scope_id) from None


async def _set(
    context: Context, scope_id: str, setting: LogStreamSetting, endpoint: str | None, body: Mapping[str, Any]
) -> LogStreamView:
    """`HOST:PORT` is syslog over TLS, as Render's are; an address of HTTP is OTLP. A token that is not told stays,
    as long as the receiver does."""
    is_otlp = endpoint is not None and endpoint.startswith(("http://", "https://"))
    kind = LogStreamKind.OTLP if is_otlp else LogStreamKind.SYSLOG
    token = take_text(body, "token")
    keeps = token is None and endpoint is not None and endpoint == await _find_endpoint(context, scope_id)
    new = NewLogStream(setting, kind, endpoint, token=token, keeps_token=keeps)
    return await log_streams.set_log_stream(context, scope_id, new)


async def _find_endpoint(context: Context, scope_id: str) -> str | None:
    try:
        receiver = (await log_streams.get_log_stream(context, scope_id)).stream.receiver
    except NotFound:
        return None
    return None if receiver is None else receiver.endpoint


def _to_owners(view: LogStreamView) -> dict[str, Any]:
    receiver = view.stream.receiver
    endpoint = None if receiver is None else receiver.shown_endpoint
    return without_unset({"ownerId": view.stream.scope_id, "endpoint": endpoint, "preview": "send"})


def _to_resource(view: LogStreamView) -> dict[str, Any]:
    receiver = view.stream.receiver
    return without_unset(
        {
            "resourceId": view.stream.scope_id,
            "endpoint": None if receiver is None else receiver.shown_endpoint,
            "setting": view.stream.setting.value,
        }
    )
