"""What of logs was not sent yet when they go. Called by whoever drops runs from the history."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime

from oneoff import journal
from oneoff.core.log_origin import LogOrigin
from oneoff.engine.context import Context
from oneoff.engine.log_source import LogSource
from oneoff.logs.folder import log_folder
from oneoff.store import log_positions
from oneoff.store.log_positions import LogRun, Progress

_LONG_AGO = datetime.fromtimestamp(0, UTC)


async def count_unsent_lines(context: Context, run_ids: Collection[str]) -> dict[str, int]:
    """Of these ended runs, as far as a log stream waits for lines of them. To be handed to `store.log_positions.drop`
    in the transaction that drops the runs: then the stream is told how many lines it misses."""
    if not context.signals.is_forwarding:
        return {}
    waiting = await context.database.read(lambda c: log_positions.find_unsent(c, run_ids))
    return {
        run_id: count
        for run_id, progress in waiting.items()
        if (count := await asyncio.to_thread(_count, context, run_id, progress))
    }


def _count(context: Context, run_id: str, progress: Progress) -> int:
    origin = LogOrigin(run_id, "", "", None, 1, "")
    run = LogRun(origin, progress, _LONG_AGO, is_final=True, is_new=False)
    source = LogSource(log_folder(context.settings.logs_dir, run_id), run, [])
    try:
        notice = source.skip()
        return 0 if notice is None else notice.dropped
    except Exception as problem:  # noqa: BLE001 - a log that is damaged must not stay for ever
        journal.error("unsent lines not counted", problem, run=run_id)
        return 0
    finally:
        source.close()
