"""A run once more: the same image, command, variables and limits. Used for retries and for exact reruns."""

from __future__ import annotations

from typing import Any

from oneoff.core.run import Run, once_more
from oneoff.engine.context import Context
from oneoff.engine.spec import variables_place
from oneoff.store import runs
from oneoff.store.dialect import Connection


def insert_again(context: Context, connection: Connection, run: Run, **changes: Any) -> Run:
    """A new queued run, inside the caller's transaction; `changes` are fields of Run. The caller calls
    `signals.run_accepted` after its commit."""
    copy = once_more(run, **{"id": context.new_id("run"), "created_at": context.clock.now()} | changes)
    # A sealed box opens only at the place it was sealed for.
    opened = context.sealer.open(runs.fetch_sealed_variables(connection, run.id), variables_place(run.id))
    runs.save_new(connection, copy, context.sealer.seal(opened, variables_place(copy.id)))
    return copy
