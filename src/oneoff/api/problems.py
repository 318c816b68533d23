"""Errors as the API tells them: `application/problem+json` (RFC 9457), from one table. Used by the app and its door."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from oneoff import errors
from oneoff.entrance.refusals import Statuses, headers_of, status_of
from oneoff.errors import InvalidInput, OneoffError

MEDIA_TYPE = "application/problem+json"

# Of each error the status; see `status_of`.
STATUSES: Statuses = {
    errors.InvalidInput: 422,
    errors.InvalidCursor: 400,
    errors.SettingsInvalid: 500,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.NotAuthenticated: 401,
    errors.NotAllowed: 403,
    errors.PlanRefused: 403,
    errors.TooManyRequests: 429,
    errors.DiskFull: 507,
    errors.StoreUnavailable: 503,
    errors.DataFolderLocked: 500,
    errors.SchemaTooNew: 500,
    errors.InstallationLocked: 500,
    errors.WrongSecretKey: 500,
    errors.DriverUnavailable: 503,
    errors.EngineUnavailable: 503,
    errors.ImageUnavailable: 422,
    errors.StartFailed: 422,
    errors.ContainerExists: 500,
    errors.ContainerBusy: 500,
    errors.ContainerGone: 500,
    errors.AlreadyStarted: 500,
    errors.ExitUnknown: 500,
    errors.DriverError: 503,
}

# Of answers that no error of ours stands behind: code, and what to do.
PLAIN: Mapping[int, tuple[str, str]] = {
    400: ("invalid_body", "the body is no JSON in UTF-8"),
    404: ("not_found", "there is no such address: GET /api/v1/openapi.json lists those there are"),
    405: ("method_not_allowed", "this address does not take this method: the header Allow names those it takes"),
    413: ("body_too_large", "the body is too large: send at most 4 MB, or 64 MB for a batch"),
    500: ("internal_error", "something broke in the server, its log says what: try again, and report it if it stays"),
}

# For pydantic's kinds of errors, whose own words speak of its types.
_WORDS: Mapping[str, str] = {
    "extra_forbidden": "there is no such field",
    "missing": "it is missing",
    "greater_than_equal": "it must be at least {ge}",
    "less_than_equal": "it must be at most {le}",
    "string_type": "write a text",
    "string_too_long": "it may have at most {max_length} characters",
    "string_too_short": "it must have at least {min_length} characters",
    "string_pattern_mismatch": "it has a character that is not allowed there",
    "list_type": "write a list",
    "too_long": "it may have at most {max_length} items",
    "dict_type": "write an object",
    "model_type": "write an object",
    "model_attributes_type": "write an object",
    "enum": "it must be {expected}",
    "literal_error": "it must be {expected}",
}


def make_problem(status: int, code: str, detail: str, **more: Any) -> dict[str, Any]:
    return {
        "type": f"urn:oneoff:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
        "code": code,
        **more,
    }


def answer_error(problem: OneoffError) -> Response:
    status = status_of(problem, STATUSES)
    field = problem.field if isinstance(problem, InvalidInput) else None
    more: dict[str, Any] = {"field": field} if field else {}
    if isinstance(problem, errors.JobFileInvalid):
        more["errors"] = [{"field": place, "detail": text} for place, text in problem.problems]
    return _answer(make_problem(status, problem.code, str(problem), **more), headers_of(problem, status))


def answer_plain(status: int, headers: Mapping[str, str] | None = None) -> Response:
    code, detail = PLAIN.get(status, ("invalid_request", HTTPStatus(status).phrase))
    return _answer(make_problem(status, code, detail), headers)


async def on_unexpected(_request: Request, _problem: Exception) -> Response:
    return answer_plain(500)


async def on_invalid_request(_request: Request, problem: Exception) -> Response:
    """Names the field and the rule, never the value: it may be a variable's."""
    assert isinstance(problem, RequestValidationError)
    found = problem.errors()
    if any(each["type"] == "json_invalid" for each in found):
        return answer_plain(400)
    wrong = [{"field": _field(each["loc"]), "detail": _words(each)} for each in found]
    first = wrong[0]
    detail = f"{first['field']}: {first['detail']}" if first["field"] else first["detail"]
    return _answer(make_problem(422, "invalid_body", detail, field=first["field"], errors=wrong))


def _field(location: Sequence[str | int]) -> str:
    """`command.0` of ("body", "command", "list[str]", 0): without where it was sent and which form was tried."""
    names = [str(part) for part in location[1:] if isinstance(part, int) or not _is_form(str(part))]
    return ".".join(names)


def _is_form(part: str) -> bool:
    return part in {"str", "constrained-str", "VariableBody"} or "[" in part


def _words(each: Mapping[str, Any]) -> str:
    kind = str(each["type"])
    if kind == "missing" and len(each["loc"]) == 1:
        return "the body is missing: send an object of JSON"
    if kind.startswith(("int_", "finite_")):
        return "write a whole number, for example 60"
    if kind.startswith("bool_"):
        return "write true or false"
    if kind.startswith("datetime"):
        return "this is no time: write for example 2026-01-31T08:00:00Z"
    if kind == "string_too_short" and each["ctx"]["min_length"] == 1:
        return "it is empty"
    if (words := _WORDS.get(kind)) is not None:
        return words.format(**each.get("ctx", {}))
    words = str(each["msg"])
    return words[0].lower() + words[1:]


def _answer(problem: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps(problem).encode()
    return Response(body, problem["status"], dict(headers or {}), MEDIA_TYPE)
