"""A run's log: a page of it, all of it, or followed live with the run's status to the end. Used by the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import suppress
from dataclasses import dataclass

from oneoff.core.run import Run, RunStatus
from oneoff.engine.spec import open_secret_values
from oneoff.logs.cursor import LogCursor
from oneoff.logs.folder import log_folder
from oneoff.logs.record import LogRecord as LogRecord
from oneoff.operations.context import Context
from oneoff.operations.ids import check_id
from oneoff.operations.runs import RunView, view_run
from oneoff.store import runs
from oneoff.store.dialect import Connection

_SHORTEST_DELAY = 0.01
_LONGEST_DELAY = 0.2
_STATUS_SECONDS = 1.0  # how long a change made by another server may go unseen
_HELD_SECONDS = 1.0  # how long the possible beginning of a secret waits for its rest
_QUIET_SECONDS = 15.0
_UNSTARTED = (RunStatus.QUEUED, RunStatus.STARTING)  # there is no output yet


@dataclass(frozen=True, slots=True)
class Page:
    """`next_after` is where the next page begins; `ended`: there will be none."""

    records: list[LogRecord]
    next_after: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Output:
    records: list[LogRecord]


@dataclass(frozen=True, slots=True)
class Changed:
    """The status, or what the run waits for, is another one now."""

    view: RunView


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event: the run is final and all of its log was given."""

    view: RunView


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing happened for a while."""


Event = Output | Changed | Ended | Quiet


async def read_page(context: Context, run_id: str, after: int, streams: Collection[str]) -> Page:
    """About 256 kB of what is there now. Raises NotFound."""
    run, cursor = await _open(context, run_id, after, streams)
    try:
        records = await asyncio.to_thread(_read_some, cursor)
        ended = not records and run.status.is_final
        if ended:
            records = cursor.flush()
        return Page(records, cursor.position, ended)
    finally:
        cursor.close()


async def read_all(context: Context, run_id: str, after: int, streams: Collection[str]) -> AsyncIterator[bytes]:
    """The bytes that are there now, piece by piece. Raises NotFound before the first."""
    _, cursor = await _open(context, run_id, after, streams)
    try:
        more = True
        while more and not context.signals.stopping.is_set():
            records, more = await asyncio.to_thread(cursor.read)
            yield b"".join(record.data for record in records)
        yield b"".join(record.data for record in cursor.flush())
    finally:
        cursor.close()


async def follow(context: Context, run_id: str, after: int, streams: Collection[str]) -> AsyncGenerator[Event, None]:
    """Live, until the run is final and everything was given: `Ended` is the last event then. Without it the server is
    stopping, and the caller comes back with the last position. Raises NotFound before the first event.

    Nothing is read ahead of the caller: a slow one costs no memory.
    """
    _, cursor = await _open(context, run_id, after, streams)
    follower = _Follower(context, run_id, cursor)
    try:
        with context.signals.watch(run_id) as changed:
            async for event in follower.events(changed):
                yield event
    finally:
        cursor.close()


class _Follower:
    def __init__(self, context: Context, run_id: str, cursor: LogCursor) -> None:
        self._context = context
        self._run_id = run_id
        self._cursor = cursor
        self._view: RunView | None = None
        self._looked_at = self._heard_at = float("-inf")

    async def events(self, changed: asyncio.Event) -> AsyncIterator[Event]:
        clock, stopping = self._context.clock, self._context.signals.stopping
        delay = _SHORTEST_DELAY
        self._heard_at = said_at = clock.monotonic()
        while not stopping.is_set():
            view, is_news = await self._look(changed)
            if is_news:
                yield Changed(view)
            is_unstarted = view.run.status in _UNSTARTED
            records, has_more = ([], False) if is_unstarted else await self._read(view)
            if records:
                yield Output(records)
            if is_news or records:
                said_at = clock.monotonic()
            if has_more:
                delay = _SHORTEST_DELAY
                continue
            # The status was looked at before the log: what a final run wrote lies in the log by then.
            if view.run.status.is_final:
                yield Ended(view)
                return
            if clock.monotonic() - said_at >= _QUIET_SECONDS:
                said_at = clock.monotonic()
                yield Quiet()
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), _STATUS_SECONDS if is_unstarted else delay)
            delay = _SHORTEST_DELAY if is_unstarted else min(_LONGEST_DELAY, delay * 1.5)

    async def _look(self, changed: asyncio.Event) -> tuple[RunView, bool]:
        """The run, from the store when it changed or was not looked at for a while; and whether it tells news."""
        now = self._context.clock.monotonic()
        if self._view is not None and not changed.is_set() and now - self._looked_at < _STATUS_SECONDS:
            return self._view, False
        changed.clear()
        view = await view_run(self._context, self._run_id)
        before, self._view, self._looked_at = self._view, view, now
        return view, before is None or _told(before) != _told(view)

    async def _read(self, view: RunView) -> tuple[list[LogRecord], bool]:
        now = self._context.clock.monotonic()
        records, has_more = await asyncio.to_thread(self._cursor.read)
        if has_more:
            self._heard_at = now
        elif self._cursor.holds and (view.run.status.is_final or now - self._heard_at >= _HELD_SECONDS):
            return self._cursor.flush(), False
        return records, has_more


def _told(view: RunView) -> tuple[object, ...]:
    return (view.run.status, view.run.stop_kind, view.waiting_for, view.queue_position)


def _read_some(cursor: LogCursor) -> list[LogRecord]:
    """The first records that are of interest, or [] at the end of what is there."""
    more = True
    while more:
        records, more = cursor.read()
        if records:
            return records
    return []


async def _open(context: Context, run_id: str, after: int, streams: Collection[str]) -> tuple[Run, LogCursor]:
    check_id("run", run_id)

    def work(connection: Connection) -> tuple[Run, bytes]:
        return runs.get_run(connection, run_id), runs.fetch_sealed_variables(connection, run_id)

    run, box = await context.database.read(work)
    secrets = open_secret_values(context, run_id, box)
    return run, LogCursor(log_folder(context.settings.logs_dir, run_id), after, streams, secrets)
