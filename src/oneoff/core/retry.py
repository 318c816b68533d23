"""Whether and when a failed run is tried again. Pure; asked when a run has ended."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from oneoff.core.outcome import Outcome
from oneoff.core.run import Reason, RunStatus
from oneoff.errors import InvalidRetries

MOST_RETRIES = 20
MOST_DELAY_SECONDS = 24 * 3600
# `lost` is not among them: the command may have done its work, and nobody is asked whether twice is harmless.
RETRIED_BY_DEFAULT = frozenset(
    {
        Reason.NONZERO_EXIT,
        Reason.KILLED,
        Reason.OOM_KILLED,
        Reason.TIMED_OUT,
        Reason.IMAGE_UNAVAILABLE,
        Reason.START_FAILED,
    }
)
RETRIABLE = RETRIED_BY_DEFAULT | {Reason.LOST}


class BackOff(StrEnum):
    FIXED = "fixed"
    EXPONENTIAL = "exponential"  # doubles from attempt to attempt, up to the cap


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Off while `count` is 0. `exit_codes`, when not empty, narrows ends that have a code to those codes."""

    count: int = 0
    back_off: BackOff = BackOff.EXPONENTIAL
    delay_seconds: int = 10
    most_delay_seconds: int = 3600
    exit_codes: frozenset[int] = frozenset()
    reasons: frozenset[Reason] = RETRIED_BY_DEFAULT


NO_RETRIES = RetryPolicy()


def check_retries(policy: RetryPolicy) -> RetryPolicy:
    """Raises InvalidRetries."""
    if not 0 <= policy.count <= MOST_RETRIES:
        raise InvalidRetries(f"the number of retries must be 0 to {MOST_RETRIES}")
    if not 0 <= policy.delay_seconds <= policy.most_delay_seconds <= MOST_DELAY_SECONDS:
        raise InvalidRetries(f"delays must be 0 to {MOST_DELAY_SECONDS} seconds, the first not above the longest")
    if not all(1 <= code <= 255 for code in policy.exit_codes):
        raise InvalidRetries("exit codes to retry on must be 1 to 255: 0 is success")
    wrong = _names(policy.reasons - RETRIABLE)
    if wrong:
        raise InvalidRetries(f"{wrong} cannot be retried: choose of {_names(RETRIABLE)}")
    if not policy.reasons:
        raise InvalidRetries(
            f"without reasons nothing would be retried: leave them out, or choose of {_names(RETRIABLE)}"
        )
    return policy


def next_attempt_at(
    policy: RetryPolicy, attempt: int, outcome: Outcome, ended_at: datetime, end_by: datetime | None = None
) -> datetime | None:
    """When the attempt after number `attempt` (the first run is 1) begins; None when there is none.

    `end_by` is when the work must have ended: no attempt begins then or later.
    """
    if attempt > policy.count or not _is_retried(policy, outcome):
        return None
    begins = ended_at + timedelta(seconds=delay_seconds(policy, attempt))
    return begins if end_by is None or begins < end_by else None


def delay_seconds(policy: RetryPolicy, attempt: int) -> int:
    """The wait after attempt number `attempt`."""
    if policy.back_off is BackOff.FIXED:
        return min(policy.delay_seconds, policy.most_delay_seconds)
    doublings = min(attempt - 1, MOST_RETRIES)
    return min(policy.delay_seconds << doublings, policy.most_delay_seconds)


def _is_retried(policy: RetryPolicy, outcome: Outcome) -> bool:
    if outcome.status is not RunStatus.FAILED or outcome.reason not in policy.reasons:
        return False
    return not policy.exit_codes or outcome.exit_code is None or outcome.exit_code in policy.exit_codes


def _names(reasons: Collection[Reason]) -> str:
    return ", ".join(sorted(reason.value for reason in reasons))
