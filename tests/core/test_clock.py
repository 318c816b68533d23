"""Instants as the store keeps them, and as they are told: exact to the microsecond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oneoff.core.clock import from_us, to_text, to_us

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW_US, YEAR_9999_US = 1_795_800_000_000_000, 253_370_764_800_000_000


@given(st.integers(-NOW_US, YEAR_9999_US) | st.integers(NOW_US, 2 * NOW_US))
@example(0)
@example(-1)
@example(2**33 * 1_000_000 - 1)
@example(2**33 * 1_000_000)
def test_microseconds_are_exact(us: int) -> None:
    assert from_us(us) == EPOCH + timedelta(microseconds=us)


@given(st.integers(0, 2 * NOW_US))
def test_an_instant_comes_back_as_it_was_kept(us: int) -> None:
    assert to_us(from_us(us)) == us


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 11, 22, 10, 26, 23, 120_000, UTC), "2026-11-22T10:26:23.12Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 6, UTC), "2026-01-02T03:04:05.000006Z"),
        (datetime(2030, 10, 20, 0, 0, 0, 0, UTC), "2030-10-20T00:00:00Z"),
    ],
)
def test_an_instant_is_told_without_trailing_zeros(moment: datetime, text: str) -> None:
    assert to_text(moment) == text


@given(st.datetimes())
def test_what_is_told_is_the_instant(moment: datetime) -> None:
    assert datetime.fromisoformat(to_text(moment)) == moment.replace(tzinfo=UTC)
