"""Pauses of all crons of an environment or of the workspace. Used by the API."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from oneoff.engine.events import record_pause
from oneoff.engine.ledger import settle_all
from oneoff.operations.context import Context
from oneoff.operations.ids import check_id
from oneoff.store import crons
from oneoff.store.crons import CronFilter
from oneoff.store.dialect import Connection


async def pause_environment(context: Context, environment_id: str, paused: bool) -> bool:
    """Its crons do not fire while it is paused, whatever each of them says. Raises NotFound. Returns `paused`."""
    check_id("environment", environment_id)

    def work(connection: Connection) -> None:
        if crons.is_environment_paused(connection, environment_id) is not paused:
            settle_within(context, connection, CronFilter(environment_id=environment_id), paused)
            crons.pause_environment(connection, environment_id, paused)
            record_pause(context, connection, ("environment", environment_id), paused, None)

    return await _pause(context, work, paused)


async def pause_workspace(context: Context, paused: bool) -> bool:
    """No cron fires while it is paused. Returns `paused`."""

    def work(connection: Connection) -> None:
        if crons.is_workspace_paused(connection, context.workspace_id) is not paused:
            settle_within(context, connection, CronFilter(), paused)
            crons.pause_workspace(connection, context.workspace_id, paused)
            record_pause(context, connection, ("workspace", context.workspace_id), paused, None)

    return await _pause(context, work, paused)


def settle_within(context: Context, connection: Connection, affected: CronFilter, closing: bool) -> None:
    """What was due before this moment enters the ledger as it stood until now, so that the change counts from now on
    only. For pauses, and for services that are suspended or resumed."""
    now: datetime = context.clock.now()
    due = crons.fetch_due_within(connection, affected, context.workspace_id, now)
    settle_all(
        context, connection, due, now, "closed before they could fire" if closing else "closed when they were due"
    )


async def _pause(context: Context, work: Callable[[Connection], None], paused: bool) -> bool:
    await context.database.run(work)
    context.signals.crons_changed()
    return paused
