"""What a run costs: whole seconds at the exact rate of its instance type, rounded only when shown. Pure."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction

from oneoff.core.run import Reason, Run
from oneoff.core.terms import read_terms

_MICRO = 1_000_000
_NOTHING = Fraction(0)


def billed_until(run: Run) -> datetime | None:
    """The end of the time that counts: a lost run's is the last moment it was seen. None while it goes."""
    if run.reason is Reason.LOST:
        return run.seen_at or run.started_at
    return run.finished_at


def billed_seconds(started_at: datetime, until: datetime) -> int:
    """Whole seconds, rounded up, at least 1."""
    span = until - started_at
    return max(1, -(-(span.days * 86_400 * _MICRO + span.seconds * _MICRO + span.microseconds) // _MICRO))


def run_cost(run: Run) -> Fraction:
    """US dollars, exact. Nothing for a run that never started or still goes."""
    until = billed_until(run)
    if run.started_at is None or until is None:
        return _NOTHING
    return billed_seconds(run.started_at, until) * read_terms(run.terms, run.instance_type).usd_per_second


def format_usd(amount: Fraction) -> str:
    """Six decimals, rounded half up: 1/3 -> 0.333333."""
    micros = (2 * amount.numerator * _MICRO + amount.denominator) // (2 * amount.denominator)
    return f"{micros // _MICRO}.{micros % _MICRO:06d}"
