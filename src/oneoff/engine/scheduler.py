"""Fires crons: sleeps until the earliest is due, then writes each due instant into the ledger, with its run, in one
transaction. Two of them on one database share the work; none fires what the other has fired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from oneoff import journal
from oneoff.core.firing import Surroundings, obstacle
from oneoff.core.outcome import Outcome, StopKind
from oneoff.core.overlap import Going, decide_overlap
from oneoff.core.plan import PLANS, check_cron_gap, check_has_jobs
from oneoff.core.run import Reason, Run, RunStatus, Trigger
from oneoff.core.ticks import Absence, TickOutcome, settle
from oneoff.engine.context import Context
from oneoff.engine.deadman import watch_success
from oneoff.engine.ledger import absences_of, move_of, schedule_of, timing_of, to_ticks
from oneoff.errors import NoLiveImage, OneoffError, StoreUnavailable
from oneoff.store import crons, going, runs, ticks
from oneoff.store.crons import Cron, CursorMove
from oneoff.store.database import Connection
from oneoff.store.runs import End
from oneoff.store.ticks import Tick

_LOOK_AGAIN_SECONDS = 5.0  # a clock that was set, a cron that another server made
_IN_OTHER_HANDS_SECONDS = 0.25  # what another server is firing right now, and may leave undone
_CRONS_AT_ONCE = 100  # in one transaction: others write between two
_LOOK_AT_DEPLOY = timedelta(seconds=2)
_FINEST_SECONDS = 60  # no two instants of a cron are closer
_PUT_OFF = timedelta(seconds=60)

# A run of the cron's job for this instant, and its sealed variables; not saved yet. Raises OneoffError.
MakeRun = Callable[[Connection, Cron, datetime], tuple[Run, bytes]]


class LostRace(Exception):
    """Somebody else moved a cursor meanwhile: nothing of this transaction may stand."""


@dataclass(slots=True)
class _Round:
    """What one transaction writes, and whom to tell after its commit."""

    now: datetime
    going: dict[str, list[Going]]
    handled: int = 0
    runs: list[tuple[Run, bytes]] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)
    moves: list[CursorMove] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)


class Scheduler:
    name = "scheduler"

    def __init__(self, context: Context, make_run: MakeRun) -> None:
        self.wake = context.signals.schedule
        self._context = context
        self._make_run = make_run

    async def tick(self) -> float:
        while True:
            try:
                done = await self._context.database.run(self._fire_due)
            except LostRace:
                continue
            except StoreUnavailable:
                raise
            except Exception as problem:  # noqa: BLE001 - one bad row must not keep the others from firing
                journal.error("crons did not fire together", problem)
                await self._fire_one_by_one()
                continue
            self._tell(done)
            if done.handled < _CRONS_AT_ONCE:
                break
        earliest = await self._context.database.read(crons.find_next_due)
        if earliest is None:
            return _LOOK_AGAIN_SECONDS
        if earliest <= done.now:
            return _IN_OTHER_HANDS_SECONDS
        wait = (earliest - self._context.clock.now()).total_seconds()
        return min(max(wait, 0.0), _LOOK_AGAIN_SECONDS)

    async def _fire_one_by_one(self) -> None:
        """Put those off that break their transaction; their cursors stay, so nothing is left out."""
        now = self._context.clock.now()
        due = await self._context.database.run(lambda c: crons.fetch_due(c, now, _CRONS_AT_ONCE))
        for cron in due:
            try:
                self._tell(await self._context.database.run(partial(self._fire, due=[cron])))
            except (StoreUnavailable, LostRace):
                return
            except Exception as problem:  # noqa: BLE001 - it is the bad row: told, and tried again later
                journal.error("cron does not fire", problem, cron=cron.id)
                await self._context.database.run(partial(crons.put_off, cron_id=cron.id, until=now + _PUT_OFF))

    def _tell(self, done: _Round) -> None:
        if done.runs or done.stopped:
            self._context.signals.run_accepted()
        for run_id in done.stopped:
            self._context.signals.run_changed(run_id)

    def _fire_due(self, connection: Connection) -> _Round:
        return self._fire(connection, crons.fetch_due(connection, self._context.clock.now(), _CRONS_AT_ONCE))

    def _fire(self, connection: Connection, due: Sequence[Cron]) -> _Round:
        """All of `due`, which were read in this transaction or are guarded by their versions."""
        done = _Round(self._context.clock.now(), {}, len(due))
        if not due:
            return done
        jobs = going.lock_jobs(connection, {cron.job_id for cron in due})
        due = [cron for cron in due if cron.job_id in jobs]
        done.going.update(going.fetch_going(connection, jobs))
        held = {cron.service_id: cron.cursor for cron in due if cron.hold_during_deploy}
        deploys = crons.fetch_deploy_times(connection, held)
        for cron in due:
            self._settle(connection, cron, absences_of(cron, deploys.get(cron.service_id, ())), done)
        runs.save_all_new(connection, done.runs)
        ticks.save_new(connection, done.ticks)
        if not crons.move_cursors_if_unchanged(connection, done.moves):
            raise LostRace
        return done

    def _settle(self, connection: Connection, cron: Cron, absences: list[Absence], done: _Round) -> None:
        settled = settle(schedule_of(cron), cron.cursor, done.now, absences)
        if any(each.outcome is TickOutcome.HELD_BY_DEPLOY and each.covers(done.now) for each in absences):
            # The cursor stays; after the deploy all that waited is settled.
            later = done.now + _LOOK_AT_DEPLOY
            done.moves.append(CursorMove(cron.id, cron.version, cron.cursor, later, cron.alerted_at))
            return
        done.ticks += to_ticks(cron, settled.rows, done.now)
        alerted_at = watch_success(self._context, connection, cron, done.now)
        for instant in settled.to_fire:
            done.ticks.append(self._fire_instant(connection, cron, instant, done))
        done.moves.append(move_of(cron, settled.cursor, alerted_at))

    def _fire_instant(self, connection: Connection, cron: Cron, instant: datetime, done: _Round) -> Tick:
        tick = Tick(cron.id, instant, TickOutcome.FIRED, done.now)
        refusal = _plan_refusal(cron, done.now)
        around = Surroundings(is_blocked_by_plan=refusal is not None, has_live_image=cron.live_deploy_id is not None)
        if (outcome := obstacle(around)) is not None:
            return replace(tick, outcome=outcome, message=refusal)
        others = done.going.setdefault(cron.job_id, [])
        decision = decide_overlap(cron.overlap, others)
        if not decision.makes_run:
            ids = ", ".join(run.run_id for run in others[:3])
            return replace(tick, outcome=decision.outcome, message=f"going: {ids}")
        try:
            run, box = self._make_run(connection, cron, instant)
        except NoLiveImage as problem:
            return replace(tick, outcome=TickOutcome.NO_LIVE_IMAGE, message=str(problem))
        except OneoffError as problem:
            return replace(tick, outcome=TickOutcome.REFUSED, message=str(problem))
        for run_id in decision.cancel:
            self._cancel(connection, run_id, cron, done)
        if decision.is_held:
            run = replace(run, waiting_for=f"the end of {', '.join(each.run_id for each in others[:3])}")
        done.runs.append((run, box))
        stopping = [each for each in others if each.run_id not in decision.cancel or each.has_started]
        done.going[cron.job_id] = [*stopping, Going(run.id, Trigger.CRON, run.created_at, decision.is_held)]
        return replace(tick, outcome=decision.outcome, run_id=run.id)

    def _cancel(self, connection: Connection, run_id: str, cron: Cron, done: _Round) -> None:
        actor = f"cron {cron.name}"
        canceled = Outcome(RunStatus.CANCELED, Reason.CANCELED)
        end = End(canceled, done.now, message=f"replaced by the next run of {actor}")
        waiting = [pair for pair in done.runs if pair[0].id == run_id]
        if waiting:  # made in this very transaction: saved before it can be ended
            runs.save_all_new(connection, waiting)
            done.runs.remove(waiting[0])
        if not runs.end_if_queued(connection, run_id, end):
            runs.request_stop(connection, run_id, StopKind.CANCEL, actor, done.now)
        done.stopped.append(run_id)


def _plan_refusal(cron: Cron, now: datetime) -> str | None:
    """Asked again at each tick: the plan may have changed since the cron was saved."""
    plan = PLANS[cron.plan]
    if plan.has_jobs and plan.smallest_cron_gap_seconds <= _FINEST_SECONDS:
        return None
    try:
        check_has_jobs(plan)
        check_cron_gap(plan, timing_of(cron.expression, cron.zone, cron.dst_policy), now)
    except OneoffError as problem:
        return str(problem)
    return None
