"""Ids sort by time, and are made of their time and chance alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from oneoff.core.ids import CHANCE_BYTES, has_prefix, make_id

TIMES = st.integers(0, 5 * 10**13).map(lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms))
CHANCES = st.binary(min_size=CHANCE_BYTES, max_size=CHANCE_BYTES)


@given(TIMES, CHANCES)
def test_an_id_holds_its_time_and_what_fits_of_its_chance(moment: datetime, chance: bytes) -> None:
    made = make_id("run", moment, chance)
    assert has_prefix(made, "run")
    digits = made.removeprefix("run-")
    assert int(digits[:9], 36) == int(moment.timestamp() * 1000)
    assert int(digits[9:], 36) == int.from_bytes(chance) % 36**11


@given(TIMES, TIMES, CHANCES, CHANCES)
def test_ids_sort_by_time(first: datetime, second: datetime, one: bytes, other: bytes) -> None:
    if int(first.timestamp() * 1000) < int(second.timestamp() * 1000):
        assert make_id("run", first, one) < make_id("run", second, other)
