"""Errors as Render tells them: `{"id"?, "message"}`, with the statuses its clients know. Used by the apps."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from oneoff import errors
from oneoff.entrance.refusals import Statuses, headers_of, status_of
from oneoff.errors import NotFound, OneoffError
from oneoff.render_api.answers import MEDIA_TYPE, to_json

# Of each error the status; see `status_of`. Calls about jobs know neither 403 nor 409: what they can refuse is a 400
# here.
STATUSES: Statuses = {
    errors.InvalidInput: 400,
    errors.SettingsInvalid: 500,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.NoLiveImage: 400,
    errors.NotAuthenticated: 401,
    errors.NotAllowed: 403,
    errors.PlanRefused: 400,
    errors.DiskFull: 503,
    errors.StoreUnavailable: 503,
    errors.DriverUnavailable: 503,
    errors.EngineUnavailable: 503,
    errors.ImageUnavailable: 400,
    errors.StartFailed: 400,
    errors.DriverError: 503,
    errors.TooManyRequests: 429,
    errors.WrongSecretKey: 500,
    errors.DataFolderLocked: 500,
    errors.SchemaTooNew: 500,
    errors.InstallationLocked: 500,
    errors.ContainerExists: 500,
    errors.ContainerBusy: 500,
    errors.ContainerGone: 500,
    errors.AlreadyStarted: 500,
    errors.ExitUnknown: 500,
}
PLAIN: Mapping[int, str] = {
    400: "the request could not be understood",
    404: "not found: there is no such address here. docs/render-api.md lists those there are",
    405: "this address does not take this method: the header Allow names those it takes",
    413: "the body is too large: send at most 4 MB",
    500: "something broke in the server, its log says what: try again, and report it if it stays",
}


def answer_message(
    status: int, message: str, headers: Mapping[str, str] | None = None, request_id: str | None = None
) -> Response:
    body = {"id": request_id, "message": message} if request_id else {"message": message}
    return Response(to_json(body) + b"\n", status, dict(headers or {}), MEDIA_TYPE)


def answer_error(problem: OneoffError) -> Response:
    status = status_of(problem, STATUSES)
    return answer_message(status, _message_of(problem), headers_of(problem, status))


def _message_of(problem: OneoffError) -> str:
    if not isinstance(problem, NotFound):
        return str(problem)
    return f"not found: {problem.key}" + (f" ({problem.hint})" if problem.hint else "")


def answer_plain(status: int, headers: Mapping[str, str] | None = None) -> Response:
    return answer_message(status, PLAIN.get(status, HTTPStatus(status).phrase), headers)


async def on_unexpected(request: Request, _problem: Exception) -> Response:
    """With the id of the request, by which the server's operator finds it."""
    return answer_message(500, PLAIN[500], request_id=request.state.request_id)
