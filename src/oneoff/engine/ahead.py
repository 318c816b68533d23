"""Runs that are made shortly before their instant, so that at the instant only its transaction is left. Called by the
scheduler.

Nothing is decided here. The transaction reads each cron again, and takes the run that was made for it only if the cron,
with all that stands around it, is equal to the one that was read ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from oneoff.core.run import Run
from oneoff.core.ticks import fire_time
from oneoff.engine.ledger import absences_of, move_of, schedule_of, settle_due
from oneoff.store import crons
from oneoff.store.crons import Cron, CursorMove
from oneoff.store.database import Connection

_MOST = 2000  # some 3 kB each, and their variables
_MOST_BYTES = 16 << 20  # of all their variables
_KEEPS = timedelta(seconds=2)  # the id of a run tells when it was accepted, and so do lists


NewRun = tuple[Run, bytes]  # with its sealed variables, not saved yet


class CronRuns(Protocol):
    """Makes the runs of the crons that one transaction reads."""

    def make(self, cron: Cron, due: datetime, at: datetime) -> NewRun:
        """A run of the cron's job for this instant, to be accepted at `at`; only reads. Raises OneoffError."""

    def admit(self, run: Run) -> None:
        """What else is to be asked and written in the transaction that saves the run. Raises OneoffError."""


PrepareRuns = Callable[[Connection, Sequence[Cron]], CronRuns]


@dataclass(frozen=True, slots=True)
class Made:
    """The one thing that the cron, as long as it is like this, is to do from `since` until right before `until`."""

    cron: Cron
    instant: datetime
    move: CursorMove  # to `since`, not further: behind it jitter may hold back the next instant already
    new: NewRun
    since: datetime
    until: datetime

    @property
    def variables_sealed(self) -> bytes:
        return self.new[1]


@dataclass(frozen=True, slots=True)
class Ahead:
    """What was made for the crons that are due at `at`, by their ids."""

    at: datetime | None = None
    made: Mapping[str, Made] = field(default_factory=dict)

    def find(self, cron: Cron, now: datetime) -> Made | None:
        made = self.made.get(cron.id)
        return made if made is not None and made.since <= now < made.until and made.cron == cron else None


def read_ahead(connection: Connection, at: datetime, prepare_runs: PrepareRuns) -> Ahead:
    """As many as there is room for: the others are made at the instant."""
    coming = crons.fetch_coming(connection, at, _MOST)
    cron_runs = prepare_runs(connection, coming)
    found: dict[str, Made] = {}
    left = _MOST_BYTES
    for cron in coming:
        if left > 0 and (made := _make(cron, cron_runs)) is not None:
            found[cron.id] = made
            left -= len(made.variables_sealed)
    return Ahead(at, found)


def _make(cron: Cron, cron_runs: CronRuns) -> Made | None:
    try:
        return _make_if_simple(cron, cron_runs)
    except Exception:  # noqa: BLE001 - the transaction of the instant meets it as well, and tells
        return None


def _make_if_simple(cron: Cron, cron_runs: CronRuns) -> Made | None:
    """As nearly all are: one instant is due, on time, and nothing stands in its way."""
    assert cron.next_due_at is not None
    at, schedule = cron.next_due_at, schedule_of(cron)
    settled = settle_due(schedule, cron.cursor, at, absences_of(cron, ()))
    if settled.rows or len(settled.to_fire) != 1 or fire_time(schedule, settled.to_fire[0]) != at:
        return None
    new = cron_runs.make(cron, settled.to_fire[0], at)
    move = move_of(cron, settled.cursor, None)
    # Then something else is to be done, or it must end on another day.
    ends = [each for each in (move.next_due_at, new[0].must_end_at) if each is not None]
    return Made(cron, settled.to_fire[0], move, new, at, min(at + _KEEPS, *ends))
