"""What a run costs: whole seconds at the exact rate of its instance type, rounded only when shown. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction
from functools import lru_cache

from oneoff.core.run import Reason, Run
from oneoff.core.terms import read_terms

_MICRO = 1_000_000
_SECOND = timedelta(seconds=1)
_NOTHING = Fraction(0)


def billed_until(run: Run) -> datetime | None:
    """The end of the time that counts: a lost run's is the last moment it was seen. None while it goes."""
    if run.reason is Reason.LOST:
        return run.seen_at or run.started_at
    return run.finished_at


def billed_seconds(started_at: datetime, until: datetime) -> int:
    """Whole seconds, rounded up, at least 1."""
    return max(1, -((started_at - until) // _SECOND))


def run_cost(run: Run) -> str:
    """US dollars, as they are shown. Nothing for a run that never started or still goes."""
    until = billed_until(run)
    if run.started_at is None or until is None:
        return format_usd(_NOTHING)
    return _cost(billed_seconds(run.started_at, until), run.terms, run.instance_type)


def format_usd(amount: Fraction) -> str:
    """Six decimals, rounded half up: 1/3 -> 0.333333."""
    micros = (2 * amount.numerator * _MICRO + amount.denominator) // (2 * amount.denominator)
    return f"{micros // _MICRO}.{micros % _MICRO:06d}"


@lru_cache(maxsize=1024)
def _cost(seconds: int, terms: str | None, instance_type: str) -> str:
    """Remembered: fractions are slow, and most runs of a job take as many seconds as the one before."""
    return format_usd(seconds * read_terms(terms, instance_type).usd_per_second)
