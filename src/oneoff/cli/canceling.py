"""What the first Ctrl-C does to a command that started something and waits for it. Used by `run`,
`batch create` and `deploy`."""

from __future__ import annotations

import threading
import time

from oneoff.cli.problems import ApiRefused, ServerUnreachable
from oneoff.cli.session import Session
from oneoff.cli.streams import Narrator

_ADDRESSES = {"run": "/runs", "batch": "/batches", "deploy": "/deploys"}


class Canceller:
    """The cancel is sent from a thread of its own: the run, or the batch, is followed to its end."""

    def __init__(self, session: Session, narrator: Narrator, noun: str) -> None:
        self._session = session
        self._narrator = narrator
        self._noun = noun
        self.requested = False
        self.known_id: str | None = None

    def request(self) -> None:
        """Runs in the signal handler."""
        self.requested = True
        self._narrator.progress(f"canceling; interrupt again to leave the {self._noun} going")
        if self.known_id:
            self._start()

    def know(self, new_id: str) -> None:
        self.known_id = new_id
        if self.requested:
            self._start()

    def _start(self) -> None:
        threading.Thread(target=self._cancel, daemon=True).start()

    def _cancel(self) -> None:
        from oneoff.cli.client import backoff

        for delay in backoff():
            try:
                self._session.client.call("POST", f"{_ADDRESSES[self._noun]}/{self.known_id}/cancel")
                return
            except ServerUnreachable:
                time.sleep(delay)
            except ApiRefused as problem:
                if not problem.is_temporary:
                    self._narrator.warn(f"error: {self.known_id} cannot be canceled: {problem}")
                    return
                time.sleep(delay)
