"""How long to wait for an engine that does not answer. Used by the executor."""

from __future__ import annotations

from oneoff import journal
from oneoff.engine.context import Context

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


class Patience:
    """Ever longer pauses, up to the operator's limit in all. One for each stretch of trouble."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._since: float | None = None
        self._pause = _FIRST_PAUSE

    async def lasts(self, problem: Exception, most_seconds: float | None = None) -> bool:
        """Sleep before the next try. False when the limit is reached: `most_seconds`, else the operator's."""
        clock = self._context.clock
        now = clock.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since > (most_seconds or self._context.settings.node_away_seconds):
            return False
        journal.warning("the engine does not answer", error=str(problem), pause=self._pause)
        await clock.sleep(self._pause)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        return True
