"""One transaction of the scheduler: what becomes of the instants of some crons that are due, decided and written
together with their runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from oneoff.core.firing import Surroundings, obstacle
from oneoff.core.outcome import Outcome, StopKind
from oneoff.core.overlap import Going, decide_overlap
from oneoff.core.plan import check_cron_gap, check_has_jobs
from oneoff.core.run import Reason, RunStatus, Trigger
from oneoff.core.ticks import Absence, TickOutcome, fire_time
from oneoff.engine.ahead import Ahead, CronRuns, Made, NewRun, PrepareRuns
from oneoff.engine.context import Context
from oneoff.engine.deadman import watch_success
from oneoff.engine.events import record_ticks
from oneoff.engine.ledger import absences_of, move_of, schedule_of, settle_due, timing_of, to_ticks
from oneoff.engine.retrying import end_if_queued
from oneoff.errors import NoLiveImage, OneoffError, PlanRefused, TimeLimitTooLong
from oneoff.store import crons, going, runs, ticks
from oneoff.store.crons import Cron, CursorMove
from oneoff.store.database import Connection
from oneoff.store.runs import End
from oneoff.store.ticks import Tick

_LOOK_AT_DEPLOY = timedelta(seconds=2)
_FINEST_SECONDS = 60  # no two instants of a cron are closer
_MOST_NAMED = 3


class LostRace(Exception):
    """Somebody else moved a cursor meanwhile: nothing of this transaction may stand."""


class Firing:
    """After `fire` and the commit, `stopped` are the runs whose watchers are to be told."""

    def __init__(self, context: Context, connection: Connection, prepare_runs: PrepareRuns, ahead: Ahead) -> None:
        self.now = context.clock.now()
        self.due: list[datetime] = []  # when each run that was accepted was to be
        self.stopped: list[str] = []
        self._context = context
        self._connection = connection
        self._prepare_runs = prepare_runs
        self._ahead = ahead
        self._going: dict[str, list[Going]] = {}
        self._new: dict[str, NewRun] = {}
        self._ticks: list[Tick] = []
        self._moves: list[CursorMove] = []

    def fire(self, due: Sequence[Cron]) -> None:
        """All of `due` whose jobs nobody else has in hand. They were read in this transaction, or are guarded by their
        versions. Raises LostRace."""
        connection = self._connection
        jobs = going.lock_jobs(connection, {cron.job_id for cron in due})
        ours = [cron for cron in due if cron.job_id in jobs]
        self._going.update(going.fetch_going(connection, jobs))
        waiting = [cron for cron in ours if cron.hold_during_deploy]
        deploys = crons.fetch_deploy_times(connection, waiting)
        cron_runs = self._prepare_runs(connection, ours)
        for cron in ours:
            before = len(self._ticks)
            made = self._ahead.find(cron, self.now)
            for instant in self._settle(cron, absences_of(cron, deploys.get(cron.service_id, ())), made):
                self._ticks.append(self._fire_instant(cron, instant, cron_runs, made))
            record_ticks(self._context, connection, cron, self._ticks[before:])
        runs.save_all_new(connection, list(self._new.values()))
        ticks.save_new(connection, self._ticks)
        if not crons.move_cursors_if_unchanged(connection, self._moves):
            raise LostRace

    def _settle(self, cron: Cron, absences: list[Absence], made: Made | None) -> Sequence[datetime]:
        """Writes what does not fire; returns the instants that are to."""
        if any(each.outcome is TickOutcome.HELD_BY_DEPLOY and each.covers(self.now) for each in absences):
            # The cursor stays; after the deploy all that waited is settled.
            later = self.now + _LOOK_AT_DEPLOY
            self._moves.append(CursorMove(cron.id, cron.version, cron.cursor, later, cron.alerted_at))
            return ()
        alerted_at = watch_success(self._context, self._connection, cron, self.now)
        if made is not None and not absences:
            self._moves.append(replace(made.move, alerted_at=alerted_at))
            return (made.instant,)
        settled = settle_due(schedule_of(cron), cron.cursor, self.now, absences)
        self._ticks += to_ticks(cron, settled.rows, self.now)
        self._moves.append(move_of(cron, settled.cursor, alerted_at))
        return settled.to_fire

    def _fire_instant(self, cron: Cron, instant: datetime, cron_runs: CronRuns, made: Made | None) -> Tick:
        refusal = _plan_refusal(self._context, cron, self.now)
        around = Surroundings(is_blocked_by_plan=refusal is not None, has_live_image=cron.live_deploy_id is not None)
        if (stands := obstacle(around)) is not None:
            return self._tick(cron, instant, stands, refusal)
        others = self._going.setdefault(cron.job_id, [])
        named = ", ".join(run.run_id for run in others[:_MOST_NAMED])
        decision = decide_overlap(cron.overlap, others)
        if not decision.makes_run:
            return self._tick(cron, instant, decision.outcome, f"going: {named}")
        try:
            if made is not None and made.instant == instant:
                run, box = made.new
            else:
                run, box = cron_runs.make(cron, instant, self.now)
            cron_runs.admit(run)
        except NoLiveImage as problem:
            return self._tick(cron, instant, TickOutcome.NO_LIVE_IMAGE, str(problem))
        except (PlanRefused, TimeLimitTooLong) as problem:  # the job's limit was within the plan when it was saved
            return self._tick(cron, instant, TickOutcome.BLOCKED_BY_PLAN, str(problem))
        except OneoffError as problem:
            return self._tick(cron, instant, TickOutcome.REFUSED, str(problem))
        for run_id in decision.cancel:
            self._cancel(run_id, cron)
        # By their age an overlap policy tells older from younger: no two are of the same moment.
        at = self.now + timedelta(microseconds=len(self.due))
        waiting_for = f"the end of {named}" if decision.is_held else None
        self._new[run.id] = run._replace(created_at=at, waiting_for=waiting_for), box
        self.due.append(fire_time(schedule_of(cron), instant) if cron.jitter_seconds else instant)
        still = [each for each in others if each.run_id not in decision.cancel or each.has_started]
        self._going[cron.job_id] = [*still, Going(run.id, Trigger.CRON, at, decision.is_held)]
        return Tick(cron.id, instant, decision.outcome, self.now, run.id)

    def _tick(self, cron: Cron, instant: datetime, outcome: TickOutcome, message: str | None) -> Tick:
        return Tick(cron.id, instant, outcome, self.now, message=message)

    def _cancel(self, run_id: str, cron: Cron) -> None:
        actor = f"cron {cron.name}"
        canceled = Outcome(RunStatus.CANCELED, Reason.CANCELED)
        end = End(canceled, self.now, message=f"replaced by the next run of {actor}", canceled_by=actor)
        if (new := self._new.pop(run_id, None)) is not None:  # it must be there before it can be ended
            runs.save_all_new(self._connection, [new])
        run = runs.get_run(self._connection, run_id)
        if not end_if_queued(self._context, self._connection, run, end):
            runs.request_stop(self._connection, run_id, StopKind.CANCEL, actor, self.now)
        self.stopped.append(run_id)


def _plan_refusal(context: Context, cron: Cron, now: datetime) -> str | None:
    """Asked again at each tick: the plan may have changed since the cron was saved."""
    try:
        plan = context.plan(cron.plan)
        if plan.has_jobs and plan.smallest_cron_gap_seconds <= _FINEST_SECONDS:
            return None
        check_has_jobs(plan, context.plans)
        check_cron_gap(plan, timing_of(cron.expression, cron.zone, cron.dst_policy), now, context.plans)
    except OneoffError as problem:
        return str(problem)
    return None
