"""What is an expression, what is refused and how it is told; the sentences in English."""

from __future__ import annotations

from contextlib import suppress
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.cron_strategies import EXPRESSIONS

from oneoff.core.cron_expression import NICKNAMES, matching_days, parse_cron
from oneoff.core.cron_words import describe_cron
from oneoff.errors import InvalidCron


def days_of(text: str, year: int, month: int) -> list[int]:
    return list(matching_days(parse_cron(text), year, month))


@pytest.mark.parametrize(
    ("text", "part", "words"),
    [
        ("", None, "five fields"),
        ("* * * *", None, "4 fields"),
        ("0 * * * * *", None, "seconds"),
        ("0 0 0 1 1 ? 2026", None, "7 fields"),
        ("@reboot", None, "--gate after-deploy"),
        ("@fortnightly", None, "@hourly"),
        ("@daily 5", None, "each alone"),
        ("60 * * * *", "minute", "0 to 59"),
        ("-1 * * * *", "minute", "0 to 59"),
        ("* 24 * * *", "hour", "0 to 23"),
        ("* * 0 * *", "day of month", "1 to 31"),
        ("* * 32 * *", "day of month", "1 to 31"),
        ("* * 15W * *", "day of month", "LW"),
        ("* * * 13 *", "month", "JAN to DEC"),
        ("* * * JANUARY *", "month", "JAN to DEC"),
        ("* * * * 8", "day of week", "SUN to SAT"),
        ("* * * * MON#6", "day of week", "#1 to #5"),
        ("* * * * FRI-MON", "day of week", "FRI-6,0-MON"),
        ("* 22-2 * * *", "hour", "22-23,0-2"),
        ("*/0 * * * *", "minute", "step"),
        ("*/61 * * * *", "minute", "1 to 60"),
        ("1,,2 * * * *", "minute", "empty place"),
        ("* H * * *", "hour", "0 to 23"),
        ("٣ * * * *", "minute", "0 to 59"),
        ("²  * * * *", "minute", "0 to 59"),
        ("00000000000000000000000000000001 * * * *", "minute", "0 to 59"),
        ("0 0 30 2 *", "day of month", "no such day ever comes"),
        ("0 0 31 4,6,9,11 *", "day of month", "no such day ever comes"),
        ("* * ? * *", "day of month", "1 to 31"),
        ("1," * 300 + "1 * * * *", None, "500 characters"),
    ],
)
def test_a_wrong_expression_is_refused_naming_the_field_and_what_is_allowed(
    text: str, part: str | None, words: str
) -> None:
    with pytest.raises(InvalidCron) as caught:
        parse_cron(text)
    assert caught.value.part == part
    assert words in str(caught.value)
    assert part is None or f"in {part}," in str(caught.value)
    assert caught.value.field == "expression"


@given(st.text(max_size=40))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    with suppress(InvalidCron):
        assert parse_cron(text).times


@pytest.mark.parametrize(("nickname", "fields"), NICKNAMES.items())
def test_a_nickname_means_its_five_fields(nickname: str, fields: str) -> None:
    short, long = parse_cron(nickname.upper()), parse_cron(fields)
    assert (short.times, short.days, short.months, short.weekdays) == (
        long.times,
        long.days,
        long.months,
        long.weekdays,
    )


@pytest.mark.parametrize(
    ("minute", "values"),
    [
        ("5", (5,)),
        ("5/15", (5, 20, 35, 50)),
        ("*/25", (0, 25, 50)),
        ("10-20/5", (10, 15, 20)),
        ("1,3-5,3", (1, 3, 4, 5)),
        ("*/60", (0,)),
    ],
)
def test_lists_ranges_and_steps_name_their_values(minute: str, values: tuple[int, ...]) -> None:
    assert parse_cron(f"{minute} * * * *").minutes == values


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("0 0 13 * FRI", [6, 13, 20, 27]),  # March 2026: one is enough
        ("0 0 14 * FRI", [6, 13, 14, 20, 27]),
        ("0 0 */2 * MON", [9, 23]),  # begins with a star: both
        ("0 0 1-31 * MON", list(range(1, 32))),  # any day is given by number: one is enough
        ("0 0 L * *", [31]),
        ("0 0 LW * *", [31]),
        ("0 0 * * 5L", [27]),
        ("0 0 * * MON#2", [9]),
        ("0 0 * * MON#2,SUNL", [9, 29]),
        ("0 0 * * 0", [1, 8, 15, 22, 29]),
        ("0 0 * * 7", [1, 8, 15, 22, 29]),
        ("0 0 * * SAT-SUN", [1, 7, 8, 14, 15, 21, 22, 28, 29]),
        ("0 0 * * 5-7", [1, 6, 7, 8, 13, 14, 15, 20, 21, 22, 27, 28, 29]),
        ("0 0 * 4 *", []),
    ],
)
def test_days_and_weekdays_meet_as_in_debian_cron(text: str, days: list[int]) -> None:
    assert days_of(text, 2026, 3) == days


def test_the_last_working_day_is_before_a_weekend_at_the_end() -> None:
    assert days_of("0 0 LW * *", 2026, 2) == [27]  # 28 February 2026 is a Saturday
    assert days_of("0 0 LW * *", 2026, 5) == [29]  # 31 May 2026 is a Sunday


@given(EXPRESSIONS, st.dates(date(1990, 1, 1), date(2090, 1, 1)))
def test_days_agree_with_the_rule_as_debian_writes_it(expression: object, day: date) -> None:
    parsed = parse_cron(str(expression))
    text = parsed.text.split()
    last = (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    weekday = day.isoweekday() % 7
    working = max(d for d in (last - timedelta(days=n) for n in range(3)) if d.isoweekday() < 6)
    by_day = day.day in parsed.days or (text[2] == "L" and day == last) or (text[2] == "LW" and day == working)
    by_weekday = weekday in parsed.weekdays
    by_weekday |= text[4] == "5L" and weekday == 5 and day.day > last.day - 7
    by_weekday |= text[4] == "MON#2" and weekday == 1 and 8 <= day.day <= 14
    star = text[2][0] == "*" or text[4][0] == "*"
    expected = day.month in parsed.months and ((by_day and by_weekday) if star else (by_day or by_weekday))
    assert (day.day in matching_days(parsed, day.year, day.month)) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("* * * * *", "Every minute"),
        ("*/5 * * * *", "Every 5 minutes"),
        ("*/25 * * * *", "At minutes 0, 25 and 50 of every hour"),
        ("@hourly", "Every hour on the hour"),
        ("@weekly", "At 00:00, on Sunday"),
        ("30 2 * * 1-5", "At 02:30, Monday to Friday"),
        ("0 0,12 1 * *", "At 00:00 and 12:00, on day 1 of the month"),
        ("*/10 9-17 * * MON-FRI", "Every 10 minutes from 09:00 to 17:59, Monday to Friday"),
        ("0 */2 * * *", "At minute 0 of every second hour, from 00:00 on"),
        ("0 0 13 * FRI", "At 00:00, on day 13 of the month and also on Friday"),
        ("0 0 LW 3 *", "At 00:00, on the last working day (Monday to Friday) of the month, in March"),
        ("0 9 * * 5L,1", "At 09:00, on Monday and the last Friday of the month"),
        ("0 0 1-31 * MON", "At 00:00, every day"),
        ("15 4 */3 * 6,0", "At 04:15, on every third day of the month, from day 1 on if it is Saturday or Sunday"),
    ],
)  # fmt: skip
def test_an_expression_is_told_as_a_sentence(text: str, sentence: str) -> None:
    assert describe_cron(parse_cron(text)) == sentence


@given(EXPRESSIONS)
def test_every_expression_has_a_sentence(expression: object) -> None:
    sentence = describe_cron(parse_cron(str(expression)))
    assert sentence[0].isupper()
    assert "  " not in sentence
