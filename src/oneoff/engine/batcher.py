"""Keeps batches going: when items end, the next ones enter the queue. The rows are its only memory; two of them on one
database share the work, and none runs an item twice."""

from __future__ import annotations

import asyncio
from functools import partial

from oneoff import journal
from oneoff.engine.batching import MakeRuns, advance, tell
from oneoff.engine.context import Context
from oneoff.errors import NotFound, StoreUnavailable
from oneoff.store import batches

_LOOK_AGAIN_SECONDS = 2.0  # hints get lost, and another server's runs give none here
_PUT_OFF_SECONDS = 60.0


class Batcher:
    name = "batcher"

    def __init__(self, context: Context, make_runs: MakeRuns) -> None:
        self.wake = context.signals.batches
        self._context = context
        self._make_runs = make_runs
        self._looked_at = float("-inf")
        self._put_off: dict[str, float] = {}  # batches that cannot go on -> until when, by the monotonic clock
        self._is_disk_full = False

    async def tick(self) -> float:
        signals, now = self._context.signals, self._context.clock.monotonic()
        hinted, signals.changed_batches = signals.changed_batches, set()
        if not hinted or now - self._looked_at >= _LOOK_AGAIN_SECONDS:
            self._looked_at = now
            hinted |= set(await self._context.database.read(batches.list_unfinished))
        due = [batch_id for batch_id in hinted if self._put_off.get(batch_id, now) <= now]
        await asyncio.gather(*(self._advance(batch_id) for batch_id in due))
        return _LOOK_AGAIN_SECONDS

    async def _advance(self, batch_id: str) -> None:
        context = self._context
        try:
            done = await context.database.run(partial(advance, context, batch_id=batch_id, make_runs=self._make_runs))
        except (StoreUnavailable, NotFound):
            return  # looked at again, where it is still there
        except Exception as problem:  # noqa: BLE001 - one bad row must not keep the others from going on
            journal.error("batch does not go on", problem, batch=batch_id)
            self._put_off[batch_id] = context.clock.monotonic() + _PUT_OFF_SECONDS
            return
        self._put_off.pop(batch_id, None)
        if done.disk_full is not None and not self._is_disk_full:
            journal.warning("batches wait", batch=batch_id, error=str(done.disk_full))
        self._is_disk_full = done.disk_full is not None
        if done.has_ended:
            journal.info("batch ended", batch=batch_id, status=done.batch.status.value)
        tell(context, done)
