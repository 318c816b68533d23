"""Fires crons: sleeps until the earliest is nearly due, makes their runs ahead, and at the instant writes it into the
ledger with its run in one transaction. Two of them on one database share the work; none fires what the other has fired.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from oneoff import journal, metrics
from oneoff.engine.ahead import Ahead, PrepareRuns, read_ahead
from oneoff.engine.context import Context
from oneoff.engine.firing import Firing, LostRace
from oneoff.errors import StoreUnavailable
from oneoff.store import crons
from oneoff.store.crons import Cron
from oneoff.store.database import Connection

_AHEAD_SECONDS = 2.0
_TOO_LATE_SECONDS = 0.3  # to read ahead: what takes long would keep the instant waiting
_LOOK_AGAIN_SECONDS = 5.0  # a clock that was set, a cron that another server made
_IN_OTHER_HANDS_SECONDS = 0.25  # what another server is firing right now, and may leave undone
_CRONS_AT_ONCE = 500  # in one transaction, a tenth of a second: others write between two
_PUT_OFF = timedelta(seconds=60)


class Scheduler:
    name = "scheduler"

    def __init__(self, context: Context, prepare_runs: PrepareRuns) -> None:
        self.wake = context.signals.schedule
        self._context = context
        self._prepare_runs = prepare_runs
        self._ahead = Ahead()

    async def tick(self) -> float:
        while await self._fire_some() == _CRONS_AT_ONCE:
            pass
        earliest = await self._context.database.read(crons.find_next_due)
        if earliest is None:
            self._ahead = Ahead()
            return _LOOK_AGAIN_SECONDS
        if (wait := self._seconds_until(earliest)) <= 0:
            return _IN_OTHER_HANDS_SECONDS
        if wait > _AHEAD_SECONDS:
            self._ahead = Ahead()
            return min(wait - _AHEAD_SECONDS, _LOOK_AGAIN_SECONDS)
        if wait > _TOO_LATE_SECONDS and self._ahead.at != earliest:
            read = partial(read_ahead, at=earliest, prepare_runs=self._prepare_runs)
            self._ahead = await self._context.database.read(read)
        return max(0.0, self._seconds_until(earliest))

    def _seconds_until(self, moment: datetime) -> float:
        return (moment - self._context.clock.now()).total_seconds()

    async def _fire_some(self) -> int:
        """How many were due, at most _CRONS_AT_ONCE."""
        try:
            count, firing = await self._context.database.run(self._fire_due)
        except LostRace:
            return _CRONS_AT_ONCE
        except StoreUnavailable:
            raise
        except Exception as problem:  # noqa: BLE001 - one bad row must not keep the others from firing
            journal.error("crons did not fire together", problem)
            await self._fire_one_by_one()
            return _CRONS_AT_ONCE
        self.tell(firing)
        return count

    async def _fire_one_by_one(self) -> None:
        """Put those off that break their transaction; their cursors stay, so nothing is left out."""
        now = self._context.clock.now()
        due = await self._context.database.run(lambda c: crons.fetch_due(c, now, _CRONS_AT_ONCE))
        for cron in due:
            try:
                self.tell(await self._context.database.run(partial(self._fire, due=[cron], ahead=Ahead())))
            except (StoreUnavailable, LostRace):
                return
            except Exception as problem:  # noqa: BLE001 - it is the bad row: told, and tried again later
                journal.error("cron does not fire", problem, cron=cron.id)
                await self._context.database.run(partial(crons.put_off, cron_id=cron.id, until=now + _PUT_OFF))

    def tell(self, firing: Firing) -> None:
        """After the commit: the dispatcher, and whoever looks after a run that is to stop."""
        now = self._context.clock.now()
        for due in firing.due:
            metrics.TICK_LATENESS_SECONDS.observe(max(0.0, (now - due).total_seconds()))
        if firing.due or firing.stopped:
            self._context.signals.run_accepted()
        for run_id in firing.stopped:
            self._context.signals.run_changed(run_id)

    def _fire_due(self, connection: Connection) -> tuple[int, Firing]:
        due = crons.fetch_due(connection, self._context.clock.now(), _CRONS_AT_ONCE)
        return len(due), self._fire(connection, due, self._ahead)

    def _fire(self, connection: Connection, due: list[Cron], ahead: Ahead) -> Firing:
        """`ahead` only with crons that were read in this transaction: it tells by them whether something changed."""
        firing = Firing(self._context, connection, self._prepare_runs, ahead)
        if due:
            firing.fire(due)
        return firing
