"""Time as the pure code sees it: an interface, and the integers the store keeps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
    return _EPOCH + timedelta(microseconds=us)


def to_text(moment: datetime) -> str:
    """RFC 3339, UTC, without trailing zeros: 2026-11-22T10:26:23.12Z."""
    text = moment.isoformat()[:-6]
    return (text.rstrip("0") if moment.microsecond else text) + "Z"
