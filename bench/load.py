"""Light clients in a process of their own: each sends one request over a kept connection again and again.

    python -m bench.load PORT TOKEN PATH BODY CLIENTS SECONDS

Prints JSON: how many were answered 201, in how many seconds, and the latencies in seconds. Started by `accepting`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import cast

import uvloop

_HEAD_END = b"\r\n\r\n"


class Client(asyncio.Protocol):
    """Sends the next request as soon as the last one is answered, until the time is over."""

    def __init__(self, request: bytes, until: float, latencies: list[float]) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._request = request
        self._until = until
        self._latencies = latencies
        self._buffer = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of it.
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(_HEAD_END)
        if not found or len(body) < _length(head):
            return
        if b" 201 " not in head.partition(b"\r\n")[0]:
            self.ended.set_exception(RuntimeError(self._buffer.decode()))
            self._transport.close()
            return
        now = time.perf_counter()
        self._latencies.append(now - self._sent_at)
        self._buffer = b""
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise RuntimeError("an answer without Content-Length")


async def main(port: str, token: str, path: str, body: str, clients: str, seconds: str) -> None:
    request = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    latencies: list[float] = []
    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Client(request, began + float(seconds), latencies), "127.0.0.1", int(port))
        for _ in range(int(clients))
    ]
    await asyncio.gather(*(client.ended for _, client in made))
    took = time.perf_counter() - began
    json.dump({"accepted": len(latencies), "seconds": took, "latencies": latencies}, sys.stdout)


if __name__ == "__main__":
    # The last processor is theirs; the server may take any.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    uvloop.run(main(*sys.argv[1:]))
