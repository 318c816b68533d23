"""Which of the waiting runs may start, as far as concurrency groups are concerned. Asked by the dispatcher and the
views; the claim asks again, in its transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from oneoff.core.groups import Admission, Group, admit
from oneoff.core.queue import Waiting
from oneoff.core.run import Run
from oneoff.store import concurrency, runs
from oneoff.store.dialect import Connection


@dataclass(frozen=True, slots=True)
class Queue:
    """`groups`: run id -> its group; `going`: runs on nodes by the name of their group."""

    waiting: list[Waiting]
    groups: Mapping[str, Group]
    going: Mapping[str, int]

    def admit(self, in_order: Iterable[Waiting]) -> Admission:
        """Those that find room in their groups, in this order."""
        return admit(in_order, self.groups, self.going, {})


class GroupFull(Exception):
    """The claim of a run that would exceed the limit of its group: it must not be committed."""


def fetch_queue(connection: Connection, workspace_id: str, per_service: int, now: datetime) -> Queue:
    """See `store.runs.fetch_waiting`."""
    line = runs.fetch_waiting(connection, per_service, now)
    if not line.groups:
        return Queue(line.waiting, {}, {})
    known = concurrency.fetch_groups(connection, workspace_id)
    groups = {run_id: known.get(name, Group(name)) for run_id, name in line.groups.items()}
    return Queue(line.waiting, groups, concurrency.count_on_nodes(connection, workspace_id))


def check_group(connection: Connection, run: Run) -> None:
    """In the transaction that claimed the run. Raises GroupFull."""
    name = run.concurrency_group
    if name is not None and not concurrency.is_within_limit(connection, run.workspace_id, name):
        raise GroupFull(name)
