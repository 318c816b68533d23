"""Durations and the time limit of a run. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from oneoff.errors import InvalidDuration, TimeLimitTooLong

CEILING_SECONDS = 30 * 24 * 3600  # of every run, whatever the plan
_SIZES = {"": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(?P<d>\d+)d)?(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+)s)?")


def parse_duration(text: str) -> int:
    """Seconds of `90s`, `10m`, `1h30m`, `30d`; a plain number is seconds. At least 1. Raises InvalidDuration."""
    if text.isascii() and text.isdigit():
        seconds = int(text)
    else:
        match = _DURATION.fullmatch(text) if text.isascii() else None
        if not match:
            raise InvalidDuration(text)
        seconds = sum(int(count or 0) * _UNITS[unit] for unit, count in match.groupdict().items())
    if seconds < 1:
        raise InvalidDuration(text)
    return seconds


def format_duration(seconds: int) -> str:
    """The shortest text that `parse_duration` reads back as the same: 5400 -> 1h30m."""
    parts = []
    for unit, size in _UNITS.items():
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def check_time_limit(seconds: int, most: int, whose: str, would_do: Iterable[str] = (), already: int = 0) -> int:
    """`seconds` when it is within `most`, the maximum of `whose` ("the Team plan"). Raises TimeLimitTooLong, naming the
    plans that `would_do`, and what is left when a going run has so much `already`."""
    most = min(most, CEILING_SECONDS)
    if seconds <= most:
        return seconds
    mend = f"ask for {format_duration(most)} or less"
    if already:
        left = f"ask for {format_duration(most - already)} more or less" if already < most else "it can get no more"
        mend = f"the run has {format_duration(already)} already, {left}"
    raise TimeLimitTooLong(format_duration(seconds), format_duration(most), whose, mend, would_do)


def parse_bytes(text: str) -> int:
    """Of `512MB`, `2GB`; a plain number is bytes. Binary, as the instance types are written. Raises ValueError."""
    number = text.rstrip("kMGTB")
    unit = text[len(number) :]
    if unit not in _SIZES or not (number.isascii() and number.isdigit()):
        raise ValueError("write for example 256MB or 20GB")
    return int(number) * _SIZES[unit]


def format_bytes(count: int) -> str:
    """For people: 536870912 -> 512 MB (binary, as the instance types are written)."""
    for unit, size in (("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}".replace(".0 ", " ")
    return f"{count} B"
