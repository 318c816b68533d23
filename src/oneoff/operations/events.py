"""Events, as a list. Used by the API."""

from __future__ import annotations

from oneoff.operations.context import Context
from oneoff.store import events
from oneoff.store.events import Event as Event
from oneoff.store.events import EventFilter as EventFilter


async def list_events(context: Context, wanted: EventFilter, limit: int, before: str | None) -> list[Event]:
    """Newest first."""
    return await context.database.read(lambda c: events.list_events(c, context.workspace_id, wanted, limit, before))
