"""What a server finds or makes at start, before there is a Context. Called by `oneoff.server`."""

from __future__ import annotations

import os
from dataclasses import dataclass

from oneoff.core.clock import Clock
from oneoff.core.ids import CHANCE_BYTES, make_id
from oneoff.core.plan import FIRST_PLAN
from oneoff.store import installation
from oneoff.store.database import Database
from oneoff.store.dialect import Connection


@dataclass(frozen=True, slots=True)
class Installation:
    """`instance` is short, as it is part of container names; both stay the same for ever."""

    instance: str
    workspace_id: str


async def prepare_installation(database: Database, clock: Clock) -> Installation:
    """Who this installation is. Safe when several servers do it at once on one database."""
    now = clock.now()
    instance = os.urandom(4).hex()
    workspace_id = make_id("workspace", now, os.urandom(CHANCE_BYTES))

    def work(connection: Connection) -> Installation:
        kept = installation.save_value_if_absent(connection, "instance", instance)
        workspace = installation.save_value_if_absent(connection, "workspace", workspace_id)
        installation.save_workspace_if_absent(connection, workspace, "default", FIRST_PLAN, now)
        return Installation(kept, workspace)

    return await database.run(work)
