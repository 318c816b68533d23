"""Whole seconds, exact rates, one rounding."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneoff.core.money import billed_seconds, format_usd

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("span", "seconds"),
    [
        (timedelta(0), 1),
        (timedelta(microseconds=1), 1),
        (timedelta(seconds=1), 1),
        (timedelta(seconds=1, microseconds=1), 2),
        (timedelta(days=30), 2_592_000),
        (timedelta(seconds=-5), 1),  # clocks that were set back
    ],
)
def test_seconds_are_rounded_up_and_at_least_one(span: timedelta, seconds: int) -> None:
    assert billed_seconds(START, START + span) == seconds


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Fraction(0), "0.000000"),
        (Fraction(5, 10_000_000), "0.000001"),
        (Fraction(49, 100_000_000), "0.000000"),
        (Fraction(1, 3), "0.333333"),
        (Fraction(2, 3), "0.666667"),
        (Fraction(7), "7.000000"),
        (Fraction(7 * 3600, 30 * 86_400), "0.009722"),
    ],
)
def test_dollars_are_rounded_half_up_to_six_decimals(amount: Fraction, text: str) -> None:
    assert format_usd(amount) == text


@given(st.fractions(min_value=0, max_value=10**6))
def test_rounding_is_never_off_by_more_than_half_a_millionth(amount: Fraction) -> None:
    assert abs(Fraction(format_usd(amount)) - amount) <= Fraction(1, 2_000_000)
