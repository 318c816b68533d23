"""The instants of a cron expression in a time zone under a DST policy: next, all, how many, the smallest gap.

Pure: the zone (a `zoneinfo.ZoneInfo`) is an argument, and so is every time. Used by core.ticks, the API and the
scheduler.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import islice

from oneoff.core.cron_expression import CronExpression, matching_days
from oneoff.core.dst import DAY, LAST_YEAR, DstPolicy, Segment, Transition, segments

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_LONGEST_WAIT = timedelta(days=41 * 366)  # from one 29 February on a Monday to the next, over 2100
_FAR = int(datetime(LAST_YEAR, 12, 1, tzinfo=UTC).timestamp())


@dataclass(frozen=True, slots=True)
class Timing:
    """Which instants: an expression, where its wall clock hangs, and what a change of the clocks does to it."""

    expression: CronExpression
    zone: tzinfo
    policy: DstPolicy = DstPolicy.DEBIAN

    @property
    def repeats_in_overlap(self) -> bool:
        if self.policy is DstPolicy.SKIP:
            return False
        return self.policy is DstPolicy.EVERY or self.expression.follows_real_time

    @property
    def fires_after_gap(self) -> bool:
        return self.policy is not DstPolicy.SKIP and not self.expression.follows_real_time


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of wall time with one offset in which every matching wall second is an instant; and before it perhaps
    `once_at`, the real second right after a gap, which stands for all times the gap left out."""

    offset: int
    wall_from: int
    wall_to: int
    once_at: int | None


def instants(timing: Timing, after: datetime, until: datetime | None = None) -> Iterator[datetime]:
    """The instants later than `after` and not later than `until`, ascending, in UTC. Without `until` it ends when
    41 years brought none: such an expression names only times that its zone always leaves out."""
    begin = to_second(after)
    if until is not None:
        yield from map(to_moment, seconds_between(timing, begin, to_second(until)))
        return
    while begin < _FAR:
        end = min(begin + int(_LONGEST_WAIT.total_seconds()), _FAR)
        found = None
        for found in seconds_between(timing, begin, end):
            yield to_moment(found)
        if found is None:
            return
        begin = end


def next_instant(timing: Timing, after: datetime) -> datetime | None:
    """The first instant later than `after`; None when there is none any more."""
    return next(instants(timing, after), None)


def count_instants(timing: Timing, after: datetime, until: datetime) -> int:
    """How many are later than `after` and not later than `until`, without making each: months are counted, not
    minutes."""
    return count_between(timing, to_second(after), to_second(until))


def last_instants(timing: Timing, after: datetime, until: datetime, most: int) -> list[datetime]:
    """The last `most` of those `count_instants` counts, ascending."""
    begin, end = to_second(after), to_second(until)
    few = list(islice(seconds_between(timing, begin, end), most + 1))
    if len(few) <= most:
        return [to_moment(each) for each in few]
    low, high = begin, end  # at most `most` lie later than `high`
    while low < high:
        middle = (low + high) // 2
        if count_between(timing, middle, end) <= most:
            high = middle
        else:
            low = middle + 1
    return [to_moment(each) for each in seconds_between(timing, high, end)]


def seconds_between(timing: Timing, after: int, until: int) -> Iterator[int]:
    """The instants of (after, until] as seconds since 1970."""
    for span in spans(timing, after, until):
        if span.once_at is not None:
            yield span.once_at
        for wall in matching_walls(timing.expression, span.wall_from, span.wall_to):
            yield wall - span.offset


def count_between(timing: Timing, after: int, until: int) -> int:
    return sum(
        (span.once_at is not None) + count_walls(timing.expression, span.wall_from, span.wall_to)
        for span in spans(timing, after, until)
    )


def spans(timing: Timing, after: int, until: int) -> Iterator[Span]:
    """(after, until] as spans."""
    for segment in segments(timing.zone, after + 1, until + 1):
        yield _to_span(timing, segment, after + 1)


def _to_span(timing: Timing, segment: Segment, begin: int) -> Span:
    wall_from = max(segment.start, begin) + segment.offset
    change = segment.opened_by
    once_at = None
    if change is not None and change.after < change.before and not timing.repeats_in_overlap:
        wall_from = max(wall_from, change.wall_to)
    if change is not None and change.at == segment.start >= begin and _stands_for_gap(timing, change):
        once_at = change.at
        wall_from += 1  # what is due at that very second anyway is the same instant
    return Span(segment.offset, wall_from, segment.end + segment.offset, once_at)


def _stands_for_gap(timing: Timing, change: Transition) -> bool:
    if change.after < change.before or not timing.fires_after_gap:
        return False
    return next(matching_walls(timing.expression, change.wall_from, change.wall_to), None) is not None


def matching_walls(expression: CronExpression, start: int, end: int) -> Iterator[int]:
    """Wall seconds with start <= wall < end that the expression names."""
    for day in matching_dates(expression, start // DAY, (end - 1) // DAY):
        midnight = day * DAY
        times = expression.times
        first = bisect_left(times, start - midnight) if midnight < start else 0
        for index in range(first, len(times)):
            if midnight + times[index] >= end:
                return
            yield midnight + times[index]


def count_walls(expression: CronExpression, start: int, end: int) -> int:
    """How many `matching_walls` yields."""
    if end <= start:
        return 0
    times, total = expression.times, 0
    first_day, last_day = start // DAY, (end - 1) // DAY
    for year, month, low, high in _months(first_day, last_day):
        days = matching_days(expression, year, month)
        total += len(times) * (bisect_left(days, high + 1) - bisect_left(days, low))
    if _fires_on(expression, first_day):
        total -= bisect_left(times, start - first_day * DAY)
    if _fires_on(expression, last_day):
        total -= len(times) - bisect_left(times, end - last_day * DAY)
    return total


def matching_dates(expression: CronExpression, first: int, last: int) -> Iterator[int]:
    """Days since 1970, first <= day <= last, on which it fires."""
    for year, month, low, high in _months(first, last):
        days = matching_days(expression, year, month)
        if days:
            before = date(year, month, 1).toordinal() - 1 - _EPOCH_DAY
            for day in days[bisect_left(days, low) : bisect_left(days, high + 1)]:
                yield before + day


def to_second(moment: datetime) -> int:
    """Whole seconds since 1970, rounded down; right for `after` and `until`, as instants are whole seconds."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)


def to_moment(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def _fires_on(expression: CronExpression, day: int) -> bool:
    return next(matching_dates(expression, day, day), None) is not None


def _months(first: int, last: int) -> Iterator[tuple[int, int, int, int]]:
    """Year, month, first and last day of it that lie within the days first … last since 1970."""
    if last < first:
        return
    start, end = date.fromordinal(first + _EPOCH_DAY), date.fromordinal(last + _EPOCH_DAY)
    for number in range(start.year * 12 + start.month - 1, end.year * 12 + end.month):
        year, month = number // 12, number % 12 + 1
        low = start.day if (year, month) == (start.year, start.month) else 1
        high = end.day if (year, month) == (end.year, end.month) else 31
        yield year, month, low, high
