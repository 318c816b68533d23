"""Looks again and again at what goes on at the server. Used by the commands that wait for the end of a run, a batch or
a deploy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from oneoff.cli.client import Client, backoff
from oneoff.cli.problems import ApiRefused, ServerUnreachable
from oneoff.cli.streams import LostConnection

if TYPE_CHECKING:
    from oneoff.cli.client import Answer

_FIRST_SECONDS, _MOST_SECONDS, _GROWTH = 0.05, 1.0, 1.5


class Watch:
    """`look`, and `pause` before the next look; pauses grow. A lost connection only takes time, and is told by `say`;
    `what` goes on meanwhile."""

    def __init__(self, client: Client, say: Callable[[str], None], what: str) -> None:
        self._client = client
        self._lost = LostConnection(say, what)
        self._delay = _FIRST_SECONDS

    def look(self, path: str, **query: Any) -> Answer:
        """Raises ApiRefused when the server is there and says no."""
        for delay in backoff():
            try:
                return self._client.get(path, **query)
            except ServerUnreachable:
                self._client.look_again()
            except ApiRefused as problem:
                if not problem.is_temporary:
                    raise
            self._lost.tell()
            time.sleep(delay)
        raise AssertionError("the delays never end")

    def pause(self) -> None:
        time.sleep(self._delay)
        self._delay = min(_MOST_SECONDS, self._delay * _GROWTH)

    def hurry(self) -> None:
        """Something has changed: more may change soon."""
        self._delay = _FIRST_SECONDS
