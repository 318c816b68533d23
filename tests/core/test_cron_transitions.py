"""Cron against an oracle that walks minute by minute, over every change of the clocks of every zone, 1990 to 2040.

The oracle knows the written policy and nothing of core.cron: it asks each real minute what the wall shows, keeps
which wall minutes were shown before, and at a gap looks at the wall minutes that were never shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cached_property
from zoneinfo import ZoneInfo, available_timezones

import pytest

from oneoff.core.cron import Timing, count_between, seconds_between
from oneoff.core.cron_expression import parse_cron
from oneoff.core.dst import DstPolicy, transitions

START = int(datetime(1990, 1, 1, tzinfo=UTC).timestamp())
END = int(datetime(2041, 1, 1, tzinfo=UTC).timestamp())
DAY = 24 * 60  # minutes
AROUND = 26 * 3600
LOOK_EVERY = 6 * 86_400  # no zone has changed twice within a week


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

    @cached_property
    def times(self) -> frozenset[int]:
        """Minutes of a day."""
        return frozenset(hour * 60 + minute for hour in self.hours for minute in self.minutes)

    def names_day(self, number: int) -> bool:
        wall = date.fromordinal(number)
        if wall.month not in self.months:
            return False
        day = self.days is None or wall.day in self.days
        weekday = self.weekdays is None or wall.isoweekday() % 7 in self.weekdays
        return day or weekday if self.days is not None and self.weekdays is not None else day and weekday

    def names(self, wall: int) -> bool:
        return wall % DAY in self.times and self.names_day(wall // DAY)


EVERY_HOUR = frozenset(range(24))
SUNDAY = frozenset({0})
EVERY_MINUTE = frozenset(range(60))
RULES = (
    Rule("* * * * *", EVERY_MINUTE, EVERY_HOUR, star=True),
    Rule("*/25 * * * *", frozenset({0, 25, 50}), EVERY_HOUR, star=True),
    Rule("15 * * * *", frozenset({15}), EVERY_HOUR, star=True),
    Rule("*/30 0-3 * * *", frozenset({0, 30}), frozenset({0, 1, 2, 3}), star=True),
    Rule("7,45 0-23 * * *", frozenset({7, 45}), EVERY_HOUR, star=False),
    Rule("0,30 0-23 * * *", frozenset({0, 30}), EVERY_HOUR, star=False),  # in the gap and at its end
    Rule("0 0 * * *", frozenset({0}), frozenset({0}), star=False),
    Rule("30 23,0,1,2,3 * * *", frozenset({30}), frozenset({23, 0, 1, 2, 3}), star=False),
    Rule("0-59/20 1-2 * * *", frozenset({0, 20, 40}), frozenset({1, 2}), star=False),
    Rule("59 1,2,23 * * *", frozenset({59}), frozenset({1, 2, 23}), star=False),
    Rule("15 2 * 3,4,9-11 SUN", frozenset({15}), frozenset({2}), False, frozenset({3, 4, 9, 10, 11}), None, SUNDAY),
    Rule("0 0,12 30,1 * 0", frozenset({0}), frozenset({0, 12}), False, days=frozenset({30, 1}), weekdays=SUNDAY),
    Rule("0 3-5 * * *", frozenset({0}), frozenset({3, 4, 5}), star=False),
)  # fmt: skip


@dataclass(frozen=True)
class Walk:
    """Real minutes one after the other, by their places from 0, and what the wall shows: in minutes, day by day."""

    begin: int  # seconds since 1970
    places: dict[int, list[int]] = field(default_factory=dict)  # where the wall shows this
    again: set[int] = field(default_factory=set)  # places at which it showed the same before
    left_out: dict[int, range] = field(default_factory=dict)  # what was never shown, just before this place

    @cached_property
    def days(self) -> set[int]:
        return {wall // DAY for wall in self.places}


def walk(zone: tzinfo, change: int) -> Walk:
    walked = Walk(change - AROUND)
    expected = None
    for place, moment in enumerate(range(change - AROUND, change + AROUND, 60)):
        shown = datetime.fromtimestamp(moment, zone)
        assert not shown.second
        wall = shown.toordinal() * DAY + shown.hour * 60 + shown.minute
        if expected is not None and expected < wall:
            walked.left_out[place] = range(expected, wall)
        if wall in walked.places:
            walked.again.add(place)
        walked.places.setdefault(wall, []).append(place)
        expected = wall + 1
    return walked


SPOT_RULES = (RULES[4], RULES[7])


def oracle(rule: Rule, walked: Walk) -> dict[str, list[int]]:
    """What fires under each policy, as it is written."""
    days = [day * DAY for day in walked.days if rule.names_day(day)]
    named = {place for day in days for time in rule.times for place in walked.places.get(day + time, ())}
    first = named - walked.again
    after_gap = set() if rule.star else {at for at, walls in walked.left_out.items() if any(map(rule.names, walls))}
    fired = {"debian": after_gap | (named if rule.star else first), "skip": first, "every": after_gap | named}
    return {policy: [walked.begin + place * 60 for place in sorted(places)] for policy, places in fired.items()}


def changes(zone: ZoneInfo) -> list[int]:
    """Real minutes at which the offset differs from the minute before: looked for now and then, and then halved."""
    found = []
    before = offset(zone, START)
    for moment in range(START, END, LOOK_EVERY):
        after = offset(zone, moment + LOOK_EVERY)
        if after != before:
            low, high = moment // 60, (moment + LOOK_EVERY) // 60
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(zone, middle * 60) == before else (low, middle)
            if high * 60 < END:
                found.append(high * 60)
            before = after
    return found


def offset(zone: ZoneInfo, moment: int) -> timedelta | None:
    return datetime.fromtimestamp(moment, zone).utcoffset()


def shape(zone: ZoneInfo, change: int) -> tuple[object, ...]:
    """All that the rules can see of a change: the wall before and after it, month, day and weekday included; the year
    only as far as it moves these."""
    before, after = (datetime.fromtimestamp(at, zone).replace(tzinfo=None, fold=0) for at in (change - 60, change))
    in_leap_year = before.year % 4 == 0 and before.month in (2, 3)
    return before.replace(year=2000), before.isoweekday(), after - before, in_leap_year


def seconds_around(rule: Rule, zone: ZoneInfo, policy: DstPolicy, change: int) -> list[int]:
    timing = Timing(parse_cron(rule.text), zone, policy)
    return list(seconds_between(timing, change - AROUND - 1, change + AROUND - 1))


def check_by_walking(zone: ZoneInfo, change: int) -> None:
    walked = walk(zone, change)
    for rule in RULES:
        expected = oracle(rule, walked)
        for policy in DstPolicy:
            found = seconds_around(rule, zone, policy, change)
            assert found == expected[policy.value], (zone.key, change, rule.text, policy)


@pytest.mark.timeout(600)
def test_every_change_of_every_zone_agrees_with_a_walk_by_the_written_policy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Changes that look alike on the wall are walked once; each of the others is held to its walked twin.
    walked: dict[tuple[object, ...], list[list[int]]] = {}
    zones = total = 0
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        found = changes(zone)
        assert [each.at for each in transitions(zone, START, END)] == found, name
        zones += bool(found)
        total += len(found)
        for change in found:
            key = shape(zone, change)
            spots = [seconds_around(rule, zone, DstPolicy.DEBIAN, change) for rule in SPOT_RULES]
            mine = [[each - change for each in spot] for spot in spots]
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
