"""A cron expression read into values: five fields or a nickname. Pure; used by core.cron and the API."""

from __future__ import annotations

import calendar
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from oneoff.errors import InvalidCron

NICKNAMES: Mapping[str, str] = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
LAST = -1  # as the n of "the n-th weekday of the month"
_MOST_CHARACTERS = 500
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_CYCLE_YEARS = range(2000, 2400)  # the Gregorian calendar repeats after 400 years


@dataclass(frozen=True, slots=True, eq=False)
class CronExpression:
    """What an expression says; made by `parse_cron` only, so that equal texts are equal expressions.

    Weekdays are 0 = Sunday … 6 = Saturday, as in cron.

    `nth_weekdays` holds (weekday, n) of `MON#2`, and (weekday, LAST) of `5L`. The stars tell whether a field begins
    with `*`: Debian's cron takes day and weekday together (both must match) when either does, else one is enough.
    """

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    nth_weekdays: frozenset[tuple[int, int]]
    on_last_day: bool
    on_last_working_day: bool
    day_has_star: bool
    weekday_has_star: bool
    follows_real_time: bool  # the minute or the hour field contains `*`
    times: tuple[int, ...] = field(repr=False)  # seconds since midnight of all its times of day, ascending

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CronExpression) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


@dataclass(frozen=True, slots=True)
class _Field:
    """`span` is what a range or a list may hold; `size` is how many values there are, the largest useful step."""

    name: str
    first: int
    last: int
    size: int
    names: tuple[str, ...] = ()
    first_name: int = 0


_FIELDS = (
    _Field("minute", 0, 59, 60),
    _Field("hour", 0, 23, 24),
    _Field("day of month", 1, 31, 31),
    _Field("month", 1, 12, 12, _MONTHS, 1),
    _Field("day of week", 0, 7, 7, _WEEKDAYS, 0),
)


@lru_cache(maxsize=4096)
def parse_cron(text: str) -> CronExpression:
    """`text` as values. Raises InvalidCron, which names the field and what is allowed in it."""
    if len(text) > _MOST_CHARACTERS:
        raise InvalidCron(text[:40] + "…", f"it has more than {_MOST_CHARACTERS} characters")
    minute, hour, day, month, weekday = _split(text)
    minutes, hours = (_Reader(text, _FIELDS[i], part).read_values() for i, part in ((0, minute), (1, hour)))
    days = _Reader(text, _FIELDS[2], day)
    weekdays = _Reader(text, _FIELDS[4], weekday)
    expression = CronExpression(
        text=" ".join(text.split()),
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=frozenset(days.read_values()),
        months=frozenset(_Reader(text, _FIELDS[3], month).read_values()),
        weekdays=frozenset(number % 7 for number in weekdays.read_values()),
        nth_weekdays=frozenset(weekdays.nth),
        on_last_day=days.on_last_day,
        on_last_working_day=days.on_last_working_day,
        day_has_star=day.startswith("*"),
        weekday_has_star=weekday.startswith("*"),
        follows_real_time="*" in minute or "*" in hour,
        times=_times_of_day(tuple(sorted(hours)), tuple(sorted(minutes))),
    )
    _check_that_it_happens(expression)
    return expression


def matching_days(expression: CronExpression, year: int, month: int) -> tuple[int, ...]:
    """The days of a month on which it fires, ascending."""
    if month not in expression.months:
        return ()
    first, length = calendar.monthrange(year, month)
    return _days_of_month(expression, (first + 1) % 7, length)


@lru_cache(maxsize=65536)
def _days_of_month(expression: CronExpression, first_weekday: int, length: int) -> tuple[int, ...]:
    return tuple(day for day in range(1, length + 1) if _matches_day(expression, day, first_weekday, length))


def _matches_day(expression: CronExpression, day: int, first_weekday: int, length: int) -> bool:
    weekday = (first_weekday + day - 1) % 7
    by_day = (
        day in expression.days
        or (expression.on_last_day and day == length)
        or (expression.on_last_working_day and day == _last_working_day(first_weekday, length))
    )
    by_weekday = (
        weekday in expression.weekdays
        or (weekday, (day + 6) // 7) in expression.nth_weekdays
        or (day + 7 > length and (weekday, LAST) in expression.nth_weekdays)
    )
    if expression.day_has_star or expression.weekday_has_star:
        return by_day and by_weekday
    return by_day or by_weekday


def _last_working_day(first_weekday: int, length: int) -> int:
    weekday = (first_weekday + length - 1) % 7
    return length - {0: 2, 6: 1}.get(weekday, 0)


@lru_cache(maxsize=4096)
def _times_of_day(hours: tuple[int, ...], minutes: tuple[int, ...]) -> tuple[int, ...]:
    # Shared between expressions: thousands of crons have a handful of different times.
    return tuple(hour * 3600 + minute * 60 for hour in hours for minute in minutes)


def _split(text: str) -> list[str]:
    parts = text.split()
    if not parts:
        raise InvalidCron(text, "it is empty; write five fields: minute hour day-of-month month day-of-week")
    if parts[0].startswith("@"):
        return _split_nickname(text, parts)
    if len(parts) in (6, 7):
        raise InvalidCron(
            text,
            f"it has {len(parts)} fields; seconds and years are not known here, the finest step is a minute. "
            "Write five fields: minute hour day-of-month month day-of-week",
        )
    if len(parts) != 5:
        fields = "1 field" if len(parts) == 1 else f"{len(parts)} fields"
        raise InvalidCron(text, f"it has {fields}; write five: minute hour day-of-month month day-of-week; or @daily")
    return parts


def _split_nickname(text: str, parts: list[str]) -> list[str]:
    name = parts[0].lower()
    if name == "@reboot":
        raise InvalidCron(
            text,
            "there is no boot to wait for; to run a job after each deploy give it `--gate after-deploy`",
        )
    if len(parts) > 1 or name not in NICKNAMES:
        raise InvalidCron(text, f"the nicknames are {', '.join(NICKNAMES)}, each alone; or write five fields")
    return NICKNAMES[name].split()


def _check_that_it_happens(expression: CronExpression) -> None:
    if any(True for _ in _happening_months(expression)):
        return
    both = "; as one of the two day fields begins with *, a day must match both" if _is_restricted(expression) else ""
    raise InvalidCron(
        expression.text,
        f"no such day ever comes{both}. Allowed: days that the months have, for example 28 for the end of February, or "
        "L for the last day of any month",
        "day of month",
    )


def _is_restricted(expression: CronExpression) -> bool:
    return (expression.day_has_star or expression.weekday_has_star) and len(expression.weekdays) < 7


def _happening_months(expression: CronExpression) -> Iterator[tuple[int, int]]:
    for year in _CYCLE_YEARS:
        for month in sorted(expression.months):
            if matching_days(expression, year, month):
                yield year, month


class _Reader:
    """Reads one field; what is special about days is left in its attributes."""

    def __init__(self, text: str, its: _Field, part: str) -> None:
        self._text = text
        self._its = its
        self._part = part
        self.on_last_day = False
        self.on_last_working_day = False
        self.nth: set[tuple[int, int]] = set()

    def read_values(self) -> set[int]:
        values: set[int] = set()
        for item in self._part.split(","):
            if not item:
                raise self._wrong("there is an empty place in the list")
            if not self._read_special(item.upper()):
                values |= self._read_range(item.upper())
        return values

    def _read_special(self, item: str) -> bool:
        if self._its.name == "day of month" and item in ("L", "LW"):
            self.on_last_day |= item == "L"
            self.on_last_working_day |= item == "LW"
            return True
        if self._its.name == "day of week":
            if item.endswith("L") and len(item) > 1:
                self.nth.add((self._number(item[:-1]) % 7, LAST))
                return True
            if "#" in item:
                weekday, _, which = item.partition("#")
                if which not in ("1", "2", "3", "4", "5"):
                    raise self._wrong(f"{item!r} must end in #1 to #5, for example MON#2, the second Monday")
                self.nth.add((self._number(weekday) % 7, int(which)))
                return True
        return False

    def _read_range(self, item: str) -> set[int]:
        span, slash, step_text = item.partition("/")
        step = self._step(item, step_text) if slash else 1
        if span == "*":
            # 7 is a second name of Sunday: `*/2` on weekdays counts 0, 2, 4, 6.
            return set(range(self._its.first, self._its.first + self._its.size, step))
        if "-" in span:
            first, _, last = span.partition("-")
            return set(range(*self._bounds(item, first, last), step))
        first_number = self._number(span)
        end = self._its.first + self._its.size if slash else first_number + 1
        return set(range(first_number, max(end, first_number + 1), step))

    def _bounds(self, item: str, first: str, last: str) -> tuple[int, int]:
        low, high = self._number(first), self._number(last)
        if self._its.name == "day of week" and last == "SUN" and low > 0:
            high = 7
        if low > high:
            raise self._wrong(
                f"{item!r} runs backwards; write two ranges, {first}-{self._its.first + self._its.size - 1},"
                f"{self._its.first}-{last}"
            )
        return low, high + 1

    def _step(self, item: str, text: str) -> int:
        step = self._digits(text)
        if step is None or not 1 <= step <= self._its.size:
            raise self._wrong(f"the step of {item!r} must be 1 to {self._its.size}; steps begin anew in each round")
        return step

    def _number(self, text: str) -> int:
        if text in self._its.names:
            return self._its.names.index(text) + self._its.first_name
        number = self._digits(text)
        if number is None or not self._its.first <= number <= self._its.last:
            raise self._wrong(f"{text!r} is not allowed")
        return number

    @staticmethod
    def _digits(text: str) -> int | None:
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else None

    def _wrong(self, why: str) -> InvalidCron:
        its = self._its
        names = f" or {its.names[0]} to {its.names[-1]}" if its.names else ""
        more = {"day of month": ", L (last day), LW (last working day)", "day of week": ", 5L (last), 5#2 (second)"}
        allowed = f"{its.first} to {its.last}{names}{more.get(its.name, '')}, with * , - /"
        return InvalidCron(self._text, f"{why}. Allowed: {allowed}", its.name)
