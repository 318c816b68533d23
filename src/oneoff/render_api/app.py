"""The two faces as ASGI apps: `/v1` as Render's document of 2021 has it, `/render/v1` for its clients of today.

Made by `oneoff.server` when they are first asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp

from oneoff.entrance.gate import Door, Gate
from oneoff.entrance.refusals import handlers_of
from oneoff.operations.context import Context
from oneoff.operations.tokens import Tokens
from oneoff.render_api import (
    absent,
    cron_jobs,
    deploys,
    env_groups,
    env_vars,
    events,
    log_streams,
    logs,
    owners,
    problems,
    projects,
    services,
    webhooks,
)
from oneoff.render_api.headers import Headers
from oneoff.render_api.job_shapes import to_job, to_job_of_2021
from oneoff.render_api.jobs import Jobs

DOCUMENT = "/v1"
TODAY = "/render/v1"


def routes_of(prefix: str) -> Sequence[BaseRoute]:
    if prefix == DOCUMENT:
        return Jobs(to_job_of_2021).routes()
    parts = (services, deploys, env_vars, env_groups, cron_jobs, logs, log_streams, events, webhooks, owners, projects)
    known = [*Jobs(to_job).routes(), *(route for part in parts for route in part.routes())]
    return [*known, *absent.routes(known)]


def create_app(prefix: str, context: Context, tokens: Tokens) -> ASGIApp:
    """The face at `prefix`; `tokens` are those of the other faces of the same server."""
    app = Starlette(
        routes=[Mount(prefix, routes=routes_of(prefix))],
        middleware=[
            Middleware(Gate, tokens=tokens, door=Door(prefix, problems.answer_error, problems.answer_plain)),
        ],
        exception_handlers={
            **handlers_of(problems.answer_error, problems.answer_plain),
            Exception: problems.on_unexpected,
        },
    )
    app.router.redirect_slashes = False
    app.state.context = context
    app.state.tokens = tokens
    return Headers(app)
