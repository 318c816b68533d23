"""How far the clock of an engine on another machine is from ours. Called by `ending` and `logs`.

Whether a run ended before its end was asked for is told by comparing the two, so all times leave the driver on ours.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

from oneoff.drivers.docker.client import Call, Engine
from oneoff.drivers.docker.convert import to_instant

_ASK_AGAIN_SECONDS = 60.0  # clocks that nobody keeps right drift by some milliseconds in that time
_MARGIN_SECONDS = 0.2  # far more than half of what asking takes


class EngineClock:
    """Of one engine. One on this machine has our clock; another one is asked for its own, at most once a minute."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lag = timedelta()
        self._asked_at: float | None = None
        self._asking = asyncio.Lock()

    async def lag(self) -> timedelta:
        """What has to be added to a time of the engine to have it on our clock; known to half of what asking takes."""
        if not self._engine.is_local:
            async with self._asking:  # all who ask at once are told the same
                if self._asked_at is None or time.monotonic() - self._asked_at > _ASK_AGAIN_SECONDS:
                    await self._ask()
        return self._lag

    async def now(self) -> float:
        """Seconds since 1970 by the engine's clock; rather too many than too few, where it is another clock."""
        lag = await self.lag()
        return time.time() - lag.total_seconds() + (0.0 if self._engine.is_local else _MARGIN_SECONDS)

    async def _ask(self) -> None:
        before, began = datetime.now(UTC), time.monotonic()
        info = await self._engine.send(Call("GET", "/info", read_seconds=30))
        half = timedelta(seconds=(time.monotonic() - began) / 2)
        theirs = to_instant(info.get("SystemTime") or "")
        self._lag = timedelta() if theirs is None else before + half - theirs
        self._asked_at = began
