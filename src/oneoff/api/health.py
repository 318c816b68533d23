"""/healthz, /readyz, the description of the API and its page: what needs no token."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from oneoff.api.answers import answer
from oneoff.api.page import render_page
from oneoff.api.problems import answer_error
from oneoff.api.requests import context_of
from oneoff.api.shapes import Health
from oneoff.operations.places import find_trouble

router = APIRouter(tags=["health"])
# No script and nothing from elsewhere: the page is text and its own style.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@router.get("/healthz", response_model=Health)
async def is_alive() -> Response:
    """The server runs."""
    return answer({"status": "ok"})


@router.get("/readyz", response_model=Health)
async def is_ready(request: Request) -> Response:
    """Its database and its container engine answer."""
    trouble = await find_trouble(context_of(request))
    return answer({"status": "ok"}) if trouble is None else answer_error(trouble)


@router.get("/api/v1/openapi.json", response_model=dict[str, object])
async def get_description(request: Request) -> Response:
    """This description, OpenAPI 3.1."""
    return answer(request.app.openapi())


@router.get("/docs", response_class=HTMLResponse)
async def get_page(request: Request) -> Response:
    """This description for people."""
    return HTMLResponse(render_page(request.app.openapi()), headers={"Content-Security-Policy": _POLICY})
