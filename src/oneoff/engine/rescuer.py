"""Takes up the runs of a server that is gone, at start and then now and again: "Crash-only" in docs/architecture.md."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from oneoff import journal
from oneoff.core.outcome import Outcome
from oneoff.core.run import Reason, Run, RunStatus
from oneoff.engine.context import Context
from oneoff.engine.dispatcher import Dispatcher
from oneoff.engine.retrying import end_if_leased
from oneoff.store import nodes, runs
from oneoff.store.database import Connection
from oneoff.store.runs import End

_LOOK_AGAIN_SECONDS = 10.0


class Rescuer:
    """Runs on this node are resumed. Those of another node are lost when that node stays away for too long; they are
    never looked up from here, and never started again."""

    name = "rescuer"

    def __init__(self, context: Context, dispatcher: Dispatcher) -> None:
        self.wake = asyncio.Event()
        self._context = context
        self._dispatcher = dispatcher

    async def tick(self) -> float:
        await self._resume_ours()
        await self._give_up_on_gone_nodes()
        return _LOOK_AGAIN_SECONDS

    async def _resume_ours(self) -> None:
        """All in one transaction: after a crash a whole node's runs wait for it."""
        context = self._context
        node, driver, lease = context.facts.node, context.driver.name, context.lease
        found = await context.database.read(lambda c: runs.list_on_node(c, node, driver))
        waiting = [run for run in found if run.id not in self._dispatcher.going]

        def take(connection: Connection) -> list[Run]:
            """The rows under our lease; those that ended meanwhile are left out."""
            for run in waiting:
                if run.lease != lease:
                    runs.take_lease(connection, run.id, run.lease, lease)
            rows = (runs.get_run(connection, run.id) for run in waiting)
            return [run for run in rows if run.is_going and run.lease == lease]

        if waiting:
            for run in await context.database.run(take):
                self._dispatcher.resume(run)

    async def _give_up_on_gone_nodes(self) -> None:
        context = self._context
        now = context.clock.now()
        limit = now - timedelta(seconds=context.settings.node_away_seconds)
        seen = {(node.node, node.driver): node.seen_at for node in await context.database.read(nodes.list_nodes)}
        here = (context.facts.node, context.driver.name)
        for run in await context.database.read(lambda c: runs.list_with_other_lease(c, context.lease)):
            where = (run.node or "", run.driver or "")
            if where != here and seen.get(where, run.starting_at or run.created_at) < limit:
                await self._lose(run)

    async def _lose(self, run: Run) -> None:
        finished_at = run.seen_at or run.started_at or self._context.clock.now()
        why = f"its node {run.node} has been away for more than {self._context.settings.node_away_seconds} s"
        end = End(Outcome(RunStatus.FAILED, Reason.LOST), finished_at, message=why)
        if await self._context.database.run(lambda c: end_if_leased(self._context, c, run, run.lease, end)):
            with journal.about(**run.ids):
                journal.warning("run lost", node=run.node)
            self._context.signals.run_changed(run.id)
            self._context.signals.batch_changed(run.batch_id)
