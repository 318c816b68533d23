"""Time as the pure code sees it: an interface, and the integers the store keeps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000
_TWO_DIGITS = [f"{number:02}" for number in range(60)]  # a list tells many times, and formatting numbers is slow
_EXACT_IN_FLOAT = 2**33 * _SECOND  # until the year 2242 a float of seconds tells microseconds apart


class Clock(Protocol):
    def now(self) -> datetime:
        """Wall time, UTC."""

    def monotonic(self) -> float:
        """Seconds that never jump, for time limits."""

    async def sleep(self, seconds: float) -> None: ...


def to_us(moment: datetime) -> int:
    """Microseconds since 1970, as the store keeps times."""
    whole = int(moment.timestamp())
    return whole * 1_000_000 + moment.microsecond


def from_us(us: int) -> datetime:
    if 0 <= us < _EXACT_IN_FLOAT:
        return datetime.fromtimestamp(us / _SECOND, UTC)  # twice as fast
    return _EPOCH + timedelta(microseconds=us)


def to_text(moment: datetime) -> str:
    """RFC 3339, UTC, without trailing zeros: 2026-11-22T10:26:23.12Z."""
    two = _TWO_DIGITS
    day = f"{moment.year:04}-{two[moment.month]}-{two[moment.day]}"
    time = f"{two[moment.hour]}:{two[moment.minute]}:{two[moment.second]}.{moment.microsecond:06}"
    return f"{day}T{time}".rstrip("0").rstrip(".") + "Z"
