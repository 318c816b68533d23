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

from oneoff.core.cron import Timing, count_between, seconds_between
from oneoff.core.cron_expression import parse_cron
from oneoff.core.dst import DstPolicy, transitions

START = int(datetime(1990, 1, 1, tzinfo=UTC).timestamp())
END = int(datetime(2041, 1, 1, tzinfo=UTC).timestamp())
MINUTE = timedelta(minutes=1)
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
    Rule("0,30 0-23 * * *", frozenset({0, 30}), EVERY_HOUR, star=False),  # in the gap and at its end
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

    moment: int  # seconds since 1970
    wall: datetime
    shown_before: bool
    left_out: tuple[datetime, ...]


def wall_at(zone: tzinfo, moment: int) -> datetime:
    return datetime.fromtimestamp(moment, zone).replace(tzinfo=None, fold=0)


def walk(zone: tzinfo, change: int) -> list[Minute]:
    shown, minutes = set[datetime](), []
    expected = wall_at(zone, change - AROUND)
    for moment in range(change - AROUND, change + AROUND, 60):
        wall = wall_at(zone, moment)
        left_out = []
        while expected < wall:
            left_out.append(expected)
            expected += MINUTE
        minutes.append(Minute(moment, wall, wall in shown, tuple(left_out)))
        shown.add(wall)
        expected = wall + MINUTE
    return minutes


SPOT_RULES = (RULES[4], RULES[7])


def places(minutes: list[Minute]) -> dict[int, set[int]]:
    """Where the wall shows each minute of an hour. Elsewhere a rule has nothing to say, but behind a gap: under -1."""
    found: dict[int, set[int]] = {number: set() for number in range(-1, 60)}
    for place, minute in enumerate(minutes):
        found[minute.wall.minute].add(place)
        if minute.left_out:
            found[-1].add(place)
    return found


def oracle(rule: Rule, minutes: list[Minute], where: dict[int, set[int]]) -> dict[str, list[int]]:
    """What fires under each policy, as it is written."""
    fired: dict[str, list[int]] = {"debian": [], "skip": [], "every": []}
    for place in sorted(set().union(where[-1], *(where[number] for number in rule.minutes))):
        minute = minutes[place]
        named = rule.names(minute.wall)
        after_gap = not rule.star and any(map(rule.names, minute.left_out))
        if after_gap or (named and (rule.star or not minute.shown_before)):
            fired["debian"].append(minute.moment)
        if named and not minute.shown_before:
            fired["skip"].append(minute.moment)
        if after_gap or named:
            fired["every"].append(minute.moment)
    return fired


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
    before, after = wall_at(zone, change - 60), wall_at(zone, change)
    in_leap_year = before.year % 4 == 0 and before.month in (2, 3)
    return before.replace(year=2000), before.isoweekday(), after - before, in_leap_year


def seconds_around(rule: Rule, zone: ZoneInfo, policy: DstPolicy, change: int) -> list[int]:
    timing = Timing(parse_cron(rule.text), zone, policy)
    return list(seconds_between(timing, change - AROUND - 1, change + AROUND - 1))


def check_by_walking(zone: ZoneInfo, change: int) -> None:
    minutes = walk(zone, change)
    where = places(minutes)
    for rule in RULES:
        expected = oracle(rule, minutes, where)
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
