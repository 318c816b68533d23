"""The real clock, and the loop that keeps an agent ticking. Started by `oneoff.server`, one task per agent."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

from oneoff import journal, metrics
from oneoff.core.clock import Clock
from oneoff.errors import OneoffError

_LONGEST_SLEEP = 3600.0  # timers and clocks go wrong over longer spans; looking again costs nothing
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, _LONGEST_SLEEP))


class Agent(Protocol):
    name: str
    wake: asyncio.Event  # set by whoever knows that there is something to do before the delay is over

    async def tick(self) -> float:
        """Do what is due now. Returns the delay until the next tick, in seconds."""


async def keep_ticking(agent: Agent, clock: Clock) -> None:
    """Tick until cancelled. A failing tick is logged and repeated with growing pauses: one bad row stops nobody."""
    pause = _FIRST_PAUSE
    while True:
        agent.wake.clear()
        try:
            delay = await agent.tick()
            pause = _FIRST_PAUSE
            metrics.AGENT_LAST_TICK.set(clock.now().timestamp(), agent.name)
        except OneoffError as problem:
            metrics.AGENT_FAILURES.add(agent.name)
            journal.warning("tick failed", agent=agent.name, error=str(problem))
            delay, pause = pause, min(pause * 2, _LONGEST_PAUSE)
        except Exception as problem:  # noqa: BLE001 - a defect in one agent must not stop the server
            metrics.AGENT_FAILURES.add(agent.name)
            journal.error("tick failed", problem, agent=agent.name)
            delay, pause = pause, min(pause * 2, _LONGEST_PAUSE)
        await sleep_unless(agent.wake, clock, delay)


async def sleep_unless(event: asyncio.Event, clock: Clock, seconds: float) -> None:
    """Until the event is set, `seconds` at most."""
    if event.is_set():
        return
    tasks = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(clock.sleep(seconds))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
