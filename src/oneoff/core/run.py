"""A run and its states, as data. Every transition in the store is one of TRANSITIONS."""

from __future__ import annotations

from enum import StrEnum


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
