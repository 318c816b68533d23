"""Says that this server and its runs are alive, for other servers and for the bill of a run that gets lost."""

from __future__ import annotations

import asyncio

from oneoff.engine.context import Context
from oneoff.engine.dispatcher import Dispatcher
from oneoff.store.database import Connection
from oneoff.store.nodes import Node, save_node
from oneoff.store.runs import save_seen

_BEAT_SECONDS = 15.0


class Heart:
    name = "heart"

    def __init__(self, context: Context, dispatcher: Dispatcher) -> None:
        self.wake = asyncio.Event()
        self._context = context
        self._dispatcher = dispatcher

    async def tick(self) -> float:
        context = self._context
        now = context.clock.now()
        facts = context.facts
        node = Node(
            node=facts.node,
            driver=context.driver.name,
            lease=context.lease,
            engine=facts.engine,
            cpus=facts.cpus,
            memory_bytes=facts.memory_bytes,
            slots=context.settings.slots,
            seen_at=now,
        )
        going = list(self._dispatcher.going)

        def beat(connection: Connection) -> None:
            save_node(connection, node)
            save_seen(connection, going, now)

        await context.database.run(beat)
        return _BEAT_SECONDS
