"""Gives slots to waiting runs, fairly. Woken when a run is accepted and when a slot is free."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from oneoff import journal, metrics, tracing
from oneoff.core.outcome import Outcome
from oneoff.core.queue import Waiting, in_order
from oneoff.core.run import Reason, Run, RunStatus
from oneoff.drivers.driver import PreparedImage
from oneoff.engine.admission import fetch_queue
from oneoff.engine.context import Context
from oneoff.engine.executor import Executor
from oneoff.engine.overdue import end_overdue
from oneoff.engine.retrying import end_if_queued
from oneoff.engine.spec import prepare_image
from oneoff.errors import DriverError, EngineUnavailable, ImageUnavailable, OneoffError
from oneoff.store import runs
from oneoff.store.database import Connection
from oneoff.store.runs import End, StartFacts

_LOOK_AGAIN_SECONDS = 2.0
_PULLS_AT_ONCE = 4
_PULLS_AFTER_SECONDS = 0.25  # an image that is not ready after so long is not here: others need not wait for it
_NEARLY_READY_SECONDS = 0.02
_TOLD_AFTER_SECONDS = 2.0  # a run whose image takes longer says so
_RETRY_PREPARE_SECONDS = 2.0

_New = tuple[Run, StartFacts]


class Dispatcher:
    """Holds this node's slots: from the claim of a run to its end. An image is made local before a slot is taken, so
    that pulling holds none."""

    name = "dispatcher"

    def __init__(self, context: Context, executor: Executor) -> None:
        self.wake = context.signals.dispatch
        self._context = context
        self._executor = executor
        self._tasks: set[asyncio.Task[None]] = set()
        self._going: dict[str, str] = {}  # run id -> service id, of every run that holds a slot
        self._preparing: dict[str, float] = {}  # run id -> since when, by the monotonic clock
        self._prepared: dict[str, PreparedImage] = {}
        self._told: set[str] = set()  # of those being prepared, whose rows say what they wait for
        self._is_tight = False  # other servers' claims and ours could exceed the plan together
        self._pulls = asyncio.Semaphore(_PULLS_AT_ONCE)
        self._overdue_next = 0.0  # when to look for them again, by the monotonic clock

    @property
    def going(self) -> frozenset[str]:
        """Ids of the runs that hold a slot now."""
        return frozenset(self._going)

    async def tick(self) -> float:
        await self._end_overdue()
        free = self._context.settings.slots - len(self._going)
        if free <= 0:
            return _LOOK_AGAIN_SECONDS
        await self._tell_slow_images()
        # Runs that just got a slot may still be in the queue: their claim is being committed.
        per_service = self._context.settings.slots + len(self._preparing) + len(self._prepared)
        counts = Counter(self._going.values())
        known = {*self._going, *self._prepared, *self._preparing}
        now, turns = self._context.clock.now(), self._context.turns.numbers

        def look(connection: Connection) -> tuple[list[Waiting], list[_New], bool]:
            queue = fetch_queue(self._context, connection, per_service, now)
            # Those whose claim is being committed hold their places in groups already.
            fair = in_order(queue.waiting, counts, now, turns)
            ordered = sorted(fair, key=lambda run: run.run_id not in self._going)
            candidates = list(queue.admit(ordered).free)
            first = [run.run_id for run in candidates[: self._context.settings.slots] if run.run_id not in known]
            new = [(runs.get_run(connection, i), runs.fetch_start_facts(connection, i)) for i in first]
            return candidates, new, queue.is_tight

        candidates, new, self._is_tight = await self._context.database.read(look)
        self._forget_gone({run.run_id for run in candidates})
        if preparations := [self._prepare(run, facts) for run, facts in new]:
            # Mostly the image is here: then a slot is given at once, without another look.
            _, late = await asyncio.wait(preparations, timeout=_NEARLY_READY_SECONDS)
            for task in late:
                task.add_done_callback(lambda _: self.wake.set())
        return self._give_slots(candidates, self._context.settings.slots - len(self._going))

    async def _end_overdue(self) -> None:
        """Not with each run that comes or goes: there may be many."""
        now = self._context.clock.monotonic()
        if now >= self._overdue_next:
            self._overdue_next = now + _LOOK_AGAIN_SECONDS
            await end_overdue(self._context)

    def _give_slots(self, candidates: list[Waiting], free: int) -> float:
        """In order. A run whose image is being pulled is passed over; one that is nearly ready is waited for."""
        now = self._context.clock.monotonic()
        for run in candidates:
            if free <= 0:
                break
            if run.run_id in self._prepared:
                free -= 1
                self._execute(run, self._prepared.pop(run.run_id))
            elif now - self._preparing.get(run.run_id, -_PULLS_AFTER_SECONDS) < _PULLS_AFTER_SECONDS:
                return _PULLS_AFTER_SECONDS
        return _LOOK_AGAIN_SECONDS

    def resume(self, run: Run) -> None:
        """Hold a slot for a run that a server before this one started, and see it to its end."""
        if run.id in self._going:
            return
        self._take_slot(run.id, run.service_id)
        self._spawn(run.id, self._hold_slot(run.id, self._executor.resume(run)))

    async def close(self) -> None:
        """Let go of all runs; their containers go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _execute(self, run: Waiting, image: PreparedImage) -> None:
        self._take_slot(run.run_id, run.service_id)
        work = self._executor.execute(run.run_id, image, self._is_tight)
        self._spawn(run.run_id, self._hold_slot(run.run_id, work))

    def _take_slot(self, run_id: str, service_id: str) -> None:
        self._going[run_id] = service_id
        self._context.turns.take(service_id)
        metrics.SLOTS_TAKEN.set(len(self._going))

    async def _hold_slot(self, run_id: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            self._going.pop(run_id, None)
            metrics.SLOTS_TAKEN.set(len(self._going))
            self._context.signals.slot_freed()

    def _prepare(self, run: Run, facts: StartFacts) -> asyncio.Task[None]:
        self._preparing[run.id] = self._context.clock.monotonic()
        metrics.IMAGES_PREPARING.set(len(self._preparing))
        return self._spawn(run.id, self._make_local(run, facts))

    async def _make_local(self, run: Run, facts: StartFacts) -> None:
        context, run_id = self._context, run.id
        try:
            async with self._pulls, asyncio.timeout(context.settings.start_timeout_seconds):
                with tracing.step("prepare", run):
                    self._prepared[run_id] = await prepare_image(context, run, facts)
        except ImageUnavailable as problem:
            await self._fail(run_id, str(problem))
        except TimeoutError:
            await self._fail(run_id, f"its image was not here after {context.settings.start_timeout_seconds} s")
        except EngineUnavailable as problem:
            why = str(problem)
            self._told.add(run_id)
            await context.database.run(lambda c: runs.save_waiting_for(c, run_id, why))
            await context.clock.sleep(_RETRY_PREPARE_SECONDS)
        except DriverError as problem:
            await self._fail(run_id, str(problem))
        finally:
            del self._preparing[run_id]
            self._told.discard(run_id)
            metrics.IMAGES_PREPARING.set(len(self._preparing))

    async def _tell_slow_images(self) -> None:
        begun = self._context.clock.monotonic() - _TOLD_AFTER_SECONDS
        slow = {run_id for run_id, since in self._preparing.items() if since <= begun} - self._told
        self._told |= slow

        def work(connection: Connection) -> None:
            for run_id in slow:
                runs.save_waiting_for(connection, run_id, "its image, which is not on the node yet")

        if slow:
            await self._context.database.run(work)

    async def _fail(self, run_id: str, message: str) -> None:
        outcome = Outcome(RunStatus.FAILED, Reason.IMAGE_UNAVAILABLE)
        end = End(outcome, self._context.clock.now(), message=message)

        def work(connection: Connection) -> Run:
            run = runs.get_run(connection, run_id)
            end_if_queued(self._context, connection, run, end)
            return run

        run = await self._context.database.run(work)
        self._context.signals.run_changed(run_id)
        self._context.signals.batch_changed(run.batch_id)

    def _forget_gone(self, waiting: set[str]) -> None:
        """Runs that were canceled while their image was made local."""
        for run_id in self._prepared.keys() - waiting:
            del self._prepared[run_id]

    def _spawn(self, run_id: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(_survive(run_id, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _survive(run_id: str, work: Coroutine[Any, Any, None]) -> None:
    """What interrupts one run is logged. Its row is as it was: the rescuer takes the run up again."""
    with journal.about(run=run_id):
        try:
            await work
        except OneoffError as problem:
            journal.warning("run interrupted", error=str(problem))
        except Exception as problem:  # noqa: BLE001 - a defect that struck one run must stop no other
            journal.error("run interrupted by a defect", problem)
