"""Cron against an oracle that walks minute by minute, over every change of the clocks of every zone, 1990 to 2040.

The oracle knows the written policy and nothing of core.cron: it asks each real minute what the wall shows, keeps
which wall minutes were shown before, and at a gap looks at the wall minutes that were never shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import pytest

from oneoff.core.cron import Timing, count_between, seconds_between, to_moment
from oneoff.core.cron_expression import parse_cron
from oneoff.core.dst import DstPolicy, transitions

START = datetime(1990, 1, 1, tzinfo=UTC)
END = datetime(2041, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
AROUND = timedelta(hours=26)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Rule:
    """An expression in the oracle's own words: what it allows, written out by hand."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    star: bool
    months: frozenset[int] = frozenset(range(1, 13))
    days: frozenset[int] | None = None  # None = any
    weekdays: frozenset[int] | None = None  # 0 = Sunday

    def names(self, wall: datetime) -> bool:
        if wall.minute not in self.minutes or wall.hour not in self.hours or wall.month not in self.months:
            return False
        day = self.days is None or wall.day in self.days
        weekday = self.weekdays is None or wall.isoweekday() % 7 in self.weekdays
        return day or weekday if self.days is not None and self.weekdays is not None else day and weekday


EVERY_HOUR = frozenset(range(24))
SUNDAY = frozenset({0})
EVERY_MINUTE = frozenset(range(60))
RULES = (
    Rule("* * * * *", EVERY_MINUTE, EVERY_HOUR, star=True),
    Rule("*/25 * * * *", frozenset({0, 25, 50}), EVERY_HOUR, star=True),
    Rule("15 * * * *", frozenset({15}), EVERY_HOUR, star=True),
    Rule("*/30 0-3 * * *", frozenset({0, 30}), frozenset({0, 1, 2, 3}), star=True),
    Rule("7,45 0-23 * * *", frozenset({7, 45}), EVERY_HOUR, star=False),
    Rule("0 0 * * *", frozenset({0}), frozenset({0}), star=False),
    Rule("30 23,0,1,2,3 * * *", frozenset({30}), frozenset({23, 0, 1, 2, 3}), star=False),
    Rule("0-59/20 1-2 * * *", frozenset({0, 20, 40}), frozenset({1, 2}), star=False),
    Rule("59 1,2,23 * * *", frozenset({59}), frozenset({1, 2, 23}), star=False),
    Rule("15 2 * 3,4,9-11 SUN", frozenset({15}), frozenset({2}), False, frozenset({3, 4, 9, 10, 11}), None, SUNDAY),
    Rule("0 0,12 30,1 * 0", frozenset({0}), frozenset({0, 12}), False, days=frozenset({30, 1}), weekdays=SUNDAY),
    Rule("0 3-5 * * *", frozenset({0}), frozenset({3, 4, 5}), star=False),
)  # fmt: skip


class Minute(NamedTuple):
    """One real minute: what the wall shows, whether it showed that before, and what it left out just before."""

    moment: datetime
    wall: datetime
    shown_before: bool
    left_out: tuple[datetime, ...]


def walk(zone: tzinfo, change: datetime) -> list[Minute]:
    first, shown, minutes = change - AROUND, set[datetime](), []
    expected = first.astimezone(zone).replace(tzinfo=None, fold=0)
    for index in range(int(2 * AROUND / MINUTE)):
        moment = first + index * MINUTE
        wall = moment.astimezone(zone).replace(tzinfo=None, fold=0)
        left_out = []
        while expected < wall:
            left_out.append(expected)
            expected += MINUTE
        minutes.append(Minute(moment, wall, wall in shown, tuple(left_out)))
        shown.add(wall)
        expected = wall + MINUTE
    return minutes


SPOT_RULES = (RULES[4], RULES[6])


def oracle(rule: Rule, minutes: list[Minute]) -> dict[str, list[datetime]]:
    """What fires under each policy, as it is written."""
    fired: dict[str, list[datetime]] = {"debian": [], "skip": [], "every": []}
    for minute in minutes:
        if minute.wall.minute not in rule.minutes and not minute.left_out:
            continue
        named = rule.names(minute.wall)
        after_gap = not rule.star and any(map(rule.names, minute.left_out))
        if after_gap or (named and (rule.star or not minute.shown_before)):
            fired["debian"].append(minute.moment)
        if named and not minute.shown_before:
            fired["skip"].append(minute.moment)
        if after_gap or named:
            fired["every"].append(minute.moment)
    return fired


def changes(zone: ZoneInfo) -> list[datetime]:
    """Real minutes at which the offset differs from the minute before: looked for day by day, then halved."""
    found = []
    before, moment = START.astimezone(zone).utcoffset(), START
    while moment < END:
        after = (moment + DAY).astimezone(zone).utcoffset()
        if after != before:
            low, high = moment, moment + DAY
            while high - low > MINUTE:
                middle = low + (high - low) // 2
                middle -= timedelta(seconds=middle.second, microseconds=middle.microsecond)
                low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
            found.append(high)
            before = after
        moment += DAY
    return found


def shape(zone: ZoneInfo, change: datetime) -> tuple[object, ...]:
    """All that the rules can see of a change: the wall before and after it, month, day and weekday included; the year
    only as far as it moves these."""
    before, after = (each.astimezone(zone) for each in (change - MINUTE, change))
    leap = (change.year % 4 == 0) and change.month in (2, 3)
    return (before.month, before.day, before.hour, before.minute, before.isoweekday(),
            after.month, after.day, after.hour, after.minute, leap)  # fmt: skip


def instants_around(timing: Timing, change: datetime) -> list[datetime]:
    first = int((change - AROUND).timestamp())
    return [to_moment(each) for each in seconds_between(timing, first - 1, first + int(AROUND.total_seconds()) * 2 - 1)]


def check_by_walking(zone: ZoneInfo, change: datetime) -> None:
    minutes = walk(zone, change)
    for rule in RULES:
        expected = oracle(rule, minutes)
        for policy in DstPolicy:
            timing = Timing(parse_cron(rule.text), zone, policy)
            assert instants_around(timing, change) == expected[policy.value], (zone.key, change, rule.text, policy)


@pytest.mark.timeout(600)
def test_every_change_of_every_zone_agrees_with_a_walk_by_the_written_policy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Changes that look alike on the wall are walked once; each of the others is held to its walked twin.
    walked: dict[tuple[object, ...], dict[Rule, list[timedelta]]] = {}
    zones = total = 0
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        found = changes(zone)
        seen = transitions(zone, int(START.timestamp()), int(END.timestamp()))
        assert [to_moment(each.at) for each in seen] == found, name
        zones += bool(found)
        total += len(found)
        for change in found:
            key = shape(zone, change)
            mine = {
                rule: [each - change for each in instants_around(Timing(parse_cron(rule.text), zone), change)]
                for rule in SPOT_RULES
            }
            if key not in walked:
                check_by_walking(zone, change)
                walked[key] = mine
            assert mine == walked[key], (name, change)
    with capsys.disabled():
        print(f"\n{total} changes in {zones} zones agree; {len(walked)} distinct ones walked minute by minute")
    assert zones > 300
    assert total > 20_000


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.text)
def test_counting_agrees_with_making_each_over_a_year(rule: Rule) -> None:
    start, end = (int(datetime(year, 5, 17, 3, 41, tzinfo=UTC).timestamp()) for year in (2011, 2012))
    for name in ("Pacific/Apia", "Australia/Lord_Howe", "Africa/Casablanca"):
        for policy in DstPolicy:
            timing = Timing(parse_cron(rule.text), ZoneInfo(name), policy)
            assert count_between(timing, start, end) == sum(1 for _ in seconds_between(timing, start, end))
