"""Which driver object made something, and whether it is still there. Used for what must be removed after a crash."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from oneoff.drivers.oci.folder import lock_state


class Owner:
    """Alive as long as its process holds the lock of its file; the kernel lets go of it in every case."""

    def __init__(self, state: Callable[[], Path]) -> None:
        self.id = os.urandom(8).hex()
        self._state = state
        self._fd = -1

    def announce(self) -> None:
        """Before anything is made in its name."""
        if self._fd >= 0:
            return
        folder = self._folder()
        folder.mkdir(mode=0o700, exist_ok=True)
        staged = folder / f".{self.id}"
        self._fd = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        # It gets its name locked: a file that is not is a dead owner's.
        staged.rename(folder / self.id)

    def is_alive(self, owner_id: str) -> bool:
        return bool(owner_id) and lock_state(str(self._folder() / owner_id)) == "held"

    def forget_dead(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            for path in self._folder().iterdir():
                if not path.name.startswith(".") and not self.is_alive(path.name):
                    path.unlink(missing_ok=True)

    def leave(self) -> None:
        if self._fd >= 0:
            (self._folder() / self.id).unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1

    def _folder(self) -> Path:
        return self._state() / "owners"
