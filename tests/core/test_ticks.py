"""What is due and what becomes of it, against a model that looks at one instant after the other."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneoff.core.cron import Timing, instants
from oneoff.core.cron_expression import parse_cron
from oneoff.core.firing import Surroundings, obstacle
from oneoff.core.ticks import (
    MOST_CAUGHT_UP,
    MOST_SINGLE_ROWS,
    PUNCTUAL,
    Absence,
    CatchUp,
    Schedule,
    TickOutcome,
    check_schedule,
    count_ticks,
    fire_time,
    is_overdue,
    next_fire,
    settle,
)
from oneoff.errors import InvalidSchedule

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
PAUSED, HELD, SUSPENDED = TickOutcome.PAUSED, TickOutcome.HELD_BY_DEPLOY, TickOutcome.SUSPENDED


def schedule(text: str = "*/5 * * * *", **more: object) -> Schedule:
    return Schedule("cron-0123456789abcdefghij", Timing(parse_cron(text), BERLIN), **more)  # type: ignore[arg-type]


SCHEDULES = st.builds(
    Schedule,
    st.just("cron-0123456789abcdefghij"),
    st.sampled_from(["* * * * *", "*/5 * * * *", "0 * * * *", "30 2 * * *", "7,8 3 * * MON"]).map(
        lambda text: Timing(parse_cron(text), BERLIN)
    ),
    st.sampled_from(CatchUp),
    st.integers(60, 3 * 86_400),
    st.sampled_from([0, 20, 59]),
    st.none() | st.integers(-4000, 100).map(lambda minutes: NOON + minutes * MINUTE),
    st.none() | st.integers(-3000, 5000).map(lambda minutes: NOON + minutes * MINUTE),
)
EDGES = st.integers(-300_000, 600).map(
    lambda seconds: NOON + timedelta(seconds=seconds, milliseconds=seconds % 3 * 333)
)
ABSENCES = st.lists(
    st.builds(
        lambda edges, open_ended, outcome: Absence(min(edges), None if open_ended else max(edges), outcome),
        st.tuples(EDGES, EDGES),
        st.booleans(),
        st.sampled_from([PAUSED, HELD, SUSPENDED]),
    ),
    max_size=3,
)
SPANS = st.integers(0, 250_000).map(lambda seconds: NOON - timedelta(seconds=seconds, milliseconds=17))


def model(
    plan: Schedule, cursor: datetime, now: datetime, absences: Sequence[Absence]
) -> dict[datetime, TickOutcome | None]:
    """Each due instant and what becomes of it; None = it fires. As the docstrings say it, one by one."""
    covering = {id(each) for each in absences if each.covers(now)}
    if any(each.outcome is HELD for each in absences if id(each) in covering):
        return {}
    closed = next((each.outcome for each in absences if id(each) in covering), None)
    due: dict[datetime, TickOutcome | None] = {}
    open_ones = []
    for instant in instants(plan.timing, cursor, now):
        if (plan.starts_at and instant < plan.starts_at) or (plan.ends_at and instant >= plan.ends_at):
            continue
        if fire_time(plan, instant) > now:
            break
        absence = next((each.outcome for each in absences if each.covers(instant)), None)
        due[instant] = absence or TickOutcome.MISSED
        if absence in (None, HELD):
            open_ones.append(instant)
    punctual = [each for each in open_ones if now - fire_time(plan, each) <= PUNCTUAL]
    late = [e for e in open_ones if e not in punctual and now - e <= timedelta(seconds=plan.window_seconds)]
    if closed is not None:
        due |= {each: closed for each in punctual if due[each] is TickOutcome.MISSED}
        return due
    chosen = set(punctual)
    if plan.catch_up is CatchUp.ALL:
        chosen |= set(late[-MOST_CAUGHT_UP:])
    elif plan.catch_up is CatchUp.LATEST and not punctual:
        chosen |= set(late[-1:])
    return due | dict.fromkeys(chosen)


@given(SCHEDULES, SPANS, ABSENCES)
@settings(max_examples=300, deadline=None)
def test_every_due_instant_has_one_place_and_the_right_one(
    plan: Schedule, cursor: datetime, absences: list[Absence]
) -> None:
    expected = model(plan, cursor, NOON, absences)
    due = settle(plan, cursor, NOON, absences)
    assert list(due.to_fire) == [each for each, outcome in expected.items() if outcome is None]
    told = dict.fromkeys(due.to_fire)
    for row in due.rows:
        covered = [each for each in expected if row.first <= each <= row.last]
        assert len(covered) == row.count
        assert {expected[each] for each in covered} - {row.outcome} <= {PAUSED, SUSPENDED}
        assert row.count == 1 or row.count > MOST_SINGLE_ROWS - MOST_CAUGHT_UP
        assert not told.keys() & set(covered)
        told |= dict.fromkeys(covered)
    assert told.keys() == expected.keys()
    assert due.cursor >= cursor
    assert len(due.rows) <= (2 * len(absences) + 1) * MOST_SINGLE_ROWS


@given(SCHEDULES, SPANS, st.lists(st.integers(1, 90_000), max_size=6))
@settings(max_examples=150, deadline=None)
def test_looking_often_or_seldom_no_instant_is_told_twice_or_left_out(
    plan: Schedule, cursor: datetime, steps: list[int]
) -> None:
    told: list[datetime] = []
    at, start = cursor, cursor
    for step in steps:
        now = max(at, start) + timedelta(seconds=step)
        due = settle(plan, at, now)
        told += due.to_fire
        for row in due.rows:
            told += instants(plan.timing, row.first - MINUTE / 2, row.last)
        start, at = now, due.cursor
    assert len(told) == len(set(told))
    if steps:
        wanted = [
            each
            for each in instants(plan.timing, cursor, start)
            if (not plan.starts_at or each >= plan.starts_at)
            and (not plan.ends_at or each < plan.ends_at)
            and fire_time(plan, each) <= start
        ]
        assert sorted(told) == wanted


def test_a_tick_on_time_fires() -> None:
    due = settle(schedule(), NOON - MINUTE, NOON + timedelta(milliseconds=40))
    assert due.to_fire == (NOON,)
    assert not due.rows
    assert settle(schedule(), due.cursor, NOON + MINUTE).to_fire == ()


def test_after_a_night_down_the_latest_fires_and_the_others_are_missed() -> None:
    due = settle(schedule("0 * * * *"), NOON - 8 * HOUR, NOON + 30 * MINUTE)
    assert due.to_fire == (NOON,)
    assert [row.outcome for row in due.rows] == [TickOutcome.MISSED] * 7


def test_the_latest_is_missed_too_when_it_is_older_than_the_window() -> None:
    due = settle(schedule("0 * * * *", window_seconds=600), NOON - 8 * HOUR, NOON + 30 * MINUTE)
    assert due.to_fire == ()
    assert len(due.rows) == 8


def test_all_are_caught_up_to_a_bound() -> None:
    due = settle(schedule(catch_up=CatchUp.ALL), NOON - DAY, NOON + 2 * MINUTE)
    assert len(due.to_fire) == MOST_CAUGHT_UP
    assert due.to_fire[-1] == NOON
    assert sum(row.count for row in due.rows) == 288 - MOST_CAUGHT_UP


def test_a_year_of_missed_minutes_is_one_row() -> None:
    due = settle(schedule("* * * * *", catch_up=CatchUp.NONE), NOON - 365 * DAY, NOON - MINUTE / 2 + HOUR)
    long = [row for row in due.rows if row.count > 1]
    assert len(long) == 1
    assert long[0].first == NOON - 365 * DAY + MINUTE
    assert long[0].outcome is TickOutcome.MISSED
    assert sum(row.count for row in due.rows) + len(due.to_fire) == 365 * 24 * 60 + 59


def test_pauses_are_told_apart_from_being_away() -> None:
    pause = Absence(NOON - 3 * HOUR, NOON - HOUR, PAUSED)
    due = settle(schedule("30 * * * *"), NOON - 5 * HOUR, NOON, [pause])
    assert [row.outcome.value for row in due.rows] == ["missed", "missed", "paused", "paused"]
    assert due.to_fire == (NOON - 30 * MINUTE,)


def test_a_paused_cron_does_not_catch_up_what_was_due_before_the_pause() -> None:
    due = settle(schedule("30 * * * *"), NOON - 2 * HOUR, NOON, [Absence(NOON - MINUTE, None, PAUSED)])
    assert due.to_fire == ()
    assert [row.outcome.value for row in due.rows] == ["missed", "missed"]


def test_a_deploy_holds_ticks_and_the_latest_fires_after_it() -> None:
    began, ended = NOON - timedelta(seconds=30), NOON + 11 * MINUTE
    held = settle(schedule(), NOON - MINUTE, NOON + 6 * MINUTE, [Absence(began, None, HELD)])
    assert (held.to_fire, held.rows, held.cursor) == ((), (), NOON - MINUTE)
    freed = settle(schedule(), held.cursor, ended + 2 * MINUTE, [Absence(began, ended, HELD)])
    assert freed.to_fire == (NOON + 10 * MINUTE,)
    assert [row.outcome for row in freed.rows] == [HELD, HELD]


def test_a_clock_that_was_set_back_fires_nothing_twice() -> None:
    due = settle(schedule(), NOON + MINUTE, NOON - HOUR)
    assert (due.to_fire, due.rows, due.cursor) == ((), (), NOON + MINUTE)


@given(SCHEDULES, SPANS)
@settings(max_examples=100, deadline=None)
def test_the_next_fire_is_when_settling_first_has_something_to_do(plan: Schedule, cursor: datetime) -> None:
    at = next_fire(plan, cursor)
    if at is not None:
        before = settle(plan, cursor, at - timedelta(seconds=1))
        assert not before.to_fire
        assert not before.rows
        assert settle(plan, cursor, at).to_fire


@given(st.integers(0, 3600), st.text(min_size=1, max_size=20), st.integers(0, 10_000))
def test_jitter_is_the_same_for_one_cron_and_instant_and_within_its_bound(most: int, cron_id: str, minute: int) -> None:
    plan = Schedule(cron_id, schedule().timing, jitter_seconds=most)
    instant = NOON + minute * MINUTE
    assert fire_time(plan, instant) == fire_time(Schedule(cron_id, plan.timing, jitter_seconds=most), instant)
    assert timedelta(0) <= fire_time(plan, instant) - instant <= timedelta(seconds=most)


def test_jitter_spreads_crons() -> None:
    moments = {fire_time(Schedule(f"cron-{n}", schedule().timing, jitter_seconds=600), NOON) for n in range(100)}
    assert len(moments) > 50


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"starts_at": NOON, "ends_at": NOON}, "ends_at"),
        ({"starts_at": datetime.min.replace(tzinfo=UTC)}, "starts_at"),
        ({"ends_at": datetime.max.replace(tzinfo=UTC)}, "ends_at"),
        ({"window_seconds": 59}, "catch_up_window_seconds"),
        ({"window_seconds": 31 * 86_400}, "catch_up_window_seconds"),
        ({"jitter_seconds": -1}, "jitter_seconds"),
        ({"jitter_seconds": 300}, "jitter_seconds"),  # as long as the gap of five minutes
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused(more: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        check_schedule(schedule(**more), NOON)
    assert caught.value.field == field


def test_a_sound_schedule_is_taken() -> None:
    check_schedule(schedule(jitter_seconds=299, starts_at=NOON, ends_at=NOON + DAY), NOON)
    check_schedule(schedule("0 3 * * *", jitter_seconds=3600), NOON)


@given(SCHEDULES, SPANS, st.integers(1, 50), st.integers(0, 7200))
@settings(max_examples=100, deadline=None)
def test_the_dead_man_wakes_exactly_at_the_expected_tick(
    plan: Schedule, since: datetime, expected: int, grace_seconds: int
) -> None:
    grace = timedelta(seconds=grace_seconds)
    assert is_overdue(plan, since, NOON, expected, grace) == (count_ticks(plan, since, NOON - grace) >= expected)
    assert not is_overdue(plan, since, since, expected, grace)


def test_the_dead_man_counts_ticks_not_hours() -> None:
    monday_only = schedule("0 3 * * MON")
    assert not is_overdue(monday_only, NOON, NOON + 6 * DAY, 1, HOUR)
    assert is_overdue(monday_only, NOON, NOON + 7 * DAY, 1, HOUR)
    assert not is_overdue(monday_only, NOON, NOON + 700 * DAY, 0, HOUR)


@given(st.builds(Surroundings, *[st.booleans()] * 5, st.none() | st.just("the disk is full")))
def test_what_stands_in_the_way_is_told_in_a_fixed_order(around: Surroundings) -> None:
    told = obstacle(around)
    if around.is_paused:
        assert told is PAUSED
    elif around.is_suspended:
        assert told is SUSPENDED
    elif around.is_blocked_by_plan:
        assert told is TickOutcome.BLOCKED_BY_PLAN
    elif around.is_held_by_deploy:
        assert told is HELD
    elif not around.has_live_image:
        assert told is TickOutcome.NO_LIVE_IMAGE
    else:
        assert (told is TickOutcome.REFUSED) == (around.refusal is not None)


def test_rows_come_in_order() -> None:
    due = settle(schedule(), NOON - DAY, NOON, [Absence(NOON - 3 * HOUR, NOON - HOUR, PAUSED)])
    assert all(first.last < second.first for first, second in pairwise(due.rows))
