"""/events: what happened that somebody may want to be told."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from oneoff.api.answers import answer
from oneoff.api.cron_answers import to_event
from oneoff.api.cron_shapes import EventShape
from oneoff.api.requests import Cursor, Limit, context_of, read_cursor, to_page
from oneoff.api.shapes import Page
from oneoff.operations import events
from oneoff.operations.events import EventFilter

router = APIRouter(tags=["events"])
Word = Annotated[str | None, Query(max_length=40, pattern=r"^[^\x00]*$")]


@router.get("/events", response_model=Page[EventShape])
async def list_events(
    request: Request, limit: Limit = 50, cursor: Cursor = None, kind: Word = None, subject: Word = None
) -> Response:
    """Events, newest first: of a kind such as `cron.overdue`, about one cron or another subject, or all."""
    wanted = EventFilter(kind, subject)
    listed = await events.list_events(context_of(request), wanted, limit + 1, read_cursor(cursor, "event"))
    return answer(to_page([to_event(each) for each in listed], limit))
