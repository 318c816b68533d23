"""Records events, in the transaction of what they tell of. Used by the engine and the operations; `record` is the way
for all of them, the others know what the body of their kind holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from oneoff.core.clock import to_text
from oneoff.core.events import check_body
from oneoff.core.run import Run, RunStatus
from oneoff.core.ticks import TickOutcome
from oneoff.engine.context import Context
from oneoff.store import events, jobs
from oneoff.store.crons import Cron
from oneoff.store.dialect import Connection
from oneoff.store.events import Event
from oneoff.store.runs import End
from oneoff.store.services import Service
from oneoff.store.ticks import Tick

# Instants that fired have their runs; that a pause keeps a cron from firing is what somebody asked for.
_OF_TICKS = {
    TickOutcome.SKIPPED_OVERLAP: "tick.skipped",
    TickOutcome.MISSED: "tick.missed",
    TickOutcome.HELD_BY_DEPLOY: "tick.held",
    TickOutcome.BLOCKED_BY_PLAN: "tick.blocked",
    TickOutcome.NO_LIVE_IMAGE: "tick.refused",
    TickOutcome.REFUSED: "tick.refused",
}


def record(
    context: Context,
    connection: Connection,
    kind: str,
    subject_id: str,
    body: Mapping[str, Any],
    service_id: str | None = None,
) -> None:
    """`body` has exactly the fields that core.events.KINDS has for `kind`; times are texts of `to_text`. `service_id`
    of what belongs to a service, so that its events are found."""
    check_body(kind, body)
    new = Event(
        id=context.new_id("event"),
        workspace_id=context.workspace_id,
        kind=kind,
        subject_id=subject_id,
        created_at=context.clock.now(),
        body=body,
        service_id=service_id,
    )
    events.save_new(connection, new)


def record_started(context: Context, connection: Connection, run: Run) -> None:
    """`run` is the row as it is now."""
    record(context, connection, "run.started", run.id, _facts(run, run.started_at), run.service_id)


def record_ended(context: Context, connection: Connection, run: Run, end: End, next_attempt: str | None) -> None:
    """`run` is the row as it is now. `next_attempt` is the id of the run that tries again; without one, the end may be
    news of the job, too."""
    started_at = end.started_at or run.started_at
    outcome = end.outcome
    took = None if started_at is None else (end.finished_at - started_at).total_seconds()
    body = {
        **_facts(run, started_at),
        "status": outcome.status.value,
        "reason": outcome.reason.value,
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "oom_seen": outcome.oom_seen,
        "memory_bytes": next((each.memory_bytes for each in context.catalogue if each.id == run.instance_type), None),
        "message": end.message,
        "canceled_by": run.stop_actor if outcome.status is RunStatus.CANCELED else None,
        "retried_by": next_attempt,
        "finished_at": to_text(end.finished_at),
        "duration_seconds": took,
    }
    record(context, connection, "run.ended", run.id, body, run.service_id)
    if run.job_id is not None and next_attempt is None and outcome.status is not RunStatus.CANCELED:
        _record_of_job(context, connection, run, end)


def record_ticks(context: Context, connection: Connection, cron: Cron, decided: Sequence[Tick]) -> None:
    """Of what did not fire: one event for each stretch of instants with the same outcome."""
    if all(tick.outcome not in _OF_TICKS for tick in decided):
        return
    in_order = sorted(decided, key=lambda tick: tick.due_at)
    for outcome, group in groupby(in_order, key=lambda tick: tick.outcome):
        if (kind := _OF_TICKS.get(outcome)) is None:
            continue
        stretch = list(group)
        body = {
            **cron_facts(cron),
            "outcome": outcome.value,
            "due_at": to_text(stretch[0].due_at),
            "until": to_text(stretch[-1].until or stretch[-1].due_at),
            "count": sum(tick.count for tick in stretch),
            "message": stretch[-1].message,
        }
        record(context, connection, kind, cron.id, body, cron.service_id)


def record_pause(
    context: Context, connection: Connection, scope: tuple[str, str], paused: bool, cron: Cron | None
) -> None:
    """`scope` is `cron`, `environment` or `workspace`, and its id."""
    of_cron = dict.fromkeys(("cron_id", "cron", "job_id", "job")) if cron is None else cron_facts(cron)
    kind = "cron.paused" if paused else "cron.resumed"
    service_id = None if cron is None else cron.service_id
    record(context, connection, kind, scope[1], {"scope": scope[0], **of_cron}, service_id)


def record_service(context: Context, connection: Connection, kind: str, service: Service) -> None:
    """`kind` is one of `service.…`."""
    record(context, connection, kind, service.id, {"service": service.path, "type": service.type.value}, service.id)


def cron_facts(cron: Cron) -> dict[str, Any]:
    return {"cron_id": cron.id, "cron": cron.name, "job_id": cron.job_id, "job": cron.job}


def _facts(run: Run, started_at: datetime | None) -> dict[str, Any]:
    return {
        "service": run.service,
        "job_id": run.job_id,
        "cron_id": run.cron_id,
        "batch_id": run.batch_id,
        "batch_index": run.batch_index,
        "deploy_id": run.deploy_id,
        "trigger": run.trigger.value,
        "actor": run.actor,
        "attempt": run.attempt,
        "retry_of": run.retry_of,
        "scheduled_for": _to_text(run.scheduled_for),
        "timeout_seconds": run.timeout_seconds,
        "created_at": to_text(run.created_at),
        "started_at": _to_text(started_at),
    }


def _record_of_job(context: Context, connection: Connection, run: Run, end: End) -> None:
    """The first failure after a success, and the first success after failures, in the order of the ends."""
    assert run.job_id is not None
    standing = jobs.find_standing(connection, run.job_id)
    failed = end.outcome.status is RunStatus.FAILED
    if standing is None or failed is (standing.failing_since is not None):
        return
    since = standing.failing_since or end.finished_at
    jobs.set_failing_since(connection, run.job_id, since if failed else None)
    body = {
        "service": run.service,
        "job_id": run.job_id,
        "job": f"{run.service}:{standing.name}",
        "run_id": run.id,
        "status": end.outcome.status.value,
        "reason": end.outcome.reason.value,
        "exit_code": end.outcome.exit_code,
        "trigger": run.trigger.value,
        "since": to_text(since),
    }
    kind = "job.failing" if failed else "job.recovered"
    record(context, connection, kind, run.job_id, body, run.service_id)


def _to_text(moment: datetime | None) -> str | None:
    return None if moment is None else to_text(moment)
