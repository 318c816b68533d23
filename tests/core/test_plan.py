"""The table of plans, one from a file, and the refusals."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.cron_strategies import TIMINGS

from oneoff.core.cron import Timing
from oneoff.core.cron_expression import parse_cron
from oneoff.core.cron_gap import smallest_gap
from oneoff.core.plan import (
    PLANS,
    Plan,
    check_cron_gap,
    check_has_jobs,
    check_token_room,
    parse_plans,
    room_for_runs,
)
from oneoff.core.retention import Retention
from oneoff.errors import CronTooFrequent, PlanHasNoJobs, PlanTokensUsedUp, SettingsInvalid

NOW = datetime(2026, 11, 22, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
FULL = {
    "name": "Large",
    "longest_run": "12h",
    "smallest_cron_gap": "2m",
    "runs_at_once": 50,
    "kept_runs": 500,
    "kept_days": 30,
    "requests_per_minute": 200,
    "tokens": 3,
}


def test_the_table_is_the_product_s() -> None:
    assert PLANS["pro"] == Plan("Pro", 86_400, True, 300, 10, 100, 90, 100, 5)
    assert PLANS["team"] == Plan("Team", 30 * 86_400, True, 60, 100, 1000, 365, 500, 20)
    assert not PLANS["starter"].has_jobs
    assert PLANS["pro"].retention == Retention(100, 90)


def test_a_plan_without_jobs_names_those_that_have_them() -> None:
    with pytest.raises(PlanHasNoJobs, match=r"the Starter plan has no jobs and runs: change to Pro or Team with"):
        check_has_jobs(PLANS["starter"])
    check_has_jobs(PLANS["pro"])


def test_a_cron_too_frequent_is_told_its_worst_gap_and_the_limit() -> None:
    with pytest.raises(CronTooFrequent) as caught:
        check_cron_gap(PLANS["pro"], Timing(parse_cron("2,30 2,3 * * *"), BERLIN), NOW)
    words = str(caught.value)
    assert "twice within 2m" in words
    assert "2026-03-29 03:00 CEST and 2026-03-29 03:02 CEST" in words
    assert "the Pro plan allows one instant every 5m" in words


@given(TIMINGS, st.sampled_from([60, 300, 3600, 86_400]))
@settings(max_examples=60, deadline=None)
def test_a_cron_is_refused_exactly_when_its_smallest_gap_is_below_the_plan_s(timing: Timing, least: int) -> None:
    plan = Plan("Some", 3600, smallest_cron_gap_seconds=least)
    gap = smallest_gap(timing, NOW)
    try:
        check_cron_gap(plan, timing, NOW)
        refused = False
    except CronTooFrequent:
        refused = True
    assert refused == (gap is not None and gap.seconds < least)


def test_tokens_and_runs_are_counted() -> None:
    check_token_room(PLANS["pro"], 4)
    with pytest.raises(PlanTokensUsedUp, match="allows 5 tokens"):
        check_token_room(PLANS["pro"], 5)
    assert [room_for_runs(PLANS["pro"], going) for going in (0, 9, 10, 99)] == [10, 1, 0, 0]


def test_a_table_of_an_operator_is_read() -> None:
    plans = parse_plans({"free": {"has_jobs": False}, "large": FULL})
    assert plans["large"] == Plan("Large", 12 * 3600, True, 120, 50, 500, 30, 200, 3)
    assert plans["free"] == Plan("free", 0, False, 0, 0, 0, 0, 0, 1)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([], "at least one plan"),
        ({}, "at least one plan"),
        ({"large": 5}, "must be a table of fields"),
        ({"large": {**FULL, "speed": 1}}, "there is no field speed"),
        ({"large": {**FULL, "tokens": 0}}, "tokens must be a whole number"),
        ({"large": {**FULL, "tokens": True}}, "tokens must be a whole number"),
        ({"large": {**FULL, "has_jobs": "yes"}}, "true or false"),
        ({"large": {**FULL, "longest_run": "soon"}}, "longest_run: 'soon' is no duration"),
        ({"large": {**FULL, "longest_run": "31d"}}, "ceiling of 30d"),
        ({"large": {key: value for key, value in FULL.items() if key != "kept_runs"}}, "kept_runs must be"),
        ({"free": {"has_jobs": False}}, "no plan has jobs"),
    ],
)
def test_a_wrong_table_is_refused(table: object, words: str) -> None:
    with pytest.raises(SettingsInvalid, match=words):
        parse_plans(table)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        parse_plans({"large": {**FULL, "tokens": -1, "kept_days": "x", "longest_run": "?"}})
    assert str(caught.value).count("plan large") == 3
