"""Time of day by which a run must have ended, the warning before the limit, the extended limit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.cron_strategies import MOMENTS, ZONES

from oneoff.core.windows import TimeOfDay, end_by, limit_within, parse_time_of_day, warning_at
from oneoff.errors import InvalidTimeOfDay

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
TIMES = st.builds(TimeOfDay, st.integers(0, 23), st.integers(0, 59))


@given(TIMES)
def test_a_time_of_day_reads_back(time: TimeOfDay) -> None:
    assert parse_time_of_day(str(time)) == time


@pytest.mark.parametrize("text", ["", "6:30", "24:00", "06:60", "06:30:00", "0630", " 06:30", "٠6:30", "06:30\n"])
def test_what_is_no_time_of_day_is_refused(text: str) -> None:
    with pytest.raises(InvalidTimeOfDay):
        parse_time_of_day(text)


@given(TIMES, st.sampled_from(ZONES), MOMENTS)
@settings(deadline=None)
def test_the_end_is_the_next_time_the_wall_shows_it(time: TimeOfDay, zone: ZoneInfo, after: datetime) -> None:
    moment = end_by(time, zone, after)
    # A change of the clocks moves it, at most by the day that Apia left out.
    assert timedelta(0) < moment - after <= timedelta(hours=49)
    wall = moment.astimezone(zone)
    in_gap = (moment - timedelta(seconds=1)).astimezone(zone).utcoffset() != wall.utcoffset()
    assert (wall.hour, wall.minute, wall.second) == (time.hour, time.minute, 0) or in_gap


def test_a_time_that_the_clocks_leave_out_comes_right_after_the_gap() -> None:
    before = datetime(2026, 3, 29, 0, tzinfo=UTC)
    assert end_by(TimeOfDay(2, 30), ZoneInfo("Europe/Berlin"), before) == datetime(2026, 3, 29, 1, tzinfo=UTC)


@given(st.integers(1, 100_000), st.integers(-5, 100_000))
def test_a_limit_never_reaches_beyond_the_end(timeout: int, left: int) -> None:
    limit = limit_within(timeout, NOON, NOON + timedelta(seconds=left))
    assert limit == max(0, min(timeout, left))
    assert limit_within(timeout, NOON, None) == timeout


@given(st.integers(1, 2_592_000))
def test_the_warning_comes_before_the_limit(timeout: int) -> None:
    assert NOON < warning_at(NOON, timeout) < NOON + timedelta(seconds=timeout)
