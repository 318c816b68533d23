"""/log-streams, and the log stream of the workspace and of each service: where the output of runs is sent."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from oneoff.api.answers import answer, to_time
from oneoff.api.door import API
from oneoff.api.log_stream_shapes import LogStreams, LogStreamShape, PutLogStream
from oneoff.api.requests import caller_of, context_of
from oneoff.operations import log_streams
from oneoff.operations.context import Context
from oneoff.operations.log_streams import LogStreamView, NewLogStream
from oneoff.operations.tokens import check_admin

router = APIRouter(prefix=API, tags=["log streams"])
_OF_RECEIVER = {"kind": "kind", "endpoint": "shown_endpoint", "protocol": "protocol", "framing": "framing"}
_Check = Annotated[bool, Query(description="Save it only when its receiver takes a connection now.")]


@router.get("/log-streams", response_model=LogStreams)
async def list_log_streams(request: Request) -> Response:
    """The workspace's, then those of services. A service without one has the workspace's."""
    context = context_of(request)
    listed = await log_streams.list_log_streams(context)
    return answer({"items": [_to_log_stream(context, each) for each in listed], "next_cursor": None})


@router.get("/workspace/log-stream", response_model=LogStreamShape, name="get_workspace_log_stream")
async def get_workspace_stream(request: Request) -> Response:
    """Where the lines of all runs go whose service has no stream of its own."""
    context = context_of(request)
    return _answer(context, await log_streams.get_log_stream(context, context.workspace_id))


@router.put("/workspace/log-stream", response_model=LogStreamShape, name="set_workspace_log_stream")
async def set_workspace_stream(body: PutLogStream, request: Request, check: _Check = True) -> Response:
    """Send the lines of runs made from now on. Takes an admin token."""
    return await _set(context_of(request).workspace_id, body, request, check)


@router.delete("/workspace/log-stream", status_code=204, response_class=Response, name="delete_workspace_log_stream")
async def delete_workspace_stream(request: Request) -> Response:
    """Send no more. What waits to be sent is not sent any more. Takes an admin token."""
    return await _delete(context_of(request).workspace_id, request)


@router.post("/workspace/log-stream/test", response_model=LogStreamShape, name="test_workspace_log_stream")
async def test_workspace_stream(request: Request) -> Response:
    """Send one line of Oneoff's own, and say whether the receiver took it. Takes an admin token."""
    return await _test(context_of(request).workspace_id, request)


@router.get("/services/{service_id}/log-stream", response_model=LogStreamShape, name="get_service_log_stream")
async def get_service_stream(service_id: str, request: Request) -> Response:
    """The service's own; 404 when it has none, and the workspace's holds."""
    context = context_of(request)
    return _answer(context, await log_streams.get_log_stream(context, service_id))


@router.put("/services/{service_id}/log-stream", response_model=LogStreamShape, name="set_service_log_stream")
async def set_service_stream(service_id: str, body: PutLogStream, request: Request, check: _Check = True) -> Response:
    """Instead of the workspace's, for runs of this service made from now on; `drop` sends them nowhere. Takes an admin
    token."""
    return await _set(service_id, body, request, check)


@router.delete(
    "/services/{service_id}/log-stream", status_code=204, response_class=Response, name="delete_service_log_stream"
)
async def delete_service_stream(service_id: str, request: Request) -> Response:
    """The workspace's holds again. Takes an admin token."""
    return await _delete(service_id, request)


@router.post("/services/{service_id}/log-stream/test", response_model=LogStreamShape, name="test_service_log_stream")
async def test_service_stream(service_id: str, request: Request) -> Response:
    """As that of the workspace."""
    return await _test(service_id, request)


async def _set(scope_id: str, body: PutLogStream, request: Request, check: bool) -> Response:
    check_admin(caller_of(request), "set log streams")
    context = context_of(request)
    new = NewLogStream(**body.model_dump(), keeps_token="token" not in body.model_fields_set)
    return _answer(context, await log_streams.set_log_stream(context, scope_id, new, check=check))


async def _delete(scope_id: str, request: Request) -> Response:
    check_admin(caller_of(request), "delete log streams")
    await log_streams.delete_log_stream(context_of(request), scope_id)
    return Response(status_code=204)


async def _test(scope_id: str, request: Request) -> Response:
    check_admin(caller_of(request), "test log streams")
    context = context_of(request)
    return _answer(context, await log_streams.send_test_line(context, scope_id))


def _answer(context: Context, view: LogStreamView) -> Response:
    return answer(_to_log_stream(context, view))


def _to_log_stream(context: Context, view: LogStreamView) -> dict[str, Any]:
    stream, receiver = view.stream, view.stream.receiver
    told = {name: None if receiver is None else getattr(receiver, each) for name, each in _OF_RECEIVER.items()}
    return {
        "id": stream.id,
        "scope": "workspace" if stream.scope_id == context.workspace_id else "service",
        "service_id": None if stream.scope_id == context.workspace_id else stream.scope_id,
        "service": view.service,
        "setting": stream.setting.value,
        **told,
        "has_token": stream.token_sealed is not None,
        "ca_pem": stream.ca_pem,
        "created_at": to_time(stream.created_at),
        "updated_at": to_time(stream.updated_at),
        "state": _to_state(view),
    }


def _to_state(view: LogStreamView) -> dict[str, Any]:
    state = view.state
    is_failing = state.failing_since is not None
    return {
        "status": "failing" if is_failing else "connected" if state.connected_since is not None else "idle",
        "connected_since": to_time(state.connected_since),
        "failing_since": to_time(state.failing_since),
        "last_error": state.last_error,
        "last_error_at": to_time(state.last_error_at),
        "lines_sent": state.lines_sent,
        "lines_dropped": state.lines_dropped,
        "lag_bytes": state.lag_bytes,
        "lag_seconds": round(view.lag_seconds, 3),
    }
