"""Lines of runs as they come, of single runs and of all that a service has from now on. Used by the Render-compatible
API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Any

from oneoff.core.clock import from_us
from oneoff.core.run import Run
from oneoff.errors import WrongSecretKey
from oneoff.logs.folder import log_folder
from oneoff.operations import line_pages, logs
from oneoff.operations.context import Context
from oneoff.operations.line_pages import BOTH
from oneoff.operations.logs import Ended, Output
from oneoff.operations.runs import get_run
from oneoff.operations.timed_lines import Line, TimedLines, damage_line, get_marks

_LOOK_SECONDS = 1.0  # how long a new run of a service may go unseen; none of its lines is lost by it
_MOST_WAITING = 64
_AHEAD = timedelta(hours=1)


class Follower:
    """`run_ids` from `first_us` on, and whatever runs the services have. Ends when the server does: the caller comes
    back with the time of the last line."""

    def __init__(self, context: Context, run_ids: Sequence[str], service_ids: Sequence[str], first_us: int) -> None:
        self._context = context
        self._run_ids = run_ids
        self._service_ids = service_ids
        self._first_us = first_us
        self._lines: asyncio.Queue[list[Line]] = asyncio.Queue(_MOST_WAITING)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def follow(self) -> AsyncGenerator[list[Line], None]:
        stopping = asyncio.create_task(self._context.signals.stopping.wait())
        looking = self._start(self._look())
        coming: asyncio.Task[list[Line]] = asyncio.create_task(self._lines.get())
        try:
            while True:
                done, _ = await asyncio.wait((coming, stopping, self._failed), return_when=asyncio.FIRST_COMPLETED)
                if coming not in done:
                    if self._failed in done:
                        self._failed.result()
                    return
                lines, coming = coming.result(), asyncio.create_task(self._lines.get())
                yield lines
        finally:
            self._failed.cancel()
            await _end([stopping, looking, coming, *self._tasks.values()])

    async def _look(self) -> None:
        """Begin to follow what is not followed yet, for ever."""
        for run_id in self._run_ids:
            self._begin(await get_run(self._context, run_id))
        since = from_us(self._first_us)
        while True:
            now = self._context.clock.now()
            found = [
                run
                for service_id in self._service_ids
                for run in await line_pages.list_runs_within(self._context, service_id, since, now + _AHEAD)
            ]
            self._forget_ended({run.id for run in found})
            for run in found:
                self._begin(run)
            since = max(since, now)
            await asyncio.sleep(_LOOK_SECONDS)

    def _begin(self, run: Run) -> None:
        if run.id not in self._tasks:
            self._tasks[run.id] = self._start(self._follow_run(run))

    def _forget_ended(self, still_listed: set[str]) -> None:
        keep = still_listed | set(self._run_ids)
        for run_id in [each for each, task in self._tasks.items() if task.done() and each not in keep]:
            del self._tasks[run_id]

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """What fails ends all of it: a line that is missing silently would be worse."""

        async def watched() -> None:
            try:
                await work
            except Exception as problem:
                if self._failed.done():
                    raise
                self._failed.set_exception(problem)

        return asyncio.create_task(watched())

    async def _follow_run(self, run: Run) -> None:
        try:
            await self._follow_lines(run)
        except WrongSecretKey as problem:
            line = damage_line(run, problem)
            await self._give([replace(line, time_us=max(line.time_us, self._first_us))])

    async def _follow_lines(self, run: Run) -> None:
        folder = log_folder(self._context.settings.logs_dir, run.id)
        marks = await asyncio.to_thread(get_marks, self._context.instance, run.id, folder)
        timed = TimedLines(run, marks, marks.before(self._first_us))
        async with aclosing(logs.follow(self._context, run.id, timed.position, BOTH)) as events:
            async for event in events:
                if isinstance(event, Output):
                    await self._give(timed.feed(event.records))
                elif isinstance(event, Ended):
                    timed.run = event.view.run
                    await self._give(timed.flush())

    async def _give(self, lines: list[Line]) -> None:
        if wanted := [line for line in lines if line.time_us >= self._first_us]:
            await self._lines.put(wanted)


async def _end(tasks: Sequence[asyncio.Task[object]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
