"""How close two instants of a cron ever come, changes of the clocks included: what plans limit. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise

from oneoff.core.cron import Timing, matching_dates, seconds_between, to_moment, to_second
from oneoff.core.dst import DAY, LAST_YEAR, Transition, offset_at, transitions

HORIZON_YEARS = 40  # every kind of year, also beside every other kind, and 29 February on each weekday
_MINUTE = 60


@dataclass(frozen=True, slots=True)
class Gap:
    """The smallest distance, and two neighbouring instants that have it."""

    seconds: int
    first: datetime
    second: datetime


@dataclass(frozen=True, slots=True)
class _Pair:
    first: int
    second: int

    @property
    def seconds(self) -> int:
        return self.second - self.first


def smallest_gap(timing: Timing, since: datetime) -> Gap | None:
    """Exact over the 40 years from the beginning of the year of `since`; None when fewer than two instants lie in
    them. Jitter does not matter: it moves runs, not instants."""
    pair = _smallest_pair(timing, since.astimezone(UTC).year)
    return Gap(pair.seconds, to_moment(pair.first), to_moment(pair.second)) if pair else None


@lru_cache(maxsize=4096)
def _smallest_pair(timing: Timing, year: int) -> _Pair | None:
    begin = to_second(datetime(year, 1, 1, tzinfo=UTC))
    end = to_second(datetime(min(year + HORIZON_YEARS, LAST_YEAR), 1, 1, tzinfo=UTC))
    changes = list(transitions(timing.zone, begin, end))
    best = _smallest_on_ordinary_days(timing, changes, begin, end)
    if best is None:
        return _smallest_of(seconds_between(timing, begin, end))
    if best.seconds <= _MINUTE:
        return best
    # Days of a change may hold the only pairs that are closer than any found so far, unless none can be.
    margin = 0 if best.seconds == _least_possible(timing.expression.times) else 2 * DAY
    for change in changes:
        reach = best.seconds + margin
        near = _smallest_of(seconds_between(timing, change.at - reach - 1, change.at + reach))
        if near is not None and near.seconds < best.seconds:
            best = near
    return best


def _smallest_on_ordinary_days(timing: Timing, changes: Sequence[Transition], begin: int, end: int) -> _Pair | None:
    """Of pairs with no change of the clocks on their days or between: there wall distances are real ones."""
    times = timing.expression.times
    touched = sorted({day for change in changes for day in range(change.wall_from // DAY, change.wall_to // DAY + 1)})
    within = _smallest_of(times)
    least = _least_possible(times)
    best: _Pair | None = None
    before: int | None = None
    for day in matching_dates(timing.expression, begin // DAY + 1, end // DAY - 1):
        place = bisect_left(touched, day)
        is_touched = place < len(touched) and touched[place] == day
        candidates = []
        if within is not None and not is_touched:
            candidates.append(_Pair(day * DAY + within.first, day * DAY + within.second))
        if before is not None and not is_touched and bisect_left(touched, before) == place:
            candidates.append(_Pair(before * DAY + times[-1], day * DAY + times[0]))
        for pair in candidates:
            if best is None or pair.seconds < best.seconds:
                best = pair
        if best is not None and best.seconds == least:
            break
        before = day
    return _to_real(timing, best) if best else None


def _smallest_of(moments: Iterable[int]) -> _Pair | None:
    return min((_Pair(*pair) for pair in pairwise(moments)), key=lambda pair: pair.seconds, default=None)


def _least_possible(times: Sequence[int]) -> int:
    """As if it fired on neighbouring days."""
    within = _smallest_of(times)
    across = times[0] + DAY - times[-1]
    return min(within.seconds, across) if within else across


def _to_real(timing: Timing, walls: _Pair) -> _Pair:
    # The second guess is right wherever no change of the clocks is on the day itself.
    guess = walls.first - offset_at(timing.zone, walls.first)
    offset = offset_at(timing.zone, guess)
    return _Pair(walls.first - offset, walls.second - offset)
