"""The OpenAPI 3.1 description of the API. Served by `health`, rendered by `page` and `reference`."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from oneoff import __version__
from oneoff.api.door import API, OPEN_ADDRESSES
from oneoff.api.problems import MEDIA_TYPE
from oneoff.entrance.requests import IDEMPOTENCY_KEY, MOST_KEY_CHARACTERS

_ABOUT = (
    "Run one-off commands inside an app's deployed image. Lists take `limit` and `cursor`; times are RFC 3339 in UTC; "
    "durations are seconds. Errors are problem+json with a stable `code`."
)
_METHODS = ("get", "put", "post", "delete", "patch")
_PROBLEM = {
    "type": "object",
    "description": "An error, as RFC 9457 has it. `code` is for programs, `detail` says what to do next.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "field": {"type": "string", "description": "The field of the request that is wrong."},
        "errors": {
            "type": "array",
            "description": "All that is wrong with the form of a request.",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "detail": {"type": "string"}},
                "required": ["field", "detail"],
            },
        },
    },
}
# Read by `idempotency_of`, not by FastAPI: its way to a header takes a tenth of what accepting a run takes.
_IDEMPOTENCY_KEY = {
    "name": IDEMPOTENCY_KEY.lower(),
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": MOST_KEY_CHARACTERS},
    "description": "Of the caller's choice. The same key with the same request makes nothing new: the answer is what "
    "the first one made. Kept for a day.",
}
_TOLD = {"schema": {"$ref": "#/components/schemas/Problem"}}
_REFUSED = {"description": "The request cannot be done as it is.", "content": {MEDIA_TYPE: _TOLD}}
_BROKEN = {"description": "The server cannot do it now.", "content": {MEDIA_TYPE: _TOLD}}


def describe(app: FastAPI) -> dict[str, Any]:
    """Made once per app."""
    if app.openapi_schema is None:
        app.openapi_schema = _complete(
            get_openapi(title="Oneoff", version=__version__, description=_ABOUT, routes=app.routes)
        )
    return app.openapi_schema


def _complete(described: dict[str, Any]) -> dict[str, Any]:
    """With what is the same everywhere: the token, and the shape of errors."""
    components = described.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for generated in ("HTTPValidationError", "ValidationError"):
        schemas.pop(generated, None)
    schemas["Problem"] = _PROBLEM
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, item in described["paths"].items():
        for method in _METHODS:
            if method in item:
                _complete_operation(path, item[method])
    return described


def _complete_operation(path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    if "201" in responses:
        operation.setdefault("parameters", []).append(_IDEMPOTENCY_KEY)
    responses.pop("422", None)
    responses["4XX"] = _REFUSED
    responses["5XX"] = _BROKEN
    if path.startswith(API) and path not in OPEN_ADDRESSES:
        operation["security"] = [{"token": []}]
