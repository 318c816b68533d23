"""Which instants of a cron are due and what becomes of those that cannot fire: catch-up, pauses, jitter, the ledger.

The scheduler calls `settle` with what it knows, writes the rows, fires what is to fire, and keeps the cursor. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from oneoff.core.cron import Timing, count_instants, instants, last_instants, next_instant
from oneoff.core.cron_gap import smallest_gap
from oneoff.core.limits import CEILING_SECONDS, format_duration
from oneoff.errors import InvalidSchedule

MOST_SINGLE_ROWS = 1000  # a longer stretch becomes one row of the ledger
MOST_CAUGHT_UP = 100  # of catch-up `all`
PUNCTUAL = timedelta(seconds=60)  # a tick later than this is caught up, or missed
MOST_JITTER_SECONDS = 3600
_LATEST_YEAR = 9000  # further on, `datetime` soon has no more days to count
DEFAULT_WINDOW_SECONDS = 86_400
_JUST = timedelta(microseconds=1)  # the step from "before" to "not later than"
# Nothing older than these can fire: what is caught up, and what jitter of an hour still holds back or made punctual.
_TAIL = MOST_CAUGHT_UP + 2 * MOST_JITTER_SECONDS // 60


class TickOutcome(StrEnum):
    """What became of one due instant."""

    FIRED = "fired"
    SKIPPED_OVERLAP = "skipped_overlap"
    QUEUED = "queued"  # has a run, which waits for the job's other runs
    REPLACED = "replaced"  # has a run, which takes the place of the job's cron runs
    MISSED = "missed"  # nobody was there to fire it
    PAUSED = "paused"
    SUSPENDED = "suspended"  # the service is
    HELD_BY_DEPLOY = "held_by_deploy"
    BLOCKED_BY_PLAN = "blocked_by_plan"
    NO_LIVE_IMAGE = "no_live_image"
    REFUSED = "refused"  # a run could not be accepted; the row says why


class CatchUp(StrEnum):
    """What is done about instants that passed while nobody was there to fire them."""

    NONE = "none"
    LATEST = "latest"  # the newest, if it is not older than the window and none is due on time
    ALL = "all"  # the newest hundred within the window


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron as far as its ticks are concerned. It has instants from `starts_at` on and before `ends_at`."""

    cron_id: str
    timing: Timing
    catch_up: CatchUp = CatchUp.LATEST
    window_seconds: int = DEFAULT_WINDOW_SECONDS
    jitter_seconds: int = 0
    starts_at: datetime | None = None
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Absence:
    """Instants with since <= instant < until do not fire: PAUSED, SUSPENDED or HELD_BY_DEPLOY. `until` is None while it
    lasts. Where absences overlap the first one given counts."""

    since: datetime
    until: datetime | None
    outcome: TickOutcome

    def covers(self, moment: datetime) -> bool:
        return self.since <= moment and (self.until is None or moment < self.until)


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """`count` instants from `first` to `last` that did not fire; one instant when count is 1."""

    first: datetime
    last: datetime
    count: int
    outcome: TickOutcome


@dataclass(frozen=True, slots=True)
class DueTicks:
    """Every instant later than the old cursor and not later than the new one is in `to_fire` or in `rows`, once."""

    to_fire: tuple[datetime, ...]
    rows: tuple[LedgerRow, ...]
    cursor: datetime


@dataclass(frozen=True, slots=True)
class _Piece:
    """(after, until], all of it under one absence or none."""

    after: datetime
    until: datetime
    outcome: TickOutcome | None


def settle(schedule: Schedule, cursor: datetime, now: datetime, absences: Sequence[Absence] = ()) -> DueTicks:
    """What to do about the instants since `cursor`.

    While a deploy holds the cron all waits: the cursor stays. After the hold its instants are late and caught up as the
    schedule says; those that are not become HELD_BY_DEPLOY instead of MISSED. Under a pause or a suspended service that
    still lasts nothing fires, not even what was due before it.
    """
    if any(_is_hold(each) and each.covers(now) for each in absences):
        return DueTicks((), (), cursor)
    begin, end = _due_stretch(schedule, cursor, now)
    if begin >= end:
        return DueTicks((), (), max(cursor, end))
    pieces = list(_cut(begin, end, absences))
    closed = next((each.outcome for each in absences if each.covers(now) and not _is_hold(each)), None)
    firing: set[datetime] = set()
    if closed is None:
        tails = [_tail(schedule, each) for each in pieces if _may_fire(each)]
        firing = _choose(schedule, [instant for tail in tails for instant in tail], now)
    rows = [row for each in pieces for row in _to_rows(schedule, each, firing, (closed, now))]
    return DueTicks(tuple(sorted(firing)), tuple(rows), end)


def next_fire(schedule: Schedule, cursor: datetime) -> datetime | None:
    """When `settle` has something to do again; None when never."""
    begin = _from_start(schedule, cursor)
    instant = next_instant(schedule.timing, begin)
    if instant is None or (schedule.ends_at is not None and instant >= schedule.ends_at):
        return None
    return fire_time(schedule, instant)


def fire_time(schedule: Schedule, instant: datetime) -> datetime:
    """The instant and its jitter: 0 to `jitter_seconds`, always the same for one cron and instant, on every server."""
    if schedule.jitter_seconds <= 0:
        return instant
    seed = hashlib.sha256(f"{schedule.cron_id} {int(instant.timestamp())}".encode()).digest()
    return instant + timedelta(seconds=int.from_bytes(seed[:8]) % (schedule.jitter_seconds + 1))


def check_schedule(schedule: Schedule, since: datetime) -> Schedule:
    """Raises InvalidSchedule. Jitter must be shorter than the smallest gap, so that ticks keep their order."""
    for field in ("starts_at", "ends_at"):
        moment: datetime | None = getattr(schedule, field)
        if moment is not None and not 1970 <= moment.year <= _LATEST_YEAR:
            raise InvalidSchedule(f"the date must lie in the years 1970 to {_LATEST_YEAR}", field)
    if schedule.starts_at and schedule.ends_at and schedule.ends_at <= schedule.starts_at:
        raise InvalidSchedule("the cron would end before it starts: give a later end or an earlier start", "ends_at")
    if not PUNCTUAL.total_seconds() <= schedule.window_seconds <= CEILING_SECONDS:
        most = format_duration(CEILING_SECONDS)
        raise InvalidSchedule(f"the window of catching up must be 1m to {most}", "catch_up_window_seconds")
    gap = smallest_gap(schedule.timing, since)
    most_jitter = min(MOST_JITTER_SECONDS, gap.seconds - 1) if gap else MOST_JITTER_SECONDS
    if not 0 <= schedule.jitter_seconds <= most_jitter:
        raise InvalidSchedule(
            f"jitter must be 0 to {format_duration(most_jitter)} here: less than the smallest gap between two "
            f"instants, and at most {format_duration(MOST_JITTER_SECONDS)}",
            "jitter_seconds",
        )
    return schedule


def count_ticks(schedule: Schedule, after: datetime, until: datetime) -> int:
    """Instants later than `after` and not later than `until`, within the dates of the schedule."""
    begin, end = _from_start(schedule, after), _to_end(schedule, until)
    return count_instants(schedule.timing, begin, end) if begin < end else 0


def is_overdue(schedule: Schedule, since: datetime, now: datetime, expected: int, grace: timedelta) -> bool:
    """The dead-man: `expected` ticks or more came due after `since` and had `grace` (the time limit of the job) to
    succeed. `since` is the scheduled instant of the last success, or the making or resuming of the cron if later."""
    return expected > 0 and count_ticks(schedule, since, now - grace) >= expected


def _due_stretch(schedule: Schedule, cursor: datetime, now: datetime) -> tuple[datetime, datetime]:
    begin, end = _from_start(schedule, cursor), _to_end(schedule, now)
    jitter = timedelta(seconds=schedule.jitter_seconds)
    if jitter and begin < end:
        for instant in instants(schedule.timing, max(begin, end - jitter - _JUST), end):
            if fire_time(schedule, instant) > now:
                end = instant - _JUST
                break
    return begin, end


def _from_start(schedule: Schedule, moment: datetime) -> datetime:
    return max(moment, schedule.starts_at - _JUST) if schedule.starts_at else moment


def _to_end(schedule: Schedule, moment: datetime) -> datetime:
    return min(moment, schedule.ends_at - _JUST) if schedule.ends_at else moment


def _is_hold(absence: Absence) -> bool:
    return absence.outcome is TickOutcome.HELD_BY_DEPLOY


def _may_fire(piece: _Piece) -> bool:
    return piece.outcome in (None, TickOutcome.HELD_BY_DEPLOY)


def _cut(begin: datetime, end: datetime, absences: Sequence[Absence]) -> Iterator[_Piece]:
    edges = {end}
    for each in absences:
        for edge in (each.since, each.until):
            if edge is not None and begin < edge - _JUST < end:
                edges.add(edge - _JUST)
    for edge in sorted(edges):
        # The end of a piece tells for all of it.
        yield _Piece(begin, edge, next((each.outcome for each in absences if each.covers(edge)), None))
        begin = edge


def _tail(schedule: Schedule, piece: _Piece) -> list[datetime]:
    return last_instants(schedule.timing, piece.after, piece.until, _TAIL)


def _choose(schedule: Schedule, candidates: list[datetime], now: datetime) -> set[datetime]:
    """Those of `candidates`, ascending, that fire now."""
    punctual = {instant for instant in candidates if now - fire_time(schedule, instant) <= PUNCTUAL}
    window = timedelta(seconds=schedule.window_seconds)
    late = [each for each in candidates if each not in punctual and now - each <= window]
    if schedule.catch_up is CatchUp.ALL:
        return punctual | set(late[-MOST_CAUGHT_UP:])
    if schedule.catch_up is CatchUp.LATEST and not punctual:
        return set(late[-1:])
    return punctual


def _to_rows(
    schedule: Schedule, piece: _Piece, firing: set[datetime], closed: tuple[TickOutcome | None, datetime]
) -> Iterator[LedgerRow]:
    """A row for each instant that does not fire; one for all of them up to the first that does, if they are many."""
    total = count_instants(schedule.timing, piece.after, piece.until)
    fired_here = sorted(each for each in firing if piece.after < each <= piece.until)
    begin = piece.after
    if total - len(fired_here) > MOST_SINGLE_ROWS:
        end = fired_here[0] - _JUST if fired_here else piece.until
        first = next_instant(schedule.timing, begin)
        last = last_instants(schedule.timing, begin, end, 1)
        assert first is not None
        count = count_instants(schedule.timing, begin, end)
        yield LedgerRow(first, last[0], count, piece.outcome or TickOutcome.MISSED)
        begin = end
    for instant in instants(schedule.timing, begin, piece.until):
        if instant not in firing:
            yield LedgerRow(instant, instant, 1, piece.outcome or _why(schedule, instant, closed))


def _why(schedule: Schedule, instant: datetime, closed: tuple[TickOutcome | None, datetime]) -> TickOutcome:
    """An instant that came just before a pause was not missed: the pause kept it from firing."""
    outcome, now = closed
    return outcome if outcome and now - fire_time(schedule, instant) <= PUNCTUAL else TickOutcome.MISSED
