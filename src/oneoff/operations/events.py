"""Events: listed either way, looked at, followed live. Used by the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from oneoff.operations.context import Context
from oneoff.operations.ids import check_id
from oneoff.store import events
from oneoff.store.events import Event as Event
from oneoff.store.events import EventFilter as EventFilter

_AT_ONCE = 100
_LOOK_AGAIN_SECONDS = 2.0  # how long an event of another server on the same database may go unseen
_QUIET_SECONDS = 15.0


async def list_events(context: Context, wanted: EventFilter, limit: int, before: int | None) -> list[Event]:
    """Newest first; `before` is the `seq` of the last event of the page before."""
    return await context.database.read(lambda c: events.list_events(c, context.workspace_id, wanted, limit, before))


async def list_after(context: Context, wanted: EventFilter, limit: int, after: int) -> list[Event]:
    """In the order in which they happened, behind the event with that `seq`."""
    return await context.database.read(lambda c: events.list_after(c, context.workspace_id, wanted, limit, after))


async def get_event(context: Context, event_id: str) -> Event:
    """Raises NotFound."""
    check_id("event", event_id)
    return await context.database.read(lambda c: events.get_event(c, context.workspace_id, event_id))


async def find_last_seq(context: Context) -> int:
    """Behind it lies what will happen from now on."""
    return await context.database.read(events.find_last_seq)


async def follow(context: Context, wanted: EventFilter, after: int) -> AsyncGenerator[list[Event], None]:
    """What is there behind `after` and what comes, some at a time; an empty list when nothing came for a while. It ends
    when the server is stopping: the caller comes back with the last `seq`.

    Nothing is read ahead of the caller: a slow one costs no memory, and holds up nobody.
    """
    clock, signals = context.clock, context.signals
    said_at = clock.monotonic()
    while not signals.stopping.is_set():
        coming = signals.events_come
        found = await list_after(context, wanted, _AT_ONCE, after)
        if found:
            after = found[-1].seq
        if found or clock.monotonic() - said_at >= _QUIET_SECONDS:
            said_at = clock.monotonic()
            yield found
            continue
        with suppress(TimeoutError):
            await asyncio.wait_for(coming.wait(), _LOOK_AGAIN_SECONDS)
