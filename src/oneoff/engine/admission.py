"""Which of the waiting runs may start, as far as concurrency groups and the plan are concerned. Asked by the dispatcher
and the views; the claim asks again, in its transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from oneoff.core.groups import Admission, Group, admit
from oneoff.core.plan import Plan, room_for_runs
from oneoff.core.queue import Waiting
from oneoff.core.run import Run
from oneoff.engine.context import Context
from oneoff.store import concurrency, runs
from oneoff.store.dialect import Connection


@dataclass(frozen=True, slots=True)
class Queue:
    """`groups`: run id -> its group; `going`: runs on nodes by the name of their group; `room`: how many more runs the
    plan lets go at once, None when the plan is not known, so that what was accepted is run all the same."""

    waiting: list[Waiting]
    groups: Mapping[str, Group]
    going: Mapping[str, int]
    plan: Plan | None = None
    room: int | None = None
    is_tight: bool = False  # the slots of all nodes, filled at once, would exceed the plan

    def admit(self, in_order: Iterable[Waiting]) -> Admission:
        """Those that find room in their groups and the plan, in this order."""
        return admit(in_order, self.groups, self.going, {}, self.room)

    @property
    def waits_for_plan(self) -> str:
        """What those beyond the plan wait for."""
        assert self.plan is not None
        if not self.plan.has_jobs:
            return f"another plan: the {self.plan.name} plan has no runs (`oneoff plan set`)"
        return f"the plan's {self.plan.runs_at_once} runs at once"


class NoRoom(Exception):
    """The claim of a run that would exceed the limit of its group or of the plan: it must not be committed."""


def fetch_queue(context: Context, connection: Connection, per_service: int, now: datetime) -> Queue:
    """See `store.runs.fetch_waiting`."""
    workspace_id = context.workspace_id
    line = runs.fetch_waiting(connection, per_service, now)
    if not line.waiting:
        return Queue([], {}, {})
    load = concurrency.fetch_load(connection, workspace_id, now)
    plan = context.plans.get(load.plan)
    room = None if plan is None else room_for_runs(plan, load.going)
    # This node may not have said yet that it is there.
    is_tight = room is not None and room < max(load.slots, context.settings.slots)
    if not line.groups:
        return Queue(line.waiting, {}, {}, plan, room, is_tight)
    known = concurrency.fetch_groups(connection, workspace_id)
    groups = {run_id: known.get(name, Group(name)) for run_id, name in line.groups.items()}
    going = concurrency.count_on_nodes(connection, workspace_id)
    return Queue(line.waiting, groups, going, plan, room, is_tight)


def check_group(connection: Connection, run: Run) -> None:
    """In the transaction that claimed the run. Raises NoRoom."""
    name = run.concurrency_group
    if name is not None and not concurrency.is_within_limit(connection, run.workspace_id, name):
        raise NoRoom(name)


def check_plan(context: Context, connection: Connection, run: Run) -> None:
    """In the transaction that claimed the run, where other servers may claim at the same time. Raises NoRoom."""
    limits = {key: plan.runs_at_once for key, plan in context.plans.items()}
    if not concurrency.is_within_plan(connection, run.workspace_id, limits):
        raise NoRoom("plan")
