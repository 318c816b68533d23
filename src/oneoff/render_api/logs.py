"""/logs: a page of lines by time, the values of a label, and lines as they come on a websocket."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from enum import StrEnum

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from oneoff.core.clock import from_us, to_us
from oneoff.entrance.requests import context_of
from oneoff.errors import OneoffError
from oneoff.operations.line_following import Follower
from oneoff.operations.line_pages import LineQuery, read_lines
from oneoff.operations.timed_lines import Line
from oneoff.render_api.answers import answer, to_json, to_time
from oneoff.render_api.job_shapes import to_job_id
from oneoff.render_api.log_queries import (
    TYPE,
    Direction,
    get_direction,
    get_filter,
    get_period,
    get_resources,
    to_level,
    to_log,
)
from oneoff.render_api.problems import answer_error
from oneoff.render_api.queries import get_limit, get_text, get_time, read_word
from oneoff.render_api.routing import at

_GOING_AWAY = 1001
_MOST_LOOKED_AT = 10_000  # lines for the values of a label


class Label(StrEnum):
    INSTANCE = "instance"
    HOST = "host"
    STATUS_CODE = "statusCode"
    METHOD = "method"
    LEVEL = "level"
    TYPE = "type"


def routes() -> list[BaseRoute]:
    return [
        at("/logs", GET=list_logs),
        at("/logs/values", GET=list_values),
        WebSocketRoute("/logs/subscribe", subscribe),
    ]


async def list_logs(request: Request) -> Response:
    context, resources = context_of(request), await get_resources(request)
    period, direction, limit = get_period(request, resources), get_direction(request), get_limit(request)
    query = LineQuery(*period.us, direction is Direction.BACKWARD, limit, get_filter(request))
    found = await resources.find_runs(context, period.first, period.last)
    page = await read_lines(context, found, query)
    return answer(
        {
            "hasMore": page.has_more,
            "nextStartTime": to_time(from_us(page.next_first_us)),
            "nextEndTime": to_time(from_us(page.next_last_us)),
            "logs": [to_log(line, resources.label_of(line)) for line in page.lines],
        }
    )


async def list_values(request: Request) -> Response:
    """Of what was written in the time asked for, the last lines first."""
    label = read_word(get_text(request, "label") or "", "label", Label)
    context, resources = context_of(request), await get_resources(request)
    period, matches = get_period(request, resources), get_filter(request)
    if label in (Label.HOST, Label.STATUS_CODE, Label.METHOD):
        return answer([])
    found = await resources.find_runs(context, period.first, period.last)
    page = await read_lines(context, found, LineQuery(*period.us, True, _MOST_LOOKED_AT, matches))
    return answer(sorted({_to_value(line, label) for line in page.lines})[: get_limit(request)])


async def subscribe(socket: WebSocket) -> None:
    """One JSON message for each line, from `startTime` on: of jobs from their beginning, of services from now. Open
    until the client leaves or the server stops, which is told by the code for going away: come back then."""
    try:
        resources, matches = await get_resources(socket), get_filter(socket)
        now = context_of(socket).clock.now()
        first = get_time(socket, "startTime") or (now if resources.service_ids else resources.default_start(now))
    except OneoffError as problem:
        await socket.send_denial_response(answer_error(problem))
        return
    await socket.accept()
    run_ids = [run.id for run in resources.jobs]
    follower = Follower(context_of(socket), run_ids, resources.service_ids, to_us(first))

    async def send() -> None:
        async with aclosing(follower.follow()) as coming:
            async for lines in coming:
                for line in filter(matches, lines):
                    await socket.send_text(to_json(to_log(line, resources.label_of(line))).decode())
        await socket.close(_GOING_AWAY)

    sending, leaving = asyncio.create_task(send()), asyncio.create_task(_wait_until_left(socket))
    await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
    for task in (sending, leaving):
        task.cancel()
    results = await asyncio.gather(sending, leaving, return_exceptions=True)
    if isinstance(results[0], Exception) and not isinstance(results[0], WebSocketDisconnect):
        raise results[0]


def _to_value(line: Line, label: Label) -> str:
    if label is Label.LEVEL:
        return to_level(line)
    return TYPE if label is Label.TYPE else to_job_id(line.run.id)


async def _wait_until_left(socket: WebSocket) -> None:
    """What the client says meanwhile is of no interest."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
