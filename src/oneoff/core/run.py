"""A run and its states, as data. Every transition in the store is one of TRANSITIONS."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple


class RunStatus(StrEnum):
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_final(self) -> bool:
        return self in FINAL


class Reason(StrEnum):
    """Why a run ended as it did."""

    COMPLETED = "completed"
    NONZERO_EXIT = "nonzero_exit"
    KILLED = "killed"
    OOM_KILLED = "oom_killed"
    TIMED_OUT = "timed_out"
    IMAGE_UNAVAILABLE = "image_unavailable"
    START_FAILED = "start_failed"
    LOST = "lost"
    CANCELED = "canceled"


class Trigger(StrEnum):
    """Why a run exists."""

    MANUAL = "manual"
    API = "api"
    CRON = "cron"
    BATCH = "batch"
    DEPLOY = "deploy"
    RETRY = "retry"


FINAL = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELED})
GOING = frozenset({RunStatus.QUEUED, RunStatus.STARTING, RunStatus.RUNNING})
ON_NODE = frozenset({RunStatus.STARTING, RunStatus.RUNNING})

TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.QUEUED: frozenset({RunStatus.STARTING, RunStatus.FAILED, RunStatus.CANCELED}),
    RunStatus.STARTING: frozenset({RunStatus.RUNNING}) | FINAL,
    RunStatus.RUNNING: FINAL,
    RunStatus.SUCCEEDED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELED: frozenset(),
}

REASONS: dict[RunStatus, frozenset[Reason]] = {
    RunStatus.SUCCEEDED: frozenset({Reason.COMPLETED}),
    RunStatus.FAILED: frozenset(Reason) - {Reason.COMPLETED, Reason.CANCELED},
    RunStatus.CANCELED: frozenset({Reason.CANCELED}),
}


def container_name(instance: str, run_id: str) -> str:
    """The name a run's container always has, so that it is found again after a crash at any moment."""
    return f"oneoff-{instance}-{run_id}"


class Run(NamedTuple):
    """One execution, as the store knows it. Unset is None. `variables` stay sealed and are not part of it.

    A tuple, because lists make many of them: one is made in a tenth of the time that a frozen dataclass takes.
    """

    id: str
    workspace_id: str
    service_id: str
    service: str  # the service's path when the run was created
    deploy_id: str | None
    job_id: str | None
    cron_id: str | None
    batch_id: str | None
    attempt: int
    retry_of: str | None
    rerun_of: str | None
    trigger: Trigger
    actor: str
    status: RunStatus
    reason: Reason | None
    message: str | None
    exit_code: int | None
    signal: int | None
    oom_seen: bool
    command: tuple[str, ...] | None
    shell: str | None
    entrypoint: str | tuple[str, ...]
    image: str
    image_ref: str
    digest: str
    instance_type: str
    terms: str | None  # its size and price when the run was made: core.terms
    timeout_seconds: int
    grace_seconds: int
    scheduled_for: datetime | None
    batch_index: int | None
    retries: str | None
    concurrency_group: str | None
    not_before: datetime | None
    must_end_at: datetime | None
    warn_seconds: int | None
    warned_at: datetime | None
    node: str | None
    driver: str | None
    container_name: str | None
    engine_id: str | None
    lease: str | None
    stop_kind: str | None
    stop_at: datetime | None
    stop_actor: str | None
    waiting_for: str | None
    created_at: datetime
    starting_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    seen_at: datetime | None
    stdout_bytes: int
    stderr_bytes: int
    missing_bytes: int

    @property
    def ids(self) -> dict[str, str | None]:
        """Its own and those of what it belongs to: what a line of the server's log names."""
        return {"run": self.id, "job": self.job_id, "cron": self.cron_id, "batch": self.batch_id}

    @property
    def is_going(self) -> bool:
        return self.status in GOING


# The fields that are instants, UTC.
TIMES = tuple(name for name in Run._fields if name.endswith("_at") or name in ("scheduled_for", "not_before"))

# Every field of a run that has only just been accepted.
NOTHING_YET: Mapping[str, Any] = {
    **dict.fromkeys(("reason", "message", "exit_code", "signal")),
    **dict.fromkeys(("node", "driver", "container_name", "engine_id", "lease")),
    **dict.fromkeys(("stop_kind", "stop_at", "stop_actor", "waiting_for", "warned_at")),
    **dict.fromkeys(("starting_at", "started_at", "finished_at", "seen_at")),
    **dict.fromkeys(("stdout_bytes", "stderr_bytes", "missing_bytes"), 0),
    "status": RunStatus.QUEUED,
    "oom_seen": False,
}


def once_more(run: Run, **changes: Any) -> Run:
    """The same run as if nothing had happened to it yet; `changes` are at least a new id and `created_at`."""
    return run._replace(**NOTHING_YET, **changes)
