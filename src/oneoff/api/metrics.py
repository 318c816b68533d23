"""/metrics, in Prometheus' text format. Counts and times only: no id, no name of a service, no variable."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from oneoff.api.problems import answer_plain
from oneoff.entrance.gate import bearer_of
from oneoff.entrance.requests import context_of, tokens_of
from oneoff.meters import CONTENT_TYPE

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=PlainTextResponse)
async def get_metrics(request: Request) -> Response:
    """What the server counted and measured, for Prometheus. Open as long as the setting `metrics` is; docs/metrics.md
    has them all."""
    match context_of(request).settings.metrics:
        case "off":
            return answer_plain(404)
        case "token":
            await tokens_of(request).authenticate(bearer_of(request.scope))
    return Response(await request.app.state.scrape.render(), media_type=CONTENT_TYPE)
