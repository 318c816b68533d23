"""Which ended runs are dropped, with their logs. Pure; the janitor asks per job, and per service for ad-hoc runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from oneoff.core.run import FINAL, RunStatus

FAILED_KEPT_LONGER = 2  # times the age of others; they are counted apart, so successes never push them out


@dataclass(frozen=True, slots=True)
class Retention:
    """At most `most_runs` others and as many failed ones; none older than `days`, failed ones twice that."""

    most_runs: int
    days: int


@dataclass(frozen=True, slots=True)
class KeptRun:
    """`finished_at` is None while it is going. `is_needed`: something still refers to it (a retry that waits)."""

    run_id: str
    status: RunStatus
    finished_at: datetime | None
    is_needed: bool = False


def within(asked: Retention | None, allowed: Retention) -> Retention:
    """What a job asks for, as far as the plan allows it; all of that when it asks for nothing."""
    if asked is None:
        return allowed
    return Retention(min(asked.most_runs, allowed.most_runs), min(asked.days, allowed.days))


def runs_to_drop(runs: Iterable[KeptRun], retention: Retention, now: datetime) -> list[str]:
    """Ids, oldest end first. Never a going run."""
    ended: list[tuple[datetime, KeptRun]] = []
    for run in runs:
        if run.finished_at is not None and run.status in FINAL:
            ended.append((run.finished_at, run))
    ended.sort(key=lambda each: (each[0], each[1].run_id))
    failed = [each for each in ended if each[1].status is RunStatus.FAILED]
    others = [each for each in ended if each[1].status is not RunStatus.FAILED]
    dropped = [
        *_beyond(others, retention.most_runs, now - timedelta(days=retention.days)),
        *_beyond(failed, retention.most_runs, now - timedelta(days=retention.days * FAILED_KEPT_LONGER)),
    ]
    return [run.run_id for _, run in sorted(dropped, key=lambda each: (each[0], each[1].run_id)) if not run.is_needed]


def _beyond(ended: Sequence[tuple[datetime, KeptRun]], most: int, oldest: datetime) -> list[tuple[datetime, KeptRun]]:
    too_many = max(0, len(ended) - most)
    return [each for place, each in enumerate(ended) if place < too_many or each[0] < oldest]
