"""The kinds of events, with what the body of each holds: one table. docs/events.md is made of it, whoever records an
event is held to it, filters and messages go by it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from oneoff.errors import UnknownEventKind


@dataclass(frozen=True, slots=True)
class EventKind:
    """`subject` says whose id `subject_id` is; `body`: field -> what it holds. `is_failure`: somebody is to look at it;
    but see BY_STATUS."""

    text: str
    subject: str
    body: Mapping[str, str]
    is_failure: bool = False


class Happened(Protocol):
    """An event, as far as it is told."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def subject_id(self) -> str: ...
    @property
    def service_id(self) -> str | None: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def body(self) -> Mapping[str, Any]: ...


_SERVICE = {"service": "the service's path"}
_RUN = {
    **_SERVICE,
    "job_id": "the run's job; null for an ad hoc run",
    "cron_id": "the cron that fired it, or null",
    "batch_id": "the batch it is an item of, or null",
    "batch_index": "its place in the batch, or null",
    "deploy_id": "the deploy whose image it runs",
    "trigger": "`manual`, `api`, `cron`, `batch`, `deploy` or `retry`",
    "actor": "who asked for it",
    "attempt": "1, and one more with each retry",
    "retry_of": "the run of which this is the next attempt, or null",
    "scheduled_for": "the due instant of its tick, or null",
    "timeout_seconds": "its time limit",
    "created_at": "when it was accepted",
    "started_at": "when its container started; null when it never did",
}
_CRON = {
    "cron_id": "the cron",
    "cron": "its name",
    "job_id": "its job",
    "job": "the job as `project/environment/service:name`",
}
_TICK = {
    **_CRON,
    "outcome": "the outcome of the tick, as in the cron's ledger",
    "due_at": "the due instant, the first of a stretch",
    "until": "the last of a stretch; the same as `due_at` for a single instant",
    "count": "how many due instants the event stands for",
    "message": "why, in words, or null",
}
_LOG_STREAM = {
    "scope": "the workspace, or the service, whose stream it is",
    "name": "the address of its receiver",
    "error": "the last error, in words",
    "node": "whose server saw it",
    "failing_since": "since when it failed",
}
_ALERT = {
    **_CRON,
    "expected_ticks": "the setting `alert_after_ticks` of the cron",
    "last_success_at": "the due instant of the last success, or since when the cron is watched",
}
_PAUSE = {
    "scope": "`cron`, `environment` or `workspace`: how much of them",
    "cron_id": "the cron; null when all of them are meant",
    "cron": "its name, or null",
    "job_id": "its job, or null",
    "job": "the job as `project/environment/service:name`, or null",
}
_DEPLOY = {
    **_SERVICE,
    "image": "the image as it was asked for",
    "digest": "its digest, once it is known",
    "actor": "who asked for it",
    "status": "the deploy's status",
    "message": "why it did not go live, or null",
    "gate_run_ids": "the runs that gate it or follow it",
}
_AFTER_DEPLOY = {
    **_SERVICE,
    "job_id": "the job",
    "job": "its name",
    "run_id": "its last run; null when none could be accepted",
    "message": "how it ended",
}
_JOB = {
    **_SERVICE,
    "job_id": "the job",
    "job": "the job as `project/environment/service:name`",
    "run_id": "the run that shows it",
    "status": "its status",
    "reason": "its reason",
    "exit_code": "its exit code, or null",
    "trigger": "why the run exists",
    "since": "since when the job fails",
}
_OF_SERVICE = {**_SERVICE, "type": "the service's type"}
_TOKEN = {"name": "the token's name", "admin": "whether it may do everything", "actor": "who did it"}

KINDS: Mapping[str, EventKind] = {
    "run.started": EventKind("A run's container has started.", "run", _RUN),
    "run.ended": EventKind(
        "A run has ended, started or not.",
        "run",
        {
            **_RUN,
            "status": "`succeeded`, `failed` or `canceled`",
            "reason": "why, one of the reasons of [exit codes](exit-codes.md)",
            "exit_code": "the command's exit code, or null",
            "signal": "the signal that killed it, or null",
            "oom_seen": "whether its memory ran out at some time",
            "memory_bytes": "its memory limit",
            "message": "in words what went wrong, or null",
            "canceled_by": "who asked for its end, or null",
            "retried_by": "the run that is the next attempt, or null",
            "finished_at": "when it ended",
            "duration_seconds": "from start to end, or null",
        },
    ),
    "run.time_limit_near": EventKind(
        "A run has come to the warning before its time limit.",
        "run",
        {**_SERVICE, "seconds_left": "until its end"},
    ),
    "job.failing": EventKind(
        "A run of a job failed, with no further attempt, and the last one before it had succeeded, or there was none.",
        "job",
        _JOB,
        is_failure=True,
    ),
    "job.recovered": EventKind("A run of a job succeeded after failures.", "job", _JOB),
    "tick.skipped": EventKind("A due instant was skipped: runs of the job were still going.", "cron", _TICK),
    "tick.missed": EventKind(
        "Due instants passed while nobody was there to fire them, and are not made up for.",
        "cron",
        _TICK,
        is_failure=True,
    ),
    "tick.held": EventKind("Due instants passed during a deploy, and are not made up for.", "cron", _TICK),
    "tick.blocked": EventKind("The plan does not allow the cron to fire.", "cron", _TICK, is_failure=True),
    "tick.refused": EventKind(
        "A due instant could not make a run: no live image, or the run was refused.", "cron", _TICK, is_failure=True
    ),
    "cron.overdue": EventKind(
        "The dead-man alert: no success for too many expected ticks.", "cron", _ALERT, is_failure=True
    ),
    "cron.recovered": EventKind("A success after a dead-man alert.", "cron", _ALERT),
    "cron.paused": EventKind("A cron, or all of an environment or the workspace, was paused.", "the scope", _PAUSE),
    "cron.resumed": EventKind("It was resumed.", "the scope", _PAUSE),
    "batch.ended": EventKind(
        "No run of a batch is going any more.",
        "batch",
        {
            **_SERVICE,
            "job_id": "the batch's job, or null",
            "status": "the batch's status",
            "item_count": "how many items it has",
            "succeeded": "how many runs succeeded",
            "failed": "how many failed",
            "canceled": "how many were canceled, or never began",
            "actor": "who asked for it",
        },
    ),
    "deploy.started": EventKind("A deploy has begun.", "deploy", _DEPLOY),
    "deploy.live": EventKind("A deploy's image is the live image now.", "deploy", _DEPLOY),
    "deploy.failed": EventKind("A deploy failed: the old image stays live.", "deploy", _DEPLOY, is_failure=True),
    "deploy.canceled": EventKind("A deploy was canceled, or a newer one was faster.", "deploy", _DEPLOY),
    "deploy.after_deploy_failed": EventKind(
        "A job that follows the deploy failed; its image stays live.", "deploy", _AFTER_DEPLOY, is_failure=True
    ),
    "service.created": EventKind("A service was made.", "service", _OF_SERVICE),
    "service.suspended": EventKind("A service was suspended: its crons do not fire.", "service", _OF_SERVICE),
    "service.resumed": EventKind("It was resumed.", "service", _OF_SERVICE),
    "service.deleted": EventKind("A service was deleted; its runs stay in the history.", "service", _OF_SERVICE),
    "token.created": EventKind("An API token was made.", "token", _TOKEN),
    "token.revoked": EventKind("An API token was revoked.", "token", _TOKEN),
    "webhook.disabled": EventKind(
        "A webhook is told nothing any more: it failed for too long, or asked for it.",
        "webhook",
        {
            "name": "its name",
            "kind": "its kind",
            "target": "where it leads, without secrets",
            "reason": "why, in words",
        },
        is_failure=True,
    ),
    "webhook.test": EventKind(
        "Somebody tests a webhook. Sent to that webhook alone, and not in any list.",
        "webhook",
        {"name": "its name", "actor": "who tests it"},
    ),
    "log_stream.failing": EventKind(
        "A log stream could not be sent for five minutes; what is written meanwhile waits.",
        "log stream",
        _LOG_STREAM,
        is_failure=True,
    ),
    "log_stream.recovered": EventKind("Its receiver takes lines again.", "log stream", _LOG_STREAM),
    "plan.changed": EventKind(
        "The workspace has another plan.",
        "workspace",
        {"before": "the id of the plan it had", "plan": "the id of the plan it has", "actor": "who did it"},
    ),
}


# Whether these are failures, the `status` in their bodies says.
BY_STATUS = ("run.ended", "batch.ended")


def check_body(kind: str, body: Mapping[str, Any]) -> None:
    """Raises KeyError for what the table does not have: that is a defect of whoever records it."""
    if body.keys() != KINDS[kind].body.keys():
        raise KeyError(f"the body of {kind} has other fields: {sorted(body.keys() ^ KINDS[kind].body.keys())}")


def is_failure(kind: str, body: Mapping[str, Any]) -> bool:
    """Whether somebody who wants to hear of failures only is to hear of it."""
    if kind in BY_STATUS:
        return bool(body.get("status") == "failed")
    return kind in KINDS and KINDS[kind].is_failure


def expand_kinds(patterns: Iterable[str]) -> list[str]:
    """`run.ended` as it is, `run.*` as all that begin so, `*` as all. Raises UnknownEventKind."""
    found: dict[str, None] = {}
    for pattern in patterns:
        meant = [kind for kind in KINDS if matches(pattern, kind)]
        if not meant:
            raise UnknownEventKind(pattern, sorted(KINDS))
        found |= dict.fromkeys(meant)
    return list(found)


def matches(pattern: str, kind: str) -> bool:
    return pattern in (kind, "*") or (pattern.endswith(".*") and kind.startswith(pattern[:-1]))
