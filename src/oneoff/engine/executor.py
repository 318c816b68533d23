"""One run, from its slot to its end. The dispatcher hands it new runs, the rescuer those of a server that is gone.

Every step is written so that the server may die behind it: see "Crash-only" in docs/architecture.md. The rows are the
only memory; `resume` begins again from what the row and the engine say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from oneoff import journal, metrics, tracing
from oneoff.core.outcome import Outcome
from oneoff.core.run import Reason, Run, RunStatus, container_name
from oneoff.drivers.driver import ContainerState, Handle, PreparedImage
from oneoff.engine.admission import NoRoom, check_group, check_plan
from oneoff.engine.census import count_slot, count_start
from oneoff.engine.context import Context
from oneoff.engine.ending import Ending
from oneoff.engine.events import record_started
from oneoff.engine.overdue import find_end
from oneoff.engine.patience import Patience
from oneoff.engine.retrying import end_if_leased
from oneoff.engine.spec import make_spec, prepare_image
from oneoff.engine.watch import Watch
from oneoff.errors import (
    AlreadyStarted,
    ContainerBusy,
    ContainerExists,
    ContainerGone,
    DriverError,
    EngineUnavailable,
    ExitUnknown,
    ImageUnavailable,
    StartFailed,
)
from oneoff.store import runs
from oneoff.store.database import Connection
from oneoff.store.runs import Placement, StartFacts

_LOG_PATIENCE_SECONDS = 30.0  # for the rest of the output of a run whose end is known
_AWAY = "the engine was away while it ran: some output may be missing"
_UNSEEN = "the engine was started anew after it ended: some output may be missing"

Started = tuple[Run, Handle]
Begin = Callable[[Run], Awaitable[Started | None]]
Record = Callable[[Context, Connection, Run], None]


class Stale(Exception):
    """Somebody else ended or took this run: drop it."""


class Executor:
    """Stateless but for its context: `execute` and `resume` may go for many runs at once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ending = Ending(context)

    async def execute(self, run_id: str, image: PreparedImage, is_tight: bool = False) -> None:
        """Start a queued run in a slot and see it to its end. `is_tight`: the plan has hardly room for it."""
        context = self._context
        name = container_name(context.instance, run_id)
        placement = Placement(context.facts.node, context.driver.name, name, context.lease)
        now = context.clock.now()

        def claim(connection: Connection) -> tuple[Run, StartFacts | None] | None:
            if not runs.start_if_queued(connection, run_id, placement, now):
                return None
            run = runs.get_run(connection, run_id)
            if (end := find_end(run, now)) is not None:
                end_if_leased(context, connection, run, context.lease, end)
                return run, None
            check_group(connection, run)
            if is_tight:
                check_plan(context, connection, run)
            return run, runs.fetch_start_facts(connection, run_id)

        try:
            claimed = await context.database.run(claim)
        except NoRoom:
            return
        context.signals.run_changed(run_id)
        if claimed is None:
            return
        run, facts = claimed
        if facts is None:
            context.signals.batch_changed(run.batch_id)
            return
        count_slot(run, now)
        await self._to_the_end(run, partial(self._create, facts=facts, image=image))

    async def resume(self, run: Run) -> None:
        """Go on with a starting or running run whose lease was just taken."""
        with journal.about(**run.ids):
            journal.info("resuming", status=run.status.value)
        metrics.RUNS_RESUMED.add()
        await self._to_the_end(run, self._recover)

    async def _to_the_end(self, run: Run, begin: Begin) -> None:
        with journal.about(**run.ids):
            try:
                if started := await self._begin(run, begin):
                    await self._supervise(*started)
            except Stale:
                journal.info("dropped, it is no longer ours")

    async def _begin(self, run: Run, begin: Begin) -> Started | None:
        """`begin` brings the container to run; what stays unclear then is decided by what the engine says."""
        patience = Patience(self._context)
        while True:
            try:
                async with asyncio.timeout(self._context.settings.start_timeout_seconds):
                    return await begin(run)
            except ImageUnavailable as problem:
                await self._ending.failed(run, Reason.IMAGE_UNAVAILABLE, problem)
                return None
            except StartFailed as problem:
                await self._ending.failed(await self._reload(run), Reason.START_FAILED, problem)
                return None
            except TimeoutError:
                return await self._give_up(await self._reload(run), "its start took too long")
            except (EngineUnavailable, ContainerGone, AlreadyStarted) as problem:
                # The call may have taken effect or not. Only the engine can tell.
                if not await patience.lasts(problem):
                    return await self._give_up(await self._reload(run), str(problem))
                run, begin = await self._reload(run), self._recover

    async def _create(
        self, run: Run, facts: StartFacts | None = None, image: PreparedImage | None = None
    ) -> Started | None:
        """Create, then commit the engine's own id."""
        context = self._context
        if facts is None:
            facts = await context.database.read(lambda c: runs.fetch_start_facts(c, run.id))
        if image is None:
            image = await prepare_image(context, run, facts)
        try:
            with tracing.step("create", run):
                handle = await context.driver.create(make_spec(context, run, facts, image))
        except ContainerExists:
            return await self._recover(await self._reload(run))
        return await self._adopt(run, handle)

    async def _adopt(self, run: Run, handle: Handle) -> Started | None:
        """Commit the engine's id, then start by it unless its end was asked for meanwhile."""
        run = await self._commit(run, partial(runs.save_engine_id_if_leased, engine_id=handle.engine_id))
        if run.stop_kind is not None:
            await self._ending.ended(run, Outcome(RunStatus.CANCELED, Reason.CANCELED))
            await self._context.driver.remove(handle)
            return None
        with tracing.step("start", run):
            await self._context.driver.start(handle)
        return await self._found_started(run, handle)

    async def _found_started(self, run: Run, handle: Handle) -> Started:
        """Commit that it runs."""
        if run.status is RunStatus.STARTING:
            now = self._context.clock.now()
            run = await self._commit(run, partial(runs.run_if_leased, at=now), record_started)
            count_start(run, now)
            self._context.signals.run_changed(run.id)
        return run, handle

    async def _recover(self, run: Run) -> Started | None:
        """The table of "Crash-only", rule 2."""
        driver = self._context.driver
        if run.engine_id is None:
            found = await driver.find(self._name(run))
            if found is None:
                return await self._create(run)
            if await driver.inspect(found) is ContainerState.CREATED:
                return await self._adopt(run, found)
            run = await self._commit(run, partial(runs.save_engine_id_if_leased, engine_id=found.engine_id))
            return await self._found_started(run, found)
        handle = self._handle(run, run.engine_id)
        match await driver.inspect(handle):
            case ContainerState.CREATED if run.status is RunStatus.STARTING:
                return await self._replace_unstarted(run, handle)
            case ContainerState.RUNNING | ContainerState.EXITED:
                return await self._found_started(run, handle)
            case state:
                await self._ending.lost(run, handle, f"its container is {state.value} after a restart")
                return None

    async def _replace_unstarted(self, run: Run, handle: Handle) -> Started | None:
        """A late start of the old one must find nothing: it goes, without force, before a new one is made."""
        try:
            await self._context.driver.remove(handle, force=False)
        except ContainerBusy:
            return await self._found_started(run, handle)
        except ExitUnknown as problem:
            await self._ending.lost(run, handle, str(problem))
            return None
        return await self._create(await self._commit(run, partial(runs.save_engine_id_if_leased, engine_id=None)))

    async def _supervise(self, run: Run, handle: Handle) -> None:
        patience = Patience(self._context)
        note = None
        while True:
            watch = Watch(self._context, run, handle)
            try:
                facts = await watch.until_exit()
                unseen = _UNSEEN if facts.unseen else None
                return await self._ending.exited(run, handle, facts, watch.note or note or unseen)
            except EngineUnavailable as problem:
                if not await patience.lasts(problem, _LOG_PATIENCE_SECONDS if watch.facts else None):
                    if watch.facts is None:
                        return await self._ending.lost(run, handle, str(problem))
                    why = f"the end of its output could not be read: {problem}"
                    return await self._ending.exited(run, handle, watch.facts, why)
                run = await self._reload(run)
                # With its engine away a container may write what no log keeps, and nobody can tell afterwards.
                note = None if self._keeps_log() else _AWAY
            except DriverError as problem:  # it is gone, or its end cannot be known
                return await self._ending.lost(run, handle, str(problem))

    async def _give_up(self, run: Run, why: str) -> Started | None:
        """A start that took too long. Without an id no start was ever asked for; with one, a removal without force
        proves it, if there is still something to remove."""
        if run.engine_id is not None:
            handle = self._handle(run, run.engine_id)
            try:
                async with asyncio.timeout(30):
                    if await self._context.driver.inspect(handle) is ContainerState.ABSENT:
                        raise ContainerGone(handle.name)
                    await self._context.driver.remove(handle, force=False)
            except ContainerBusy:
                return await self._found_started(run, handle)
            except (DriverError, TimeoutError):
                await self._ending.lost(run, handle, why)
                return None
        await self._ending.failed(run, Reason.START_FAILED, StartFailed("it could not be started", why))
        return None

    async def _commit(
        self, run: Run, transition: Callable[[Connection, str, str], bool], record: Record | None = None
    ) -> Run:
        """Apply a guarded transition under our lease and return the row as it is then. Raises Stale."""
        lease = self._context.lease

        def work(connection: Connection) -> Run | None:
            if not transition(connection, run.id, lease):
                return None
            current = runs.get_run(connection, run.id)
            if record is not None:
                record(self._context, connection, current)
            return current

        if (current := await self._context.database.run(work)) is None:
            raise Stale
        return current

    async def _reload(self, run: Run) -> Run:
        current = await self._context.database.read(lambda c: runs.get_run(c, run.id))
        if current.status.is_final or current.lease != self._context.lease:
            raise Stale
        return current

    def _keeps_log(self) -> bool:
        return self._context.driver.capabilities().keeps_log

    def _handle(self, run: Run, engine_id: str) -> Handle:
        return Handle(self._context.driver.name, self._context.facts.node, self._name(run), engine_id, run.id)

    def _name(self, run: Run) -> str:
        return run.container_name or container_name(self._context.instance, run.id)
