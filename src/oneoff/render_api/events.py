"""/services/{id}/events and /events/{id}: what happened, with the exit codes that a Job does not tell."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from oneoff.core.render_events import TYPES, to_kinds
from oneoff.entrance.requests import context_of
from oneoff.errors import InvalidBody, NotFound
from oneoff.operations import events, services
from oneoff.operations.context import Context
from oneoff.operations.events import EventFilter
from oneoff.render_api.answers import answer, to_listed
from oneoff.render_api.cursors import read_cursor
from oneoff.render_api.event_shapes import to_event
from oneoff.render_api.queries import get_limit, get_list, get_time
from oneoff.render_api.routing import at
from oneoff.render_api.selecting import is_within
from oneoff.store.runs import Window

_CURSOR = "evnt"
_PAGE = 200


def routes() -> list[BaseRoute]:
    return [
        at("/services/{service_id}/events", GET=list_events),
        at("/events/{event_id}", GET=get_event),
    ]


async def list_events(request: Request) -> Response:
    """Newest first. Types that Oneoff never has may be asked for: there are none."""
    context, service_id = context_of(request), request.path_params["service_id"]
    types, limit = get_list(request, "type"), get_limit(request)
    window = Window(get_time(request, "startTime"), get_time(request, "endTime"))
    before = _read_cursor(request)
    await services.get_service(context, service_id)
    wanted = EventFilter(kinds := to_kinds(types or TYPES), service_id=service_id)
    found: list[tuple[str, dict[str, Any]]] = []
    while kinds and len(found) < limit:
        page = await events.list_events(context, wanted, _PAGE, before)
        for event in page:
            shown = to_event(event) if is_within(event.created_at, window) else None
            if shown is not None and (not types or shown["type"] in types):
                found.append((str(event.seq), shown))
        if len(page) < _PAGE:
            break
        before = page[-1].seq
    return answer(to_listed("event", _CURSOR, found[:limit]))


async def get_event(request: Request) -> Response:
    return answer(await _get(context_of(request), request.path_params["event_id"]))


async def _get(context: Context, event_id: str) -> dict[str, Any]:
    """Raises NotFound, also for a kind that Render does not have."""
    event = await events.get_event(context, event_id)
    if (shown := to_event(event)) is None:
        raise NotFound("event", event_id, f"it is a {event.kind}: GET /api/v1/events shows those of every kind")
    return shown


def _read_cursor(request: Request) -> int | None:
    key = read_cursor(_CURSOR, request.query_params.get("cursor"))
    if key is not None and not (key.isascii() and key.isdigit() and len(key) < 19):
        raise InvalidBody("cursor is none of this list: take that of the last item you received", "cursor")
    return None if key is None else int(key)
