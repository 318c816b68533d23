"""Which ended runs are dropped: never a going one, never a newer one before an older one of its kind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from oneoff.core.retention import (
    FAILED_KEPT_LONGER,
    KEPT_ANYWAY,
    KeptRun,
    Retention,
    Wish,
    from_text,
    runs_to_drop,
    to_text,
    within,
)
from oneoff.core.run import FINAL, RunStatus

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
DAY = timedelta(days=1)
RETENTIONS = st.builds(Retention, st.integers(0, 8), st.integers(0, 30))


def _kept(number: int, status: RunStatus, hours: int, is_needed: bool) -> KeptRun:
    finished = NOW - timedelta(hours=hours) if status in FINAL else None
    return KeptRun(f"run-{number:04}", status, finished, is_needed)


NEEDED = st.sampled_from([False, False, False, False, True])
RUNS = st.lists(
    st.builds(_kept, st.integers(0, 9999), st.sampled_from(RunStatus), st.integers(0, 80 * 24), NEEDED),
    max_size=30,
    unique_by=lambda run: run.run_id,
)


@given(RUNS, RETENTIONS)
def test_a_going_or_needed_run_is_never_dropped(runs: list[KeptRun], retention: Retention) -> None:
    dropped = set(runs_to_drop(runs, retention, NOW))
    assert not dropped & {run.run_id for run in runs if run.status not in FINAL or run.is_needed}


@given(RUNS, RETENTIONS)
def test_what_is_kept_is_bounded_by_count_and_age(runs: list[KeptRun], retention: Retention) -> None:
    dropped = set(runs_to_drop(runs, retention, NOW))
    kept = [
        run
        for run in runs
        if run.run_id not in dropped
        and run.finished_at is not None
        and not run.is_needed
        and run.finished_at < NOW - KEPT_ANYWAY
    ]
    for is_failed in (True, False):
        kind = [run for run in kept if (run.status is RunStatus.FAILED) == is_failed]
        longest = retention.days * (FAILED_KEPT_LONGER if is_failed else 1)
        assert len(kind) <= retention.most_runs
        assert all(run.finished_at is not None and NOW - run.finished_at <= longest * DAY for run in kind)


@given(RUNS, RETENTIONS)
def test_nothing_is_dropped_without_need_and_the_oldest_goes_first(runs: list[KeptRun], retention: Retention) -> None:
    dropped = runs_to_drop(runs, retention, NOW)
    by_id = {run.run_id: run for run in runs}
    ends = [(by_id[run_id].finished_at, run_id) for run_id in dropped]
    assert ends == sorted(ends, key=lambda each: (each[0] or NOW, each[1]))
    for run_id in dropped:
        run = by_id[run_id]
        is_failed = run.status is RunStatus.FAILED
        newer = [
            each
            for each in runs
            if each.finished_at is not None
            and (each.status is RunStatus.FAILED) == is_failed
            and (each.finished_at, each.run_id) > (run.finished_at, run.run_id)
        ]
        assert run.finished_at is not None
        too_old = NOW - run.finished_at > retention.days * (FAILED_KEPT_LONGER if is_failed else 1) * DAY
        assert too_old or len(newer) >= retention.most_runs


def test_a_failure_outlives_the_successes_around_it() -> None:
    runs = [KeptRun("run-failed", RunStatus.FAILED, NOW - 100 * DAY)]
    runs += [KeptRun(f"run-{n}", RunStatus.SUCCEEDED, NOW - timedelta(hours=n)) for n in range(300)]
    dropped = runs_to_drop(runs, Retention(100, 90), NOW)
    assert "run-failed" not in dropped
    assert len(dropped) == 200


def test_a_job_may_keep_less_than_its_plan_not_more() -> None:
    plan = Retention(100, 90)
    assert within(None, plan) == plan
    assert within(Wish(10, 400), plan) == Retention(10, 90)
    assert within(Wish(None, 3), plan) == Retention(100, 3)
    assert from_text(to_text(Wish(10, None))) == Wish(10)


def test_a_run_that_has_only_just_ended_is_kept_whatever_the_count() -> None:
    runs = [KeptRun(f"run-{n}", RunStatus.SUCCEEDED, NOW - n * KEPT_ANYWAY / 3) for n in range(6)]
    assert runs_to_drop(runs, Retention(1, 1), NOW) == ["run-5", "run-4"]
