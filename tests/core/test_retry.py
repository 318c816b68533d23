"""Retries: how often, when, and on which ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneoff.core.outcome import Outcome
from oneoff.core.retry import (
    MOST_RETRIES,
    NO_RETRIES,
    RETRIABLE,
    BackOff,
    RetryPolicy,
    check_retries,
    delay_seconds,
    next_attempt_at,
)
from oneoff.core.run import REASONS, Reason, RunStatus
from oneoff.errors import InvalidRetries

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
EXIT_1 = Outcome(RunStatus.FAILED, Reason.NONZERO_EXIT, 1)
ENDS = st.sampled_from([(status, reason) for status, reasons in REASONS.items() for reason in sorted(reasons)])
OUTCOMES = st.builds(lambda end, code: Outcome(*end, code), ENDS, st.none() | st.integers(0, 255))
POLICIES = st.builds(
    RetryPolicy,
    st.integers(0, MOST_RETRIES),
    st.sampled_from(BackOff),
    st.integers(0, 600),
    st.integers(600, 7200),
    st.frozensets(st.integers(1, 255), max_size=3),
    st.frozensets(st.sampled_from(sorted(RETRIABLE)), min_size=1),
)


@given(OUTCOMES, st.integers(1, 100))
def test_retries_are_off_unless_asked_for(outcome: Outcome, attempt: int) -> None:
    assert next_attempt_at(NO_RETRIES, attempt, outcome, NOON) is None


@given(POLICIES, OUTCOMES, st.integers(1, 30))
def test_only_failures_of_a_chosen_reason_and_code_are_tried_again(
    policy: RetryPolicy, outcome: Outcome, attempt: int
) -> None:
    at = next_attempt_at(policy, attempt, outcome, NOON)
    chosen = outcome.reason in policy.reasons and outcome.status is RunStatus.FAILED
    if policy.exit_codes and outcome.exit_code is not None:
        chosen = chosen and outcome.exit_code in policy.exit_codes
    assert (at is not None) == (chosen and attempt <= policy.count)
    assert at is None or timedelta(0) <= at - NOON <= timedelta(seconds=policy.most_delay_seconds)


@given(POLICIES, OUTCOMES)
def test_a_run_has_at_most_count_retries(policy: RetryPolicy, outcome: Outcome) -> None:
    attempts = 1
    while next_attempt_at(policy, attempts, outcome, NOON) is not None:
        attempts += 1
    assert attempts <= policy.count + 1


@given(POLICIES, st.integers(1, MOST_RETRIES))
def test_the_wait_never_shrinks_and_doubles_up_to_its_cap(policy: RetryPolicy, attempt: int) -> None:
    now, later = delay_seconds(policy, attempt), delay_seconds(policy, attempt + 1)
    assert now <= later <= policy.most_delay_seconds
    if policy.back_off is BackOff.FIXED:
        assert now == later
    elif later < policy.most_delay_seconds:
        assert later == 2 * now


@given(POLICIES, OUTCOMES, st.integers(1, 5), st.integers(-600, 8000))
def test_no_attempt_begins_when_the_work_must_have_ended(
    policy: RetryPolicy, outcome: Outcome, attempt: int, seconds: int
) -> None:
    end_by = NOON + timedelta(seconds=seconds)
    free = next_attempt_at(policy, attempt, outcome, NOON)
    bound = next_attempt_at(policy, attempt, outcome, NOON, end_by)
    assert bound == (free if free is not None and free < end_by else None)


def test_a_lost_run_is_retried_only_when_asked_for() -> None:
    lost = Outcome(RunStatus.FAILED, Reason.LOST)
    assert next_attempt_at(RetryPolicy(3), 1, lost, NOON) is None
    assert next_attempt_at(RetryPolicy(3, reasons=frozenset({Reason.LOST})), 1, lost, NOON) is not None


def test_waits_of_an_exponential_back_off() -> None:
    policy = RetryPolicy(6, BackOff.EXPONENTIAL, 10, 100)
    assert [delay_seconds(policy, attempt) for attempt in range(1, 7)] == [10, 20, 40, 80, 100, 100]


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (RetryPolicy(-1), "0 to 20"),
        (RetryPolicy(21), "0 to 20"),
        (RetryPolicy(1, delay_seconds=-1), "delays"),
        (RetryPolicy(1, delay_seconds=60, most_delay_seconds=30), "not above"),
        (RetryPolicy(1, most_delay_seconds=90_000), "86400"),
        (RetryPolicy(1, exit_codes=frozenset({0})), "1 to 255"),
        (RetryPolicy(1, reasons=frozenset({Reason.CANCELED})), "canceled cannot be retried"),
        (RetryPolicy(1, reasons=frozenset({Reason.COMPLETED})), "completed cannot be retried"),
        (
            RetryPolicy(1, reasons=frozenset()),
            "nothing would be retried: leave them out, or choose of image_unavailable",
        ),
    ],
)
def test_a_policy_that_cannot_be_is_refused(policy: RetryPolicy, words: str) -> None:
    with pytest.raises(InvalidRetries, match=words):
        check_retries(policy)


@given(POLICIES)
def test_a_sound_policy_is_taken(policy: RetryPolicy) -> None:
    assert check_retries(policy) is policy
    assert next_attempt_at(policy, 1, EXIT_1, NOON) is None or policy.count
