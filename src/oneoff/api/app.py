"""The HTTP API as one ASGI app. Made by `oneoff.server`, and by tests."""

from __future__ import annotations

from types import ModuleType

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError

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
from oneoff.api.door import DOOR
from oneoff.entrance.gate import Gate
from oneoff.entrance.refusals import handlers_of
from oneoff.operations.context import Context
from oneoff.operations.scrape import Scrape
from oneoff.operations.tokens import Tokens

# Routes are tried one after another: what is asked most comes first.
_RESOURCES: tuple[ModuleType, ...] = (
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
    health,
    metrics,
)


def create_app(context: Context, tokens: Tokens | None = None) -> FastAPI:
    """`tokens` are those of the other faces of the same server."""
    app = FastAPI(
        # As they are: include_router makes each of them a second time, at the first request.
        routes=[route for resource in _RESOURCES for route in resource.router.routes],
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
    for kind, handler in handlers_of(problems.answer_error, problems.answer_plain).items():
        app.add_exception_handler(kind, handler)
    app.add_exception_handler(RequestValidationError, problems.on_invalid_request)
    app.add_exception_handler(Exception, problems.on_unexpected)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    return app
