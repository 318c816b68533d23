"""How runs end: facts and the last byte of output are committed before the container goes. Called by the executor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from oneoff import journal, tracing
from oneoff.core.outcome import Exit, Outcome, StopKind, StopRequest, conclude
from oneoff.core.run import Reason, Run, RunStatus, container_name
from oneoff.drivers.driver import Handle
from oneoff.engine.context import Context
from oneoff.engine.retrying import end_if_leased
from oneoff.errors import CommandNotFound, DriverError
from oneoff.logs.folder import LogEnd, log_folder, read_end
from oneoff.logs.writer import LogWriter
from oneoff.store import runs
from oneoff.store.database import Connection
from oneoff.store.runs import End


class Ending:
    """One per executor. Each method commits one guarded transition to a final status; a stale one changes nothing."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def exited(self, run: Run, handle: Handle, facts: Exit, message: str | None = None) -> None:
        """Its container has ended and all its output is stored, or `message` says why not."""
        with tracing.step("end", run):
            counts = await self._finish_log(run)

            def end(connection: Connection) -> End:
                outcome = conclude(facts, _stop_request(runs.get_run(connection, run.id)))
                return End(outcome, facts.finished_at, facts.started_at, message, *_totals(counts))

            await self._commit(run, end)
            await self._remove(handle)

    async def failed(self, run: Run, reason: Reason, problem: DriverError) -> None:
        """It never started; `problem` is told to the user in its own words."""
        exit_code = getattr(problem, "exit_code", None)
        message = str(problem)
        if run.shell is not None and isinstance(problem, CommandNotFound):
            message += ": the image has no shell, so write the command as a list, after --"
        await self.ended(run, Outcome(RunStatus.FAILED, reason, exit_code), message)
        if run.engine_id is not None:
            name = run.container_name or container_name(self._context.instance, run.id)
            await self._remove(Handle(self._context.driver.name, self._context.facts.node, name, run.engine_id, run.id))

    async def ended(self, run: Run, outcome: Outcome, message: str | None = None) -> None:
        """It never started."""
        end = End(outcome, self._context.clock.now(), message=message)
        await self._commit(run, lambda _: end)

    async def lost(self, run: Run, handle: Handle | None, why: str) -> None:
        """It started, and nobody can know how it ended. Its end is the last moment it was seen."""
        counts = await self._finish_log(run)
        lost, now = Outcome(RunStatus.FAILED, Reason.LOST), self._context.clock.now()

        def end(connection: Connection) -> End:
            current = runs.get_run(connection, run.id)  # it was seen since the row in hand was read
            return End(lost, current.seen_at or current.started_at or now, None, why, *_totals(counts))

        await self._commit(run, end)
        if handle is not None:
            await self._remove(handle)

    async def _commit(self, run: Run, make_end: Callable[[Connection], End]) -> None:
        lease = self._context.lease

        def work(connection: Connection) -> tuple[End, bool]:
            end = make_end(connection)
            return end, end_if_leased(self._context, connection, run, lease, end)

        end, applied = await self._context.database.run(work)
        journal.info(
            "run ended" if applied else "end dropped as stale",
            run=run.id,
            status=end.outcome.status.value,
            reason=end.outcome.reason.value,
            exit_code=end.outcome.exit_code,
        )
        self._context.signals.ended.append(run.id)
        self._context.signals.run_changed(run.id)
        self._context.signals.batch_changed(run.batch_id)
        if run.retries is not None:
            self._context.signals.run_accepted()

    async def _finish_log(self, run: Run) -> LogEnd:
        folder = log_folder(self._context.settings.logs_dir, run.id)
        cap = self._context.settings.log_cap_bytes
        if (ended := read_end(folder)) is not None:
            return ended
        return await asyncio.to_thread(lambda: LogWriter(folder, cap).finish())

    async def _remove(self, handle: Handle) -> None:
        """What cannot be removed now is the janitor's."""
        try:
            await self._context.driver.remove(handle)
        except DriverError as problem:
            journal.warning("left to the janitor", run=handle.run_id, error=str(problem))


def _stop_request(run: Run) -> StopRequest | None:
    if run.stop_kind is None or run.stop_at is None:
        return None
    return StopRequest(StopKind(run.stop_kind), run.stop_at)


def _totals(end: LogEnd) -> tuple[int, int, int]:
    return end.stdout_bytes, end.stderr_bytes, end.missing_bytes
