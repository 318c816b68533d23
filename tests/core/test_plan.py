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
    check_longest_run,
    check_token_room,
    find_plan_id,
    first_plan_id,
    parse_plans,
    plan_of,
    room_for_runs,
)
from oneoff.core.retention import Retention
from oneoff.errors import (
    CronTooFrequent,
    PlanHasNoJobs,
    PlanNotOffered,
    PlanTokensUsedUp,
    SettingsInvalid,
    TimeLimitTooLong,
    UnknownPlan,
)

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
    assert words.endswith("farther apart, or change to Team with `oneoff plan set`")


def test_a_time_limit_too_long_names_the_plans_that_would_do() -> None:
    assert check_longest_run(PLANS["pro"], 86_400) == 86_400
    with pytest.raises(
        TimeLimitTooLong, match=r"of 1d of the Pro plan: ask for 1d or less, or change to Team with `oneoff plan set`$"
    ):
        check_longest_run(PLANS["pro"], 86_401)
    with pytest.raises(TimeLimitTooLong, match=r"ask for 30d or less$"):
        check_longest_run(PLANS["team"], 30 * 86_400 + 1)


def test_a_plan_is_found_by_id_and_by_name_and_one_that_is_gone_is_told_with_those_there_are() -> None:
    assert [find_plan_id(each, PLANS) for each in ("pro", "Pro", "TEAM")] == ["pro", "pro", "team"]
    assert plan_of("pro", PLANS) is PLANS["pro"]
    with pytest.raises(UnknownPlan, match="'gold' is no plan of this server: use one of starter, pro, team"):
        find_plan_id("gold", PLANS)
    with pytest.raises(PlanNotOffered, match="offers no more: an admin changes to one of starter, pro, team"):
        plan_of("gold", PLANS)


def test_a_new_workspace_has_team_or_the_last_plan_that_has_jobs() -> None:
    assert first_plan_id(PLANS) == "team"
    assert first_plan_id(parse_plans({"large": FULL, "largest": FULL, "free": {"has_jobs": False}})) == "largest"


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
    with pytest.raises(PlanTokensUsedUp, match=r"allows 5 tokens, and all are in use: .* or change to Team with"):
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
        ({"Large Plan": FULL}, "an id is 1 to 20 of"),
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
