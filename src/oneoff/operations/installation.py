"""What a server finds or makes at start, before there is a Context. Called by `oneoff.server`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from oneoff.core.clock import Clock
from oneoff.core.ids import CHANCE_BYTES, make_id
from oneoff.core.plan import FIRST_PLAN
from oneoff.operations.tokens import ADMIN_TOKEN_FILE, ensure_admin_token
from oneoff.sealing import Sealer
from oneoff.store import configuration, installation
from oneoff.store.database import Database
from oneoff.store.dialect import Connection

_KEY_PLACE = "installation/key"


@dataclass(frozen=True, slots=True)
class Installation:
    """`instance` is short, as it is part of container names; both stay the same for ever."""

    instance: str
    workspace_id: str

    def new_lease(self, now: datetime) -> str:
        """Of one server process."""
        return f"{int(now.timestamp()):x}-{os.urandom(8).hex()}"


async def set_up(
    database: Database, sealer: Sealer, clock: Clock, data_dir: Path, first_plan: str = FIRST_PLAN
) -> Installation:
    """Who this installation is; at first start with its workspace and an admin token in `data_dir`. Safe when several
    servers do it at once on one database. `first_plan` is that of a workspace made now.

    Raises StoreUnavailable when the database was sealed with another secret.key.
    """
    now = clock.now()
    instance = os.urandom(4).hex()
    workspace_id = make_id("workspace", now, os.urandom(CHANCE_BYTES))
    key_check = sealer.seal(b"oneoff", _KEY_PLACE).hex()

    def work(connection: Connection) -> Installation:
        sealer.open(bytes.fromhex(installation.save_value_if_absent(connection, "key", key_check)), _KEY_PLACE)
        kept = installation.save_value_if_absent(connection, "instance", instance)
        workspace = installation.save_value_if_absent(connection, "workspace", workspace_id)
        installation.save_value_if_absent(connection, configuration.NAME, configuration.new_version())
        installation.save_workspace_if_absent(connection, workspace, "default", first_plan, now)
        return Installation(kept, workspace)

    found = await database.run(work)
    await ensure_admin_token(database, found.workspace_id, clock, data_dir / ADMIN_TOKEN_FILE)
    return found
