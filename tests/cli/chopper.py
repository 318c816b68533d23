"""A TCP proxy that cuts connections carrying a log stream, each after so many bytes of the answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class Chopper:
    """`cuts` counts the streams cut so far; after `cuts_left` reached 0 everything passes."""

    def __init__(self, upstream: str, cuts: int, after_bytes: int) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "", parts.port or 0)
        self._after_bytes = after_bytes
        self.cuts_left = cuts
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def close(self) -> None:
        # shutdown wakes the accept of the other thread; close alone does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _carry(self, client: socket.socket) -> None:
        server = socket.create_connection(self._upstream)
        is_stream = threading.Event()
        up = threading.Thread(target=self._pass_up, args=(client, server, is_stream), daemon=True)
        up.start()
        passed = 0
        with suppress(OSError):
            while data := server.recv(4096):
                if is_stream.is_set() and self.cuts_left and passed + len(data) > self._after_bytes:
                    client.sendall(data[: self._after_bytes - passed])
                    self.cuts_left -= 1
                    self.cuts += 1
                    break
                passed += len(data) if is_stream.is_set() else 0
                client.sendall(data)
        for each in (client, server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        up.join()
        client.close()
        server.close()

    @staticmethod
    def _pass_up(client: socket.socket, server: socket.socket, is_stream: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if b"/logs/stream" in data:
                    is_stream.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)


@contextmanager
def chopper(upstream: str, *, cuts: int, after_bytes: int) -> Iterator[Chopper]:
    proxy = Chopper(upstream, cuts, after_bytes)
    thread = threading.Thread(target=proxy.serve)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join()
