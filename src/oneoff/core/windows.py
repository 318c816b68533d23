"""Time control of a run: "must end by" a time of day, the warning before the limit, extending it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from oneoff.core.cron import Timing, next_instant
from oneoff.core.cron_expression import parse_cron
from oneoff.errors import InvalidTimeOfDay

_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_WARNED_AT = 0.8  # of the limit


@dataclass(frozen=True, slots=True)
class TimeOfDay:
    hour: int
    minute: int

    def __str__(self) -> str:
        return f"{self.hour:02}:{self.minute:02}"


def parse_time_of_day(text: str) -> TimeOfDay:
    """`06:30`. Raises InvalidTimeOfDay."""
    match = _TIME_OF_DAY.fullmatch(text)
    if not match:
        raise InvalidTimeOfDay(text)
    return TimeOfDay(int(match[1]), int(match[2]))


def end_by(time: TimeOfDay, zone: tzinfo, after: datetime) -> datetime:
    """The next moment later than `after` at which the wall shows `time`, in UTC; right after the gap on a day that
    leaves it out, the first time on a day that shows it twice. Counted from the creation of the first attempt, it is
    one deadline for all of them."""
    moment = next_instant(Timing(parse_cron(f"{time.minute} {time.hour} * * *"), zone), after)
    assert moment is not None
    return moment


def limit_within(timeout_seconds: int, starts_at: datetime, ends_by: datetime | None) -> int:
    """The time limit of a run that starts now and must have ended by then; 0 when no time is left to start it."""
    if ends_by is None:
        return timeout_seconds
    return max(0, min(timeout_seconds, (ends_by - starts_at) // timedelta(seconds=1)))


def warning_at(started_at: datetime, timeout_seconds: int) -> datetime:
    """When a run is warned of its limit: at four fifths of it."""
    return started_at + timedelta(seconds=timeout_seconds * _WARNED_AT)
