"""The HTTP API as one ASGI app. Made by `oneoff.server`, and by tests."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from oneoff.api import (
    apply,
    batches,
    crons,
    deploys,
    events,
    groups,
    health,
    jobs,
    log_streams,
    logs,
    metrics,
    places,
    plans,
    problems,
    runs,
    services,
    tokens,
    usage,
    variables,
    webhooks,
)
from oneoff.api.description import describe
from oneoff.api.door import API, DOOR
from oneoff.entrance.gate import Gate
from oneoff.errors import OneoffError
from oneoff.operations.context import Context
from oneoff.operations.scrape import Scrape
from oneoff.operations.tokens import Tokens

# Routes are tried one after another: what is asked most comes first.
_RESOURCES = (
    runs,
    logs,
    batches,
    jobs,
    crons,
    services,
    variables,
    deploys,
    tokens,
    places,
    groups,
    apply,
    events,
    log_streams,
    webhooks,
    plans,
    usage,
)


def create_app(context: Context, tokens: Tokens | None = None) -> FastAPI:
    """`tokens` are those of the other faces of the same server."""
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.context = context
    app.state.tokens = tokens or Tokens(context)
    app.state.scrape = Scrape(context)
    app.add_middleware(Gate, tokens=app.state.tokens, door=DOOR)
    app.add_exception_handler(OneoffError, problems.on_error)
    app.add_exception_handler(HTTPException, problems.on_http_exception)
    app.add_exception_handler(RequestValidationError, problems.on_invalid_request)
    app.add_exception_handler(Exception, problems.on_unexpected)
    for resource in _RESOURCES:
        app.include_router(resource.router, prefix=API)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    return app
