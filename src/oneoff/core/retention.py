"""Which ended runs are dropped, with their logs. Pure; the historian asks per job, and per service for ad-hoc runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from oneoff.core.run import FINAL, RunStatus

KEPT_ANYWAY = timedelta(hours=1)  # somebody may still wait for the end of a run, with the connection lost
FAILED_KEPT_LONGER = 2  # times the age of others; they are counted apart, so successes never push them out


@dataclass(frozen=True, slots=True)
class Retention:
    """At most `most_runs` others and as many failed ones; none older than `days`, failed ones twice that."""

    most_runs: int
    days: int


@dataclass(frozen=True, slots=True)
class Wish:
    """What a job asks for; None = as the plan has it."""

    most_runs: int | None = None
    days: int | None = None


@dataclass(frozen=True, slots=True)
class KeptRun:
    """`finished_at` is None while it is going. `is_needed`: something still refers to it (a retry that waits)."""

    run_id: str
    status: RunStatus
    finished_at: datetime | None
    is_needed: bool = False


def within(asked: Wish | None, allowed: Retention) -> Retention:
    """What a job asks for, as far as the plan allows it; all of that when it asks for nothing."""
    if asked is None:
        return allowed
    runs = allowed.most_runs if asked.most_runs is None else asked.most_runs
    days = allowed.days if asked.days is None else asked.days
    return Retention(min(runs, allowed.most_runs), min(days, allowed.days))


def to_text(wish: Wish) -> str:
    """JSON, as the store keeps it."""
    return json.dumps({"runs": wish.most_runs, "days": wish.days})


def from_text(text: str | None) -> Wish | None:
    if text is None:
        return None
    kept = json.loads(text)
    return Wish(kept["runs"], kept["days"])


def oldest_kept(retention: Retention, now: datetime, *, failed: bool) -> datetime:
    """What ended before that time is too old."""
    return now - timedelta(days=retention.days * (FAILED_KEPT_LONGER if failed else 1))


def runs_to_drop(runs: Iterable[KeptRun], retention: Retention, now: datetime) -> list[str]:
    """Ids, oldest end first. Never a going run, nor one that has only just ended."""
    ended: list[tuple[datetime, KeptRun]] = []
    for run in runs:
        if run.finished_at is not None and run.status in FINAL:
            ended.append((run.finished_at, run))
    ended.sort(key=lambda each: (each[0], each[1].run_id))
    failed = [each for each in ended if each[1].status is RunStatus.FAILED]
    others = [each for each in ended if each[1].status is not RunStatus.FAILED]
    dropped = [
        *_beyond(others, retention.most_runs, oldest_kept(retention, now, failed=False)),
        *_beyond(failed, retention.most_runs, oldest_kept(retention, now, failed=True)),
    ]
    dropped.sort(key=lambda each: (each[0], each[1].run_id))
    return [run.run_id for ended_at, run in dropped if not run.is_needed and ended_at < now - KEPT_ANYWAY]


def _beyond(ended: Sequence[tuple[datetime, KeptRun]], most: int, oldest: datetime) -> list[tuple[datetime, KeptRun]]:
    too_many = max(0, len(ended) - most)
    return [each for place, each in enumerate(ended) if place < too_many or each[0] < oldest]
