"""/events: what happened that somebody may want to be told, as a list either way and live (server-sent events)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response, StreamingResponse

from oneoff.api.answers import answer, to_json, to_time
from oneoff.api.door import API
from oneoff.api.event_shapes import EventShape
from oneoff.api.requests import Cursor, Limit, context_of, read_words_cursor, to_cursor
from oneoff.api.shapes import Page
from oneoff.core.events import expand_kinds
from oneoff.operations import events, runs
from oneoff.operations.context import Context
from oneoff.operations.events import Event, EventFilter

router = APIRouter(prefix=API, tags=["events"])

_UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_MOST_SEQ = 1 << 62
_CURSOR = re.compile(r"(?P<way>before|after) (?P<seq>[0-9]{1,18})")
_Kinds = Annotated[
    list[str] | None, Query(max_length=40, description="A kind such as `run.ended`, or `run.*`; may be repeated.")
]
_Subject = Annotated[
    str | None,
    Query(max_length=40, pattern=r"^[^\x00]*$", description="The id of the run, cron, deploy … it is about."),
]
_Service = Annotated[str | None, Query(max_length=200, description="Path or id of a service.")]
_STREAM: dict[str, Any] = {
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
    "description": "Each event under its kind, with the Event as data and its `seq` as id.",
}


@router.get("/events", response_model=Page[EventShape])
async def list_events(
    request: Request,
    limit: Limit = 50,
    cursor: Cursor = None,
    kind: _Kinds = None,
    subject: _Subject = None,
    service: _Service = None,
    after: Annotated[
        int | None, Query(ge=0, le=_MOST_SEQ, description="A `seq`: what happened behind it, oldest first.")
    ] = None,
) -> Response:
    """Events, newest first; with `after` in the order in which they happened. Nobody who asks again and again for what
    lies behind the last `seq` misses one."""
    context = context_of(request)
    wanted = await _read_filter(context, kind, subject, service)
    way, seq = _read_cursor(cursor)
    if way == "after" or (way is None and after is not None):
        listed = await events.list_after(context, wanted, limit + 1, seq if way else after or 0)
        return answer(_to_page(listed, limit, "after"))
    listed = await events.list_events(context, wanted, limit + 1, seq if way else None)
    return answer(_to_page(listed, limit, "before"))


@router.get("/events/stream", response_class=StreamingResponse, responses={200: _STREAM})
async def stream_events(
    request: Request,
    kind: _Kinds = None,
    subject: _Subject = None,
    service: _Service = None,
    after: Annotated[
        int | None, Query(ge=0, le=_MOST_SEQ, description="A `seq` to begin behind; else what happens from now on.")
    ] = None,
    last_event_id: Annotated[
        str | None, Header(description="The id to go on behind after a lost connection; goes before `after`.")
    ] = None,
) -> Response:
    """Events as they happen. A stream that stops is taken up again with the last `id`, and nothing is missed."""
    context = context_of(request)
    wanted = await _read_filter(context, kind, subject, service)
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit():
        after = min(int(last_event_id[:19]), _MOST_SEQ)
    if after is None:
        after = await events.find_last_seq(context)
    stream = _to_stream(context, wanted, after)
    return StreamingResponse(stream, media_type="text/event-stream", headers=_UNBUFFERED)


@router.get("/events/{event_id}", response_model=EventShape)
async def get_event(event_id: str, request: Request) -> Response:
    """One event. Old ones expire."""
    return answer(to_event(await events.get_event(context_of(request), event_id)))


def to_event(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "seq": event.seq,
        "kind": event.kind,
        "subject_id": event.subject_id,
        "service_id": event.service_id,
        "body": dict(event.body),
        "created_at": to_time(event.created_at),
    }


async def _to_stream(context: Context, wanted: EventFilter, after: int) -> AsyncIterator[bytes]:
    # Whoever loses the connection before the first event comes back with this.
    yield b": listening\nid: %d\n\n" % after
    async with aclosing(events.follow(context, wanted, after)) as followed:
        async for some in followed:
            if not some:
                yield b": still here\n\n"
                continue
            yield b"".join(
                b"event: %b\nid: %d\ndata: %b\n\n" % (each.kind.encode(), each.seq, to_json(to_event(each)))
                for each in some
            )


async def _read_filter(
    context: Context, kinds: list[str] | None, subject: str | None, service: str | None
) -> EventFilter:
    service_id = await runs.find_service_id(context, service)
    return EventFilter(None if not kinds else expand_kinds(kinds), subject, service_id)


def _read_cursor(cursor: str | None) -> tuple[str | None, int]:
    """Which way the list goes on that it is of, and behind which event."""
    match = read_words_cursor(cursor, _CURSOR)
    return (None, 0) if match is None else (match["way"], int(match["seq"]))


def _to_page(listed: list[Event], limit: int, way: str) -> dict[str, Any]:
    shown = listed[:limit]
    cursor = to_cursor(f"{way} {shown[-1].seq}") if len(listed) > limit else None
    return {"items": [to_event(each) for each in shown], "next_cursor": cursor}
