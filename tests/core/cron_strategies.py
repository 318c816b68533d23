"""Expressions, zones and moments for the property tests of crons."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from oneoff.core.cron import Timing
from oneoff.core.cron_expression import CronExpression, parse_cron
from oneoff.core.dst import DstPolicy
from oneoff.errors import InvalidCron

ZONES = [
    ZoneInfo(name)
    for name in (
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/Havana",  # its gap begins at midnight
        "America/St_Johns",  # until 2011 its changes came at 00:01
        "Australia/Lord_Howe",  # half an hour
        "Pacific/Apia",  # left out a whole day
        "Africa/Casablanca",  # four changes a year
        "Asia/Kathmandu",
    )
]


def _values(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.integers(1, high - low + 1)
    item = st.one_of(
        number.map(str),
        span,
        st.tuples(span, step).map(lambda each: f"{each[0]}/{each[1]}"),
        step.map(lambda each: f"*/{each}"),
    )
    return st.one_of(st.just("*"), st.lists(item, min_size=1, max_size=3).map(",".join))


_DAYS = st.one_of(st.just("*"), st.just("*"), _values(1, 28), st.sampled_from(["L", "LW", "31", "29-31"]))
_WEEKDAYS = st.one_of(st.just("*"), st.just("*"), _values(0, 6), st.sampled_from(["5L", "MON#2", "SAT-SUN", "7"]))
_MONTHS = st.one_of(st.just("*"), st.just("*"), st.just("3,10"), _values(1, 12).map(lambda text: f"{text},1,3,10"))


def _parse(parts: tuple[str, ...]) -> CronExpression | None:
    try:
        return parse_cron(" ".join(parts))
    except InvalidCron:  # days that never come, such as the 12th as the last Friday
        return None


EXPRESSIONS = st.tuples(_values(0, 59), _values(0, 23), _DAYS, _MONTHS, _WEEKDAYS).map(_parse).filter(bool)
TIMINGS = st.builds(Timing, EXPRESSIONS, st.sampled_from(ZONES), st.sampled_from(DstPolicy))
MOMENTS = st.integers(0, 20 * 366 * 86_400).map(lambda s: datetime(2008, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
