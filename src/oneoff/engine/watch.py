"""A started run until its container has ended: output, time limit, stop requests. Called by the executor."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from oneoff import journal
from oneoff.core.outcome import Exit, StopKind
from oneoff.core.run import Run
from oneoff.drivers.driver import Handle, LogPosition
from oneoff.engine.context import Context
from oneoff.errors import EngineUnavailable
from oneoff.logs.folder import log_folder
from oneoff.logs.writer import LogWriter
from oneoff.store import runs
from oneoff.store.database import Connection

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
            changed.clear()
            if run.stop_kind is None and self._seconds_left(run) <= 0:
                run = await self._time_is_over(run)
            if run.stop_kind is not None and not self._stop_sent:
                self._stop_sent = True
                self._spawn(self._send_stop(run.grace_seconds))
            await self._look_up(exited, output, changed, self._seconds_left(run))
            if output is not None and output.done() and not exited.done():
                output.result()  # the engine went away in the middle: raises, and the executor attaches again
                output = None
            if not exited.done():
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

    def _seconds_left(self, run: Run) -> float:
        """By the monotonic clock, so that a wall clock set forward ends nothing."""
        return self._started + run.timeout_seconds - self._context.clock.monotonic()

    def _reread(self, connection: Connection) -> Run:
        return runs.get_run(connection, self._run.id)

    async def _time_is_over(self, run: Run) -> Run:
        """Commit who ends it before any signal is sent."""
        now = self._context.clock.now()

        def work(connection: Connection) -> Run:
            runs.request_stop(connection, run.id, StopKind.TIMEOUT, None, now)
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
