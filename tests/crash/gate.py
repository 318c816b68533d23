"""Holds commands until the test lets them go: they connect, and end when they are answered."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Gate:
    """Commands say a word when they come; `let` answers those words, also the ones that come later."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        self._changed = threading.Condition()
        self._waiting: dict[str, socket.socket] = {}
        self._free: set[str] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def waiting(self) -> set[str]:
        with self._changed:
            return set(self._waiting)

    def let(self, words: set[str]) -> None:
        with self._changed:
            self._free |= words
            for word in words & self._waiting.keys():
                self._answer(self._waiting.pop(word))

    def close(self) -> None:
        # Ends `accept` in its thread, which else takes a connection of the next listener with this file's number.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._admit, args=(connection,), daemon=True).start()

    def _admit(self, connection: socket.socket) -> None:
        try:
            word = connection.makefile("r").readline().strip()
        except OSError:  # it was killed while it spoke
            connection.close()
            return
        with self._changed:
            if word in self._free:
                self._answer(connection)
            else:
                self._waiting[word] = connection

    @staticmethod
    def _answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):  # the command may have been killed while it waited
            connection.sendall(b"go\n")
            connection.shutdown(socket.SHUT_RDWR)
