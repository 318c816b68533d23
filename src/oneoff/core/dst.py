"""When the clocks of a zone are put forward or back, and what a cron does about it. Pure; used by core.cron.

Seconds here are whole ones since 1970: of real time, or of the wall clock as if it were UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from functools import lru_cache

DAY = 86_400
_LONGEST = 300 * DAY
LAST_YEAR = 9998  # `datetime` ends soon after


class DstPolicy(StrEnum):
    """What becomes of wall times that a change of the clocks leaves out (the gap) or repeats (the overlap).

    An expression whose minute or hour field contains `*` follows real time under `debian` and `every`: it fires
    whenever the wall clock shows a time of it, so never in the gap and each time in the overlap. `skip` makes no
    difference between expressions.
    """

    DEBIAN = "debian"  # in the gap once, right after it; in the overlap once, the first time
    SKIP = "skip"  # neither in the gap nor a second time
    EVERY = "every"  # the gap as `debian`; in the overlap each time


@dataclass(frozen=True, slots=True)
class Transition:
    """At `at` (seconds of real time) the zone's offset from UTC changes, in seconds."""

    at: int
    before: int
    after: int

    @property
    def wall_from(self) -> int:
        """The first wall second that is left out or repeated."""
        return self.at + min(self.before, self.after)

    @property
    def wall_to(self) -> int:
        """The first wall second after those."""
        return self.at + max(self.before, self.after)


@dataclass(frozen=True, slots=True)
class Segment:
    """Real time from `start` to before `end`, with one offset. `opened_by` is the transition before it, if near."""

    start: int
    end: int
    offset: int
    opened_by: Transition | None


def offset_at(zone: tzinfo, moment: int) -> int:
    offset = datetime.fromtimestamp(moment, zone).utcoffset()
    assert offset is not None
    return offset.days * DAY + offset.seconds


def transitions(zone: tzinfo, start: int, end: int) -> Iterator[Transition]:
    """Those with start <= at < end, ascending."""
    for year in range(_year_of(start), min(_year_of(end), LAST_YEAR) + 1):
        for each in _transitions_of_year(zone, year):
            if start <= each.at < end:
                yield each


def segments(zone: tzinfo, start: int, end: int) -> Iterator[Segment]:
    """Real time from `start` to before `end`, cut at the transitions and now and then between them. The first one may
    have begun before `start`."""
    # Walls of the last overlap may still be repeated at `start`: no change of the clocks exceeds a day.
    begin, opened_by = start, None
    offset = offset_at(zone, start)
    for each in transitions(zone, start - 2 * DAY, start + 1):
        begin, opened_by = each.at, each
    # Cut, so that whoever wants only the next instant need not know the transitions of many years.
    known = start + 1
    for stop in (*range(start + 1 + _LONGEST, end, _LONGEST), end):
        for each in transitions(zone, known, stop):
            if begin < each.at:
                yield Segment(begin, each.at, offset, opened_by)
            begin, offset, opened_by = each.at, each.after, each
        if begin < stop:
            yield Segment(begin, stop, offset, opened_by)
            begin = stop
            if opened_by is not None and opened_by.at < stop - 2 * DAY:
                opened_by = None
        known = stop


def _year_of(moment: int) -> int:
    return datetime.fromtimestamp(moment, UTC).year


@lru_cache(maxsize=32_768)
def _transitions_of_year(zone: tzinfo, year: int) -> tuple[Transition, ...]:
    """Found by asking for the offset every other day: since 1990 no zone has changed twice within a week."""
    start, end = (int(datetime(each, 1, 1, tzinfo=UTC).timestamp()) for each in (year, year + 1))
    found = []
    before = offset_at(zone, start - 1)
    for moment in range(start, end, 2 * DAY):
        last = min(moment + 2 * DAY, end) - 1
        after = offset_at(zone, last)
        if after != before:
            found.append(_search(zone, moment - 1, last))
            before = after
    return tuple(found)


def _search(zone: tzinfo, low: int, high: int) -> Transition:
    """The change between `low`, when the old offset holds, and `high`, when the new one does."""
    before, after = offset_at(zone, low), offset_at(zone, high)
    while high - low > 1:
        middle = (low + high) // 2
        if offset_at(zone, middle) == before:
            low = middle
        else:
            high = middle
    return Transition(high, before, after)
