"""Brings unfinished deploys forward, those of a server that is gone too, and looks after the runs that gate or follow
them. Woken when a deploy is asked for and when such a run has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from oneoff import journal
from oneoff.engine.context import Context
from oneoff.errors import DriverError, NotFound, OneoffError
from oneoff.store import deploys, gates
from oneoff.store.database import Connection

_LOOK_AGAIN_SECONDS = 5.0

# Makes whatever step a deploy can make now. Making an image local is one, so it may take long.
Advance = Callable[[str], Awaitable[object]]


class Deployer:
    name = "deployer"

    def __init__(self, context: Context, advance: Advance) -> None:
        self.wake = context.signals.deploy
        self._context = context
        self._advance = advance
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()  # asked for while their step was being made

    async def tick(self) -> float:
        deploy_ids, run_ids = await self._context.database.read(_look)
        self._context.signals.gate_runs = frozenset(run_ids)
        for deploy_id in deploy_ids:
            if deploy_id in self._tasks:
                self._again.add(deploy_id)
            else:
                task = asyncio.create_task(self._make_step(deploy_id))
                self._tasks[deploy_id] = task
                task.add_done_callback(lambda _, each=deploy_id: self._done(each))  # type: ignore[misc]
        return _LOOK_AGAIN_SECONDS

    async def close(self) -> None:
        """Let go; the rows say how far each is."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _make_step(self, deploy_id: str) -> None:
        try:
            await self._advance(deploy_id)
            _, run_ids = await self._context.database.read(_look)
            if self._context.signals.gate_runs != frozenset(run_ids):
                self.wake.set()  # another deploy may have waited for one that ended
        except NotFound:
            return  # its service was deleted meanwhile
        except OneoffError as problem:
            why = f"waits for the engine: {problem}" if isinstance(problem, DriverError) else f"waits: {problem}"
            await self._context.database.run(lambda c: deploys.save_message_if_created(c, deploy_id, why))
        except Exception as problem:  # noqa: BLE001 - one bad row must not stop the others
            journal.error("deploy does not go on", problem, deploy=deploy_id)

    def _done(self, deploy_id: str) -> None:
        self._tasks.pop(deploy_id, None)
        if deploy_id in self._again:
            self._again.discard(deploy_id)
            self.wake.set()


def _look(connection: Connection) -> tuple[Sequence[str], Sequence[str]]:
    """Ids of the deploys to bring forward, and of the runs they wait for."""
    waiting = {*deploys.list_unfinished(connection), *gates.list_open(connection)}
    open_runs = [gate.run_id for gate in gates.list_gates(connection, waiting) if gate.run_id and gate.end is None]
    return sorted(waiting), open_runs
