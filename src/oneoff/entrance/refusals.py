"""What the faces have in common where they refuse: a status from the face's table, headers, and who handles what. The
words and the form are the face's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from oneoff.errors import OneoffError

Statuses = Mapping[type[OneoffError], int]
Handler = Callable[[Request, Exception], Awaitable[Response]]
_RETRY_AFTER_SECONDS = 2


def status_of(problem: OneoffError, statuses: Statuses) -> int:
    """Leaves that are not in the table take that of the class they derive from."""
    return next(statuses[each] for each in type(problem).__mro__ if each in statuses)


def headers_of(problem: OneoffError, status: int) -> dict[str, str]:
    headers = {}
    if problem.temporary or status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def handlers_of(
    answer_error: Callable[[OneoffError], Response], answer_plain: Callable[[int, Mapping[str, str] | None], Response]
) -> dict[type[Exception], Handler]:
    """For an app: of our errors, and of those of its framework."""

    async def on_error(_request: Request, problem: Exception) -> Response:
        assert isinstance(problem, OneoffError)
        return answer_error(problem)

    async def on_http_exception(_request: Request, problem: Exception) -> Response:
        assert isinstance(problem, HTTPException)
        return answer_plain(problem.status_code, problem.headers)

    return {OneoffError: on_error, HTTPException: on_http_exception}
