"""/runs/{id}/logs as a page or as raw bytes, and /runs/{id}/logs/stream, live (server-sent events)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response, StreamingResponse

from oneoff.api.answers import answer, to_json, to_log_record, to_run
from oneoff.api.door import API
from oneoff.api.requests import context_of
from oneoff.api.shapes import LogPage
from oneoff.operations import logs, runs
from oneoff.operations.logs import Changed, Ended, Event, Output, Quiet

router = APIRouter(prefix=API, tags=["logs"])

_BOTH = ("stdout", "stderr")
_UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_After = Annotated[int, Query(ge=0, le=1 << 62, description="A position: what lies behind it is given.")]
_Stream = Annotated[Literal["stdout", "stderr"] | None, Query(description="This stream only.")]
_TEXT: dict[str, Any] = {
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    "description": "A page of records, or with `format=text` all there is, as raw bytes.",
}
_EVENTS: dict[str, Any] = {
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
    "description": "`log` events with a record each, `status` events with the Run, and `end` with the ended Run.",
}


@router.get("/runs/{run_id}/logs", response_model=LogPage, responses={200: _TEXT})
async def get_logs(
    run_id: str,
    request: Request,
    after: _After = 0,
    stream: _Stream = None,
    format: Literal["json", "text"] = "json",  # noqa: A002 - its name in the API
) -> Response:
    """What is stored of a run's output: a page of records, or all of it as raw bytes."""
    context = context_of(request)
    streams = (stream,) if stream else _BOTH
    if format == "json":
        page = await logs.read_page(context, run_id, after, streams)
        items = [to_log_record(record) for record in page.records]
        return answer({"items": items, "next_after": page.next_after, "ended": page.ended})
    await runs.get_run(context, run_id)
    pieces = logs.read_all(context, run_id, after, streams)
    return StreamingResponse(pieces, media_type="application/octet-stream", headers=_UNBUFFERED)


@router.get("/runs/{run_id}/logs/stream", response_class=StreamingResponse, responses={200: _EVENTS})
async def stream_logs(
    run_id: str,
    request: Request,
    after: _After = 0,
    stream: _Stream = None,
    last_event_id: Annotated[
        str | None, Header(description="The position to go on from after a lost connection; goes before `after`.")
    ] = None,
) -> Response:
    """The output as it comes, after what is stored already, until the run has ended. The `id` of an event is its
    position. A stream that stops without `end` is taken up again with the last one."""
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit():
        after = min(int(last_event_id[:19]), 1 << 62)
    events = logs.follow(context_of(request), run_id, after, (stream,) if stream else _BOTH)
    # The first one comes at once, or the run is unknown: then this is no stream at all.
    first = await anext(events, Quiet())
    return StreamingResponse(_to_stream(first, events), media_type="text/event-stream", headers=_UNBUFFERED)


async def _to_stream(first: Event, events: AsyncGenerator[Event, None]) -> AsyncIterator[bytes]:
    async with aclosing(events):
        yield _to_text(first)
        async for event in events:
            yield _to_text(event)


def _to_text(event: Event) -> bytes:
    if isinstance(event, Output):
        return b"".join(
            b"event: log\nid: %d\ndata: %b\n\n" % (record.position, to_json(to_log_record(record)))
            for record in event.records
        )
    if isinstance(event, Changed):
        return b"event: status\ndata: %b\n\n" % to_json(to_run(event.view))
    if isinstance(event, Ended):
        return b"event: end\ndata: %b\n\n" % to_json(to_run(event.view))
    return b": still here\n\n"
