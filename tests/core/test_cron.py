"""Instants, counts, smallest gaps and previews of crons, by example and by property."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from operator import sub
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.cron_strategies import MOMENTS, TIMINGS

from oneoff.core import cron_gap
from oneoff.core.cron import (
    Timing,
    count_instants,
    instants,
    last_instants,
    next_instant,
    seconds_between,
    to_second,
)
from oneoff.core.cron_expression import parse_cron
from oneoff.core.cron_gap import smallest_gap
from oneoff.core.cron_preview import DstMark, preview
from oneoff.core.dst import DstPolicy

BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
SPRING = datetime(2026, 3, 28, 23, tzinfo=UTC)  # 00:00 in Berlin; at 02:00 it is 03:00
AUTUMN = datetime(2026, 10, 24, 22, tzinfo=UTC)  # 00:00 in Berlin; at 03:00 it is 02:00
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def timing(text: str, zone: ZoneInfo = BERLIN, policy: str = "debian") -> Timing:
    return Timing(parse_cron(text), zone, DstPolicy(policy))


def walls(text: str, policy: str, after: datetime, hours: int = 5) -> list[str]:
    found = instants(timing(text, BERLIN, policy), after, after + timedelta(hours=hours))
    return [each.astimezone(BERLIN).strftime("%H:%M%z")[:-2] for each in found]


@pytest.mark.parametrize(
    ("text", "policy", "expected"),
    [
        ("30 2 * * *", "debian", ["03:00+02"]),
        ("30 2 * * *", "every", ["03:00+02"]),
        ("30 2 * * *", "skip", []),
        ("0,20,40 2 * * *", "debian", ["03:00+02"]),  # three left out, one in their place
        ("0 2,3 * * *", "debian", ["03:00+02"]),  # the same instant is not two
        ("*/30 2 * * *", "debian", []),  # real time never shows it
        ("0 0-23 * * *", "debian", ["01:00+01", "03:00+02", "04:00+02", "05:00+02"]),
        ("0 * * * *", "debian", ["01:00+01", "03:00+02", "04:00+02", "05:00+02"]),
    ],
)
def test_in_the_gap(text: str, policy: str, expected: list[str]) -> None:
    assert walls(text, policy, SPRING + timedelta(minutes=1), 4) == expected


@pytest.mark.parametrize(
    ("text", "policy", "expected"),
    [
        ("30 2 * * *", "debian", ["02:30+02"]),
        ("30 2 * * *", "skip", ["02:30+02"]),
        ("30 2 * * *", "every", ["02:30+02", "02:30+01"]),
        ("*/30 2 * * *", "debian", ["02:00+02", "02:30+02", "02:00+01", "02:30+01"]),
        ("*/30 2 * * *", "every", ["02:00+02", "02:30+02", "02:00+01", "02:30+01"]),
        ("*/30 2 * * *", "skip", ["02:00+02", "02:30+02"]),
        ("0 * * * *", "debian", ["01:00+02", "02:00+02", "02:00+01", "03:00+01"]),
        ("0 0-23 * * *", "debian", ["01:00+02", "02:00+02", "03:00+01"]),
    ],
)
def test_in_the_overlap(text: str, policy: str, expected: list[str]) -> None:
    assert walls(text, policy, AUTUMN + timedelta(minutes=1), 4) == expected


def test_after_the_first_of_two_has_fired_the_second_does_not() -> None:
    between = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)  # 02:10 the second time
    assert next_instant(timing("30 2 * * *"), between) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_a_day_that_a_zone_leaves_out_still_has_its_nightly_run() -> None:
    apia = ZoneInfo("Pacific/Apia")  # had no 30 December 2011
    found = instants(timing("0 12 * * *", apia), datetime(2011, 12, 28, tzinfo=UTC))
    days = [each.astimezone(apia).strftime("%d %H:%M") for each in islice(found, 4)]
    assert days == ["28 12:00", "29 12:00", "31 00:00", "31 12:00"]


def test_times_that_a_zone_always_leaves_out_have_no_instant() -> None:
    assert next_instant(timing("* 2 * 3 7L"), NOW) is None


def test_the_29th_of_february_on_a_given_weekday_comes_over_2100_too() -> None:
    utc = ZoneInfo("UTC")
    found = next_instant(timing("0 0 29 2 */7", utc), datetime(2088, 3, 1, tzinfo=UTC))  # a Sunday
    assert found == datetime(2128, 2, 29, tzinfo=UTC)


def test_it_ends_where_the_calendar_of_python_ends() -> None:
    assert next_instant(timing("0 0 1 1 *"), datetime(9998, 11, 30, tzinfo=UTC)) is None


@given(TIMINGS, MOMENTS, st.integers(0, 40 * 86_400))
@settings(max_examples=150, deadline=None)
def test_counting_and_the_last_ones_agree_with_making_each(timing: Timing, after: datetime, seconds: int) -> None:
    until = after + timedelta(seconds=seconds)
    made = list(instants(timing, after, until))
    assert all(after < each <= until for each in made)
    assert all(first < second for first, second in pairwise(made))
    assert count_instants(timing, after, until) == len(made)
    assert last_instants(timing, after, until, 3) == made[-3:]


@given(TIMINGS, MOMENTS, st.integers(0, 400 * 86_400))
@settings(max_examples=100, deadline=None)
def test_asking_from_anywhere_gives_the_same_instants(timing: Timing, after: datetime, seconds: int) -> None:
    middle = after + timedelta(seconds=seconds)
    first = next_instant(timing, middle)
    if first is not None and first < middle + timedelta(days=400):
        assert count_instants(timing, after, first) == count_instants(timing, after, middle) + 1
        assert last_instants(timing, after, first, 1) == [first]


@pytest.mark.parametrize("change", [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)])
@pytest.mark.parametrize("policy", list(DstPolicy))
def test_a_long_stretch_has_the_instants_of_its_parts(change: datetime, policy: DstPolicy) -> None:
    half_hours = timing("0,30 0-23 * * *", BERLIN, policy)
    until = change + timedelta(days=4)
    for minutes in range(-60 * 26, 60 * 60, 29):  # long stretches are cut here and there, also right after a change
        start = change - timedelta(days=300) + timedelta(minutes=minutes)
        expected = list(instants(half_hours, change - timedelta(hours=3), until))
        assert last_instants(half_hours, start, until, len(expected)) == expected
        assert count_instants(half_hours, start, until) == count_instants(
            half_hours, start, change - timedelta(hours=3)
        ) + len(expected)


def test_a_year_of_minutes_is_counted_without_walking_it() -> None:
    every_minute = timing("* * * * *")
    year = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    assert count_instants(every_minute, *year) == 365 * 24 * 60
    assert last_instants(every_minute, *year, 1) == [year[1]]


@pytest.mark.parametrize(
    ("text", "zone", "policy", "gap"),
    [
        ("*/5 * * * *", "Europe/Berlin", "debian", "0:05:00"),
        ("*/7 * * * *", "Europe/Berlin", "debian", "0:04:00"),  # 56 to 00
        ("*/40 * * * *", "UTC", "debian", "0:20:00"),
        ("30,59 * * * *", "UTC", "debian", "0:29:00"),
        ("30,59 * * * *", "Australia/Lord_Howe", "debian", "0:01:00"),  # 01:59, then 01:30 again
        ("0,59 2 * * *", "Europe/Berlin", "every", "0:01:00"),
        ("0,59 2 * * *", "Europe/Berlin", "debian", "0:59:00"),
        ("2,30 2,3 * * *", "Europe/Berlin", "debian", "0:02:00"),  # 02:02 at 03:00, then 03:02
        ("2,30 2,3 * * *", "Europe/Berlin", "skip", "0:28:00"),
        ("59 23 * * *", "UTC", "debian", "1 day, 0:00:00"),
        ("0 0 * * *", "Europe/Berlin", "debian", "23:00:00"),
        ("0,30 2 * 3 7L", "Europe/Berlin", "debian", "364 days, 0:00:00"),  # its half hours are always in the gap
        ("0,30 2 * 3 7L", "UTC", "debian", "0:30:00"),
        ("0 0 29 2 *", "UTC", "debian", "1461 days, 0:00:00"),
        ("0 0 1 * *", "UTC", "debian", "28 days, 0:00:00"),
    ],
)
def test_the_smallest_gap_is_the_real_one(text: str, zone: str, policy: str, gap: str) -> None:
    found = smallest_gap(timing(text, ZoneInfo(zone), policy), NOW)
    assert found is not None
    assert str(timedelta(seconds=found.seconds)) == gap
    assert found.second - found.first == timedelta(seconds=found.seconds)
    assert next_instant(timing(text, ZoneInfo(zone), policy), found.first) == found.second


def test_an_expression_that_never_fires_has_no_gap() -> None:
    assert smallest_gap(timing("* 2 * 3 7L"), NOW) is None


@given(TIMINGS, st.integers(2009, 2030))
@settings(max_examples=60, deadline=None)
def test_the_smallest_gap_agrees_with_trying_all(timing: Timing, year: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cron_gap, "HORIZON_YEARS", 1)
        found = cron_gap._smallest_pair.__wrapped__(timing, year)
    begin, end = (to_second(datetime(each, 1, 1, tzinfo=UTC)) for each in (year, year + 1))

    made = list(seconds_between(timing, begin - 3 * 86_400, end + 3 * 86_400))

    def smallest(since: int, until: int) -> int | None:
        within = [each for each in made if since < each <= until]
        return min(map(sub, within[1:], within), default=None)

    inner = smallest(begin + 3 * 86_400, end - 3 * 86_400)
    outer = smallest(begin - 3 * 86_400, end + 3 * 86_400)
    assert inner is None or (found is not None and found.seconds <= inner)
    assert found is None or (outer is not None and outer <= found.seconds)


@pytest.mark.parametrize(
    ("policy", "after", "expected"),
    [
        ("debian", SPRING, [("03:00", DstMark.AFTER_GAP), ("02:30", None)]),
        ("skip", SPRING, [("02:30", DstMark.SKIPPED_IN_GAP), ("02:30", None), ("02:30", None)]),
        ("debian", AUTUMN, [("02:30", DstMark.FIRST_OF_TWO), ("02:30", None)]),
        ("every", AUTUMN, [("02:30", DstMark.FIRST_OF_TWO), ("02:30", DstMark.SECOND_OF_TWO)]),
    ],
)
def test_a_preview_marks_what_a_change_of_the_clocks_did(
    policy: str, after: datetime, expected: list[tuple[str, DstMark | None]]
) -> None:
    shown = preview(timing("30 2 * * *", BERLIN, policy), after, 2)
    assert [(each.wall.strftime("%H:%M"), each.mark) for each in shown] == expected
    assert all((each.moment is None) == (each.mark is DstMark.SKIPPED_IN_GAP) for each in shown)


@given(TIMINGS, MOMENTS, st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_a_preview_holds_the_next_instants(timing: Timing, after: datetime, count: int) -> None:
    shown = preview(timing, after, count)
    fired = [each for each in shown if each.moment is not None]
    assert [each.moment for each in fired] == list(islice(instants(timing, after), count))
    for each in fired:
        assert each.moment is not None
        assert each.moment.astimezone(timing.zone).replace(tzinfo=None) == each.wall
