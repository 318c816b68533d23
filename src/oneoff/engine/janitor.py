"""Cleans up: containers of runs that have ended, logs to compress, images nobody needs, what is old of keys, ticks,
events and batches."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

from oneoff import journal
from oneoff.core.run import FINAL
from oneoff.engine.context import Context
from oneoff.engine.dispatcher import Dispatcher
from oneoff.errors import DriverError
from oneoff.logs.archive import compress_log
from oneoff.logs.folder import END, log_folder, part_paths
from oneoff.store import batches, crons, deliveries, deploys, events, idempotency, runs, ticks, webhooks
from oneoff.store.database import Connection

_LOOK_AGAIN_SECONDS = 60.0
_LEDGERS_AT_ONCE = 200
_EVENTS_AT_ONCE = 1000
_BATCHES_AT_ONCE = 20
_IDEMPOTENCY_KEPT = timedelta(hours=24)


class Janitor:
    """Each kind of dirt by itself: trouble with one leaves the others to be cleaned."""

    name = "janitor"

    def __init__(self, context: Context, dispatcher: Dispatcher) -> None:
        self.wake = asyncio.Event()
        self._context = context
        self._dispatcher = dispatcher
        self._logs_dir = context.settings.logs_dir
        self._walked = False
        self._ticks_of = ""

    async def tick(self) -> float:
        cleaning = (self._remove_containers, self._drop_images, self._compress_logs)
        forgetting = (self._forget_keys, self._forget_ticks, self._forget_events, self._forget_batches)
        for clean in (*cleaning, *forgetting):
            try:
                await clean()
            except DriverError as problem:
                journal.warning("not cleaned", what=clean.__name__, error=str(problem))
        return _LOOK_AGAIN_SECONDS

    async def _remove_containers(self) -> None:
        """Those of ours whose run has ended or is not known. Runs are accepted before their containers are made, so a
        container is listed first and its run looked up then."""
        driver = self._context.driver
        handles = [h for h in await driver.list() if h.run_id not in self._dispatcher.going]
        ids = [handle.run_id for handle in handles]
        statuses = await self._context.database.read(lambda c: runs.fetch_statuses(c, ids))
        for handle in handles:
            status = statuses.get(handle.run_id)
            if status is None or status in FINAL:
                journal.info("removing a left container", run=handle.run_id)
                await driver.remove(handle)

    async def _drop_images(self) -> None:
        live = await self._context.database.read(deploys.fetch_live_digests)
        needed = await self._context.database.read(runs.fetch_needed_digests)
        needed |= await self._context.database.read(batches.fetch_needed_digests)
        budget = self._context.settings.image_budget_bytes
        for digest in await self._context.driver.drop_images(frozenset(live | needed), budget):
            journal.info("dropped an image", digest=digest)

    async def _compress_logs(self) -> None:
        """All of them once after the start, then those that ended since."""
        ended = self._context.signals.ended
        folders = [log_folder(self._logs_dir, ended.popleft()) for _ in range(len(ended))]
        walk, self._walked = not self._walked, True
        await asyncio.to_thread(_compress_each, _ended_logs(self._logs_dir) if walk else folders)

    async def _forget_ticks(self) -> None:
        """By the plan's limits of history, some crons' at a time, round and round."""
        now, after = self._context.clock.now(), self._ticks_of

        def work(connection: Connection) -> str:
            kept = self._context.plan(crons.find_plan(connection, self._context.workspace_id)).retention
            cron_id = after
            for _ in range(_LEDGERS_AT_ONCE):
                if (found := ticks.find_cron_after(connection, cron_id)) is None:
                    return ""
                cron_id = found
                ticks.forget_old(connection, cron_id, kept.most_runs, now - timedelta(days=kept.days))
            return cron_id

        self._ticks_of = await self._context.database.run(work)

    async def _forget_events(self) -> None:
        """By age, some at a time: others write between two. None that a webhook has not looked at."""
        before = self._context.clock.now() - timedelta(seconds=self._context.settings.events_kept_seconds)

        def work(connection: Connection) -> int:
            read_up_to = webhooks.find_first_position(connection)
            gone = events.forget_old(connection, before, read_up_to, _EVENTS_AT_ONCE)
            return gone + deliveries.forget_old(connection, before, _EVENTS_AT_ONCE)

        while await self._context.database.run(work):
            pass

    async def _forget_batches(self) -> None:
        """With the list of their items, by age; their runs have a history of their own."""
        now = self._context.clock.now()

        def work(connection: Connection) -> int:
            kept = self._context.plan(crons.find_plan(connection, self._context.workspace_id)).retention
            before = now - timedelta(days=kept.days)
            return batches.forget_ended_before(connection, before, _BATCHES_AT_ONCE)

        await self._context.database.run(work)

    async def _forget_keys(self) -> None:
        before = self._context.clock.now() - _IDEMPOTENCY_KEPT
        await self._context.database.run(lambda c: idempotency.forget_before(c, before))


def _compress_each(folders: Iterable[Path]) -> None:
    for folder in folders:
        try:
            compress_log(folder)
        except OSError as problem:  # a full disk, for example; the log stays as it is
            journal.warning("not compressed", run=folder.name, error=str(problem))


def _ended_logs(root: Path) -> Iterator[Path]:
    """Ended and not yet compressed, or killed while the parts were removed."""
    for shelf in root.glob("*"):
        for folder in shelf.glob("*"):
            if (folder / END).exists() and part_paths(folder):
                yield folder
