"""A cron expression as an English sentence, for previews and wherever a cron is shown. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from oneoff.core.cron_expression import LAST, CronExpression

_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_ORDINALS = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", LAST: "last"}
_FEW_TIMES = 6  # so many are told one by one
_ALL_HOURS = tuple(range(24))
_ALL_MINUTES = tuple(range(60))
_ANY_WEEKDAY = frozenset(range(7))
_ANY_DAY = frozenset(range(1, 32))
_ANY_MONTH = frozenset(range(1, 13))


def describe_cron(expression: CronExpression) -> str:
    """`30 2 * * MON-FRI` -> "At 02:30, Monday to Friday"."""
    parts = [_describe_times(expression), _describe_days(expression)]
    if expression.months != _ANY_MONTH:
        parts.append("in " + _join(_in_runs(sorted(expression.months), lambda month: _MONTHS[month - 1])))
    sentence = ", ".join(part for part in parts if part)
    return sentence[0].upper() + sentence[1:]


def _describe_times(expression: CronExpression) -> str:
    minutes, hours = expression.minutes, expression.hours
    if len(expression.times) <= _FEW_TIMES:
        return "at " + _join(_clock(time) for time in expression.times)
    if hours == _ALL_HOURS and minutes == (0,):
        return "every hour on the hour"
    step = _even_step(minutes, 0, 60)
    if minutes == _ALL_MINUTES or step is not None:
        every = f"every {step} minutes" if step is not None else "every minute"
        return f"{every} {_describe_hours(hours, 'in')}".rstrip()
    named = _join(_in_runs(minutes, str))
    return f"at {_plural('minute', minutes)} {named} {_describe_hours(hours, 'of') or 'of every hour'}"


def _describe_hours(hours: Sequence[int], word: str) -> str:
    if hours == _ALL_HOURS:
        return ""
    step = _even_step(hours, 0, 24)
    if step is not None:
        return f"{word} every {_number_th(step)} hour, from 00:00 on"
    if word == "in" and hours[-1] - hours[0] == len(hours) - 1:
        return f"from {hours[0]:02}:00 to {hours[-1]:02}:59"
    return f"{word} the {_plural('hour', hours)} {_join(_in_runs(hours, lambda hour: f'{hour:02}'))}"


def _describe_days(expression: CronExpression) -> str:
    day, weekday = _describe_month_days(expression), _describe_weekdays(expression, "and")
    if not day and not weekday:
        return "every day" if len(expression.times) <= _FEW_TIMES else ""
    both = expression.day_has_star or expression.weekday_has_star
    if not both and not (day and weekday):
        return "every day"  # one of the two allows any day, and one is enough
    if day and weekday:
        if not both:
            return f"{day} and also {weekday}"
        return f"{day} if it is {_describe_weekdays(expression, 'or').removeprefix('on ')}"
    return day or weekday


def _describe_month_days(expression: CronExpression) -> str:
    if expression.days == _ANY_DAY:
        return ""
    days = sorted(expression.days)
    step = _even_step(days, 1, 31)
    if step is not None:
        return f"on every {_number_th(step)} day of the month, from day 1 on"
    parts = []
    if days:
        parts.append(f"{_plural('day', days)} {_join(_in_runs(days, str))}")
    if expression.on_last_day:
        parts.append("the last day")
    if expression.on_last_working_day:
        parts.append("the last working day (Monday to Friday)")
    return f"on {_join(parts)} of the month"


def _describe_weekdays(expression: CronExpression, word: str) -> str:
    if expression.weekdays == _ANY_WEEKDAY:
        return ""
    # A week that begins on Monday keeps "Saturday and Sunday" together.
    days = sorted((day + 6) % 7 for day in expression.weekdays)
    parts = _in_runs(days, lambda day: _WEEKDAYS[(day + 1) % 7])
    nth = sorted(expression.nth_weekdays, key=lambda each: (each[1] == LAST, each[1], each[0]))
    parts += [f"the {_ORDINALS[which]} {_WEEKDAYS[day]} of the month" for day, which in nth]
    begins_with_run = " to " in parts[0]
    return _join(parts, word) if begins_with_run else "on " + _join(parts, word)


def _clock(time: int) -> str:
    return f"{time // 3600:02}:{time // 60 % 60:02}"


def _even_step(values: Sequence[int], first: int, size: int) -> int | None:
    """5 for 0, 5, 10, … 55. Of minutes and hours only steps that go on evenly into the next round: `*/25` is none."""
    step = values[1] - values[0] if len(values) > 1 else 1
    is_even = step > 1 and tuple(values) == tuple(range(first, first + size, step))
    return step if is_even and (first == 1 or size % step == 0) else None


def _in_runs(values: Sequence[int], name: Callable[[int], str]) -> list[str]:
    runs: list[list[int]] = []
    for value in values:
        if runs and runs[-1][-1] == value - 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    told: list[str] = []
    for run in runs:
        told += [f"{name(run[0])} to {name(run[-1])}"] if len(run) > 2 else [name(value) for value in run]
    return told


def _join(parts: Iterable[str], word: str = "and") -> str:
    *most, last = parts
    return f"{', '.join(most)} {word} {last}" if most else last


def _plural(word: str, values: Sequence[int]) -> str:
    return word if len(values) == 1 else f"{word}s"


def _number_th(number: int) -> str:
    return {2: "second", 3: "third", 21: "21st", 22: "22nd", 23: "23rd"}.get(number, f"{number}th")
