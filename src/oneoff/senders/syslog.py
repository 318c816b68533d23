"""Syslog: over TLS (RFC 5425), plain TCP (RFC 6587) and UDP (RFC 5426). One connection, made when there is something to
send, and kept."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import ssl
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from oneoff.core.clock import Clock
from oneoff.core.log_stream import Framing, LogStreamProtocol, Receiver, split_endpoint
from oneoff.core.syslog import MOST_DATAGRAM_BYTES, SyslogWriter, frame_by_newline, frame_by_octets
from oneoff.senders.sender import Lines, SendFailed
from oneoff.senders.tls import make_tls

_CONNECT_SECONDS = 10.0
_GOODBYE_SECONDS = 1.0
_SEND_SECONDS = 60.0  # a receiver that takes nothing for so long hangs
# The kernel gives a connection up when what was sent is not confirmed for so long: before a delivery believes in it.
_USER_TIMEOUT_MS = 20_000
_MOST_IN_PROCESS = 256 * 1024  # the buffers of the event loop's transports, TLS and TCP
_UNCONFIRMED = struct.Struct("i")


class SyslogStream:
    """Over TLS or TCP. Syslog has no acknowledgement: that bytes have arrived says nothing of what became of them."""

    acknowledges = False

    def __init__(self, receiver: Receiver, token: str | None, ca_pem: str | None, clock: Clock) -> None:
        self._host, self._port = split_endpoint(receiver.endpoint)
        self._tls = make_tls(ca_pem) if receiver.protocol is LogStreamProtocol.TLS else None
        self._frame = frame_by_newline if receiver.framing is Framing.NEWLINE else frame_by_octets
        self._writer = SyslogWriter(token)
        self._clock = clock
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._tell: Callable[[], None] = lambda: None
        self._sent = 0
        self.connected_since: datetime | None = None
        self.failure: str | None = None

    def on_failure(self, call: Callable[[], None]) -> None:
        self._tell = call

    async def check(self) -> None:
        await self._connect()

    async def send(self, lines: Lines) -> int:
        data = await asyncio.to_thread(self._encode, lines)
        if self.failure is not None:
            raise SendFailed(self.failure)
        if self._connection is None:
            await self._connect()
        assert self._connection is not None
        _, writer = self._connection
        try:
            writer.write(data)
            async with asyncio.timeout(_SEND_SECONDS):
                await writer.drain()
        except TimeoutError:
            raise SendFailed(f"it took nothing for {_SEND_SECONDS:.0f} s") from None
        except OSError as problem:
            raise SendFailed(f"the connection was lost: {_words(problem)}") from problem
        if self.failure is not None:
            raise SendFailed(self.failure)
        self._sent += len(data)
        return self._sent

    def arrived(self) -> int:
        """TLS adds to what is sent, so what the kernel holds is more than is missing of it. Some may wait in this
        process, behind `drain`, as long as the kernel holds something."""
        if self._connection is None:
            return 0
        writer = self._connection[1]
        waiting = _in_kernel(writer.get_extra_info("socket")) + writer.transport.get_write_buffer_size()
        return self._sent if waiting == 0 else max(0, self._sent - waiting - _MOST_IN_PROCESS)

    def refused(self) -> int:
        return 0

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
        if self._connection is not None:
            await _hang_up(self._connection[1], politely=self.failure is None)
        self._connection = self._listening = None
        self._sent = 0
        self.connected_since = self.failure = None

    def _encode(self, lines: Lines) -> bytes:
        return b"".join(self._frame(self._writer.write(origin, line)) for origin, line in lines)

    async def _connect(self) -> None:
        name = self._host if self._tls else None
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(
                    self._host, self._port, ssl=self._tls, server_hostname=name
                )
        except TimeoutError:
            raise SendFailed(f"no connection within {_CONNECT_SECONDS:.0f} s") from None
        except (OSError, UnicodeError) as problem:
            raise SendFailed(_words(problem)) from problem
        _keep_alive(writer.get_extra_info("socket"))
        self._connection = reader, writer
        self.connected_since = self._clock.now()
        self._listening = asyncio.create_task(self._listen(reader))

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """A receiver says nothing; the end of its silence is the end of the connection."""
        why = "the receiver closed the connection"
        try:
            while await reader.read(4096):
                pass
        except OSError as problem:
            why = f"the connection was lost: {_words(problem)}"
        self.failure = why
        self._tell()


class SyslogDatagrams:
    """Over UDP: a datagram per line, and nobody knows what becomes of it."""

    acknowledges = True
    connected_since = failure = None

    def __init__(self, receiver: Receiver, token: str | None) -> None:
        self._host, self._port = split_endpoint(receiver.endpoint)
        self._writer = SyslogWriter(token, MOST_DATAGRAM_BYTES)
        self._socket: socket.socket | None = None

    def on_failure(self, call: Callable[[], None]) -> None:
        """There is no connection that could be lost."""

    async def check(self) -> None:
        await self._open()

    async def send(self, lines: Lines) -> int:
        if self._socket is None:
            await self._open()
        assert self._socket is not None
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                for origin, line in lines:
                    await asyncio.get_running_loop().sock_sendall(self._socket, self._writer.write(origin, line))
        except TimeoutError:
            raise SendFailed(f"it took nothing for {_SEND_SECONDS:.0f} s") from None
        except OSError as problem:  # what an earlier datagram came back with
            raise SendFailed(_words(problem)) from problem
        return 0

    def arrived(self) -> int:
        return 0

    def refused(self) -> int:
        return 0

    async def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        except TimeoutError:
            raise SendFailed(f"its name was not resolved within {_CONNECT_SECONDS:.0f} s") from None
        except (OSError, UnicodeError) as problem:
            raise SendFailed(_words(problem)) from problem
        family, kind, number, _, address = found[0]
        made = socket.socket(family, kind, number)
        made.setblocking(False)
        try:
            made.connect(address)
        except OSError as problem:
            made.close()
            raise SendFailed(_words(problem)) from problem
        self._socket = made


async def _hang_up(writer: asyncio.StreamWriter, *, politely: bool) -> None:
    """Receivers write a complaint into their own log about TLS that just ends."""
    if politely:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                writer.close()
                await writer.wait_closed()
    writer.transport.abort()


def _keep_alive(connected: Any) -> None:
    with suppress(OSError, AttributeError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)


def _in_kernel(connected: Any) -> int:
    """Bytes that were handed to the kernel and that the other machine has not confirmed: SIOCOUTQ of tcp(7)."""
    try:
        answer = fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, bytes(_UNCONFIRMED.size))
    except (OSError, ValueError):
        return 1 << 30
    return int(_UNCONFIRMED.unpack(answer)[0])


def _words(problem: Exception) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {problem.verify_message}; give the CA's with --ca (ca_pem)"
    if isinstance(problem, ssl.SSLError):
        return f"TLS failed: {problem.reason or problem}"
    if isinstance(problem, socket.gaierror):
        return f"its name is not known: {problem.strerror}"
    # The event loop's own words are "Connect call failed", whatever the reason.
    words = os.strerror(problem.errno) if isinstance(problem, OSError) and problem.errno else str(problem)
    return words[:1].lower() + words[1:] or type(problem).__name__
