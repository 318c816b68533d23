"""A started run until its container has ended: output, time limit, stop requests. Called by the executor."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import Any

from oneoff import journal
from oneoff.core.outcome import Exit
from oneoff.core.run import Run
from oneoff.drivers.driver import Handle, LogPosition
from oneoff.engine.context import Context
from oneoff.engine.events import record
from oneoff.engine.spec import deadline_of
from oneoff.errors import EngineUnavailable
from oneoff.logs.folder import log_folder
from oneoff.logs.writer import LogWriter
from oneoff.store import runs
from oneoff.store.database import Connection

TIME_LIMIT_NEAR = "run.time_limit_near"
_FRESH_SECONDS = 1.0  # an attachment later than that after the start is not the first one
_LOOK_AGAIN_SECONDS = 5.0  # hints get lost, and another server may have taken the request to stop
# Behind the exit: an engine may hold the log open longer than the container lives, and Podman's is read once more from
# its beginning, without news for as long as that takes.
_SILENCE_SECONDS = 30.0


class Watch:
    """One attachment to a running or ended container. A new one is made after the engine was away."""

    def __init__(self, context: Context, run: Run, handle: Handle) -> None:
        self._context = context
        self._run = run
        self._handle = handle
        self._stop_sent = False
        gone = (context.clock.now() - (run.started_at or context.clock.now())).total_seconds()
        self._started = context.clock.monotonic() - max(0.0, gone)
        self._tasks: list[asyncio.Task[Any]] = []

        # An extension may have been committed by a server that died before it told the driver.
        self._told_limit = None if gone > _FRESH_SECONDS else run.timeout_seconds

        self.facts: Exit | None = None  # once they are known, whatever becomes of the output
        self.note: str | None = None  # what is not as it should be with the output
        self._heard_at = 0.0  # the last output, on the event loop's clock

    async def until_exit(self) -> Exit:
        """Facts of the end, once all output is stored. Raises what the driver raises."""
        keeps_log = self._context.driver.capabilities().keeps_log
        exited = self._spawn(self._context.driver.wait(self._handle))
        output = None if keeps_log else self._spawn(self._store_output())
        try:
            with self._context.signals.watch(self._run.id) as changed:
                await self._until_done(exited, output, changed)
            self.facts = exited.result()
            if output is not None:
                await self._rest_of_output(output)
            return self.facts
        finally:
            for task in self._tasks:
                task.cancel()

    async def _until_done(
        self, exited: asyncio.Task[Any], output: asyncio.Task[Any] | None, changed: asyncio.Event
    ) -> None:
        run = self._run
        while not exited.done():
            if run.stop_kind is None:
                run = await self._keep_time(run)
            if run.stop_kind is not None and not self._stop_sent:
                self._stop_sent = True
                self._spawn(self._send_stop(run.grace_seconds))
            await self._look_up(exited, output, changed, self._seconds_to_next(run))
            if output is not None and output.done() and not exited.done():
                output.result()  # the engine went away in the middle: raises, and the executor attaches again
                output = None  # mostly the exit follows at once
            elif not exited.done():
                changed.clear()
                run = await self._context.database.read(self._reread)

    async def _look_up(
        self,
        exited: asyncio.Task[Any],
        output: asyncio.Task[Any] | None,
        changed: asyncio.Event,
        seconds_left: float,
    ) -> None:
        """Sleep until something happens: the end, a change of the row, the time limit."""
        pause = _LOOK_AGAIN_SECONDS if seconds_left <= 0 else min(seconds_left, _LOOK_AGAIN_SECONDS)
        timers = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(self._context.clock.sleep(pause))]
        sources = [exited, *timers] if output is None else [exited, output, *timers]
        try:
            await asyncio.wait(sources, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for timer in timers:
                timer.cancel()

    async def _keep_time(self, run: Run) -> Run:
        """The row as it is after what is due: its end, the warning before, a deadline to move."""
        if self._seconds_left(run) <= 0:
            return await self._time_is_over(run)
        if self._seconds_to_warning(run) <= 0:
            run = await self._warn(run)
        if run.timeout_seconds != self._told_limit and self._context.driver.capabilities().enforces_deadline:
            self._told_limit = run.timeout_seconds
            self._spawn(self._move_deadline(run))
        return run

    def _seconds_left(self, run: Run) -> float:
        """By the monotonic clock, so that a wall clock set forward ends nothing but what must end by a time of day."""
        left = self._started + run.timeout_seconds - self._context.clock.monotonic()
        if run.must_end_at is None:
            return left
        return min(left, (run.must_end_at - self._context.clock.now()).total_seconds())

    def _seconds_to_warning(self, run: Run) -> float:
        if run.warn_seconds is None or run.warned_at is not None or run.stop_kind is not None:
            return math.inf
        return self._seconds_left(run) - run.warn_seconds

    def _seconds_to_next(self, run: Run) -> float:
        return min(self._seconds_left(run), self._seconds_to_warning(run))

    async def _warn(self, run: Run) -> Run:
        context, now = self._context, self._context.clock.now()
        left = {"seconds_left": round(self._seconds_left(run)), "service": run.service}

        def work(connection: Connection) -> Run:
            if runs.warn_if_leased(connection, run.id, context.lease, now):
                record(context, connection, TIME_LIMIT_NEAR, run.id, left, run.service_id)
            return runs.get_run(connection, run.id)

        warned = await context.database.run(work)
        journal.warning("time limit near", run=run.id, seconds_left=left["seconds_left"])
        context.signals.run_changed(run.id)
        return warned

    async def _move_deadline(self, run: Run) -> None:
        try:
            await self._context.driver.extend(
                self._handle, deadline_of(run, run.started_at or self._context.clock.now())
            )
        except EngineUnavailable as problem:
            journal.warning("deadline not moved, trying again", run=run.id, error=str(problem))
            self._told_limit = None

    def _reread(self, connection: Connection) -> Run:
        return runs.get_run(connection, self._run.id)

    async def _time_is_over(self, run: Run) -> Run:
        """Commit who ends it before any signal is sent; not if it was extended since it was read."""
        now = self._context.clock.now()

        def work(connection: Connection) -> Run:
            runs.time_out(connection, run.id, run.timeout_seconds, now)
            return runs.get_run(connection, run.id)

        return await self._context.database.run(work)

    async def _send_stop(self, grace_seconds: float) -> None:
        try:
            await self._context.driver.stop(self._handle, grace_seconds)
        except EngineUnavailable as problem:
            journal.warning("stop not sent, trying again", run=self._run.id, error=str(problem))
            self._stop_sent = False

    async def _store_output(self) -> None:
        """Append what the engine hands over, beginning behind what an earlier attachment stored."""
        folder = log_folder(self._context.settings.logs_dir, self._run.id)
        writer = LogWriter(folder, self._context.settings.log_cap_bytes)
        loop = asyncio.get_running_loop()
        try:
            position = LogPosition(writer.stdout_bytes, writer.stderr_bytes)
            async for chunk in self._context.driver.logs(self._handle, position):
                writer.append(chunk.stream, int(chunk.time.timestamp() * 1_000_000), chunk.data)
                self._heard_at = loop.time()
        finally:
            writer.close()

    async def _rest_of_output(self, output: asyncio.Task[Any]) -> None:
        """As long as there is some: a large log may take minutes."""
        loop = asyncio.get_running_loop()
        ended_at = loop.time()
        while (left := max(ended_at, self._heard_at) + _SILENCE_SECONDS - loop.time()) > 0:
            await asyncio.wait({output}, timeout=left)
            if output.done():
                output.result()  # raises when the engine went away in the middle
                return
        output.cancel()
        await asyncio.wait({output})
        journal.warning("the engine does not end the log", run=self._run.id)
        self.note = "the engine did not end its log: some output may be missing"

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task
