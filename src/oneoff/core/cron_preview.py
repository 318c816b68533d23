"""The next instants of a cron as people want to see them: wall and UTC, marked where a DST rule applied. Pure; for the
API, the CLI and the dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice

from oneoff.core.cron import Timing, instants, matching_walls, to_moment, to_second
from oneoff.core.dst import DstPolicy, Transition, transitions

MOST_PREVIEWED = 100
_LONGEST_OVERLAP = timedelta(days=1)


class DstMark(StrEnum):
    """Which rule of the DST policy made an instant what it is."""

    AFTER_GAP = "after_gap"  # stands for times that the wall clock leaves out
    FIRST_OF_TWO = "first_of_two"  # the wall shows this time twice, here the first time
    SECOND_OF_TWO = "second_of_two"
    SKIPPED_IN_GAP = "skipped_in_gap"  # left out by the wall clock, and the policy lets it be


@dataclass(frozen=True, slots=True)
class Previewed:
    """`wall` is without a zone; `moment` is UTC, and None where nothing fires."""

    wall: datetime
    moment: datetime | None
    mark: DstMark | None


def preview(timing: Timing, after: datetime, count: int) -> list[Previewed]:
    """The next `count` instants (at most 100), and in between one entry for each gap that swallowed some."""
    coming = list(islice(instants(timing, after), min(count, MOST_PREVIEWED)))
    if not coming:
        return []
    changes = list(transitions(timing.zone, to_second(after - _LONGEST_OVERLAP), to_second(coming[-1]) + 1))
    fired = [_to_previewed(timing, moment, changes) for moment in coming]
    return sorted([*fired, *_swallowed(timing, after, changes)], key=lambda each: (_order(timing, each), each.wall))


def _to_previewed(timing: Timing, moment: datetime, changes: list[Transition]) -> Previewed:
    second = to_second(moment)
    local = moment.astimezone(timing.zone)
    wall = local.replace(tzinfo=None, fold=0)
    mark = None
    if timing.fires_after_gap and any(
        change.at == second and _first_left_out(timing, change) is not None for change in changes
    ):
        mark = DstMark.AFTER_GAP
    elif local.fold:
        mark = DstMark.SECOND_OF_TWO
    elif local.utcoffset() != local.replace(fold=1).utcoffset():
        mark = DstMark.FIRST_OF_TWO
    return Previewed(wall, moment, mark)


def _swallowed(timing: Timing, after: datetime, changes: list[Transition]) -> Iterator[Previewed]:
    if timing.policy is not DstPolicy.SKIP:
        return
    for change in changes:
        wall = _first_left_out(timing, change)
        if wall is not None and change.at > to_second(after):
            yield Previewed(to_moment(wall).replace(tzinfo=None), None, DstMark.SKIPPED_IN_GAP)


def _first_left_out(timing: Timing, change: Transition) -> int | None:
    if change.after < change.before:
        return None
    return next(matching_walls(timing.expression, change.wall_from, change.wall_to), None)


def _order(timing: Timing, each: Previewed) -> datetime:
    return each.moment or each.wall.replace(tzinfo=timing.zone)
