"""HTTP/1.1 to one engine over kept connections, one exchange at a time on each. Called by `client`.

A general client library takes a millisecond of processor time for each call and 30 microseconds for each chunk: Docker
is called six times for a run and sends a log record as one chunk. So bytes are moved here, and parsed by httptools.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httptools

_PORT = 2375
_BLOCK = 1 << 18
_BUFFER = 1 << 16
_CONNECT_SECONDS = 10.0
_WRITE_SECONDS = 120.0
_MOST_KEPT = 32
_KEPT_SECONDS = 60.0
_INTERIM = (100, 102, 103)  # RFC 9110, 15.2: the answer comes behind these


class BrokenExchange(Exception):
    """No connection, no answer, an answer cut short, or one that is not HTTP. The request may have taken effect."""


@dataclass(frozen=True, slots=True)
class Request:
    """`head` ends behind its last header; an iterator's length must be among them. Seconds are those without a byte of
    the answer; None waits for ever. `is_live`: once it has begun, the answer may pause for as long as it likes."""

    head: bytes
    body: bytes | AsyncIterator[bytes]
    read_seconds: float | None
    is_live: bool


class Connections:
    """To `unix://path` or `tcp://host:port`, with TLS if a context is given. Safe for concurrent use, in any number:
    each going run holds two, its wait and its output."""

    def __init__(self, address: str, tls: ssl.SSLContext | None = None) -> None:
        self._address = address
        self._tls = tls
        self._kept: deque[_Connection] = deque()  # the one that rests longest first
        self._most_kept = _MOST_KEPT

    @asynccontextmanager
    async def exchange(self, request: Request) -> AsyncIterator[Answer]:
        """Send once, never again. The body of the answer is unread. Raises BrokenExchange, its methods too."""
        connection = self._take_kept() or await self._open()
        answer = Answer(connection.read, request)
        sending = connection.send(request)
        try:
            await answer.read_head()
            yield answer
        finally:
            if answer.is_reusable and sending is None and len(self._kept) < self._most_kept:
                connection.kept_since = asyncio.get_running_loop().time()
                self._kept.append(connection)
            else:
                connection.close()
            if sending is not None:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def close(self) -> None:
        """Those that are in use end with their exchanges."""
        self._most_kept = 0
        while self._kept:
            self._kept.pop().close()

    def _take_kept(self) -> _Connection | None:
        long_ago = asyncio.get_running_loop().time() - _KEPT_SECONDS
        while self._kept and self._kept[0].kept_since <= long_ago:
            self._kept.popleft().close()
        while self._kept:
            connection = self._kept.pop()
            if connection.is_open():
                return connection
            connection.close()
        return None

    async def _open(self) -> _Connection:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                scheme, _, rest = self._address.partition("://")
                if scheme == "unix":
                    return _Connection(*await asyncio.open_unix_connection(rest, limit=_BUFFER))
                url = urlsplit(f"//{rest}")
                opening = asyncio.open_connection(url.hostname, url.port or _PORT, ssl=self._tls, limit=_BUFFER)
                return _Connection(*await opening)
        except OSError as error:  # TimeoutError is one
            raise BrokenExchange(_words_of(error)) from error


class Answer:
    """Status, headers (lower case) and body of one exchange."""

    def __init__(self, read: Callable[[float | None], Awaitable[bytes]], request: Request) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._read = read
        self._request = request
        self._parsed = _Parsed(self.headers)
        self._parser = self._parsed.parser = httptools.HttpResponseParser(self._parsed)

    @property
    def is_reusable(self) -> bool:
        """May another request follow on its connection?"""
        return self._parsed.is_complete and self._parsed.may_follow

    async def read_head(self) -> None:
        while not self._parsed.has_head:
            if not (data := await self._read(self._request.read_seconds)):
                raise BrokenExchange("the connection was closed without an answer")
            self._feed(data)
        self.status = self._parser.get_status_code()

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([block async for block in self.blocks()])

    async def blocks(self) -> AsyncIterator[bytes]:
        """The body as it comes, in blocks of at most some 256 KiB."""
        is_live = self._request.is_live and self.status < 400  # a refusal is not
        seconds = None if is_live else self._request.read_seconds
        while True:
            if block := self._parsed.take():
                yield block
            if self._parsed.is_complete:
                return
            if not (data := await self._read(seconds)):
                if self._parsed.ends_with_the_connection:
                    return
                raise BrokenExchange("the answer was cut short")
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        if self._parsed.is_bare:
            self._parsed.on_body(data)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parsed.on_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._parsed.may_follow = False
            raise BrokenExchange(f"the answer is not HTTP: {error}") from error


@dataclass(slots=True)
class _Parsed:
    """What is known so far. httptools calls the first methods by these names."""

    headers: dict[str, str]
    parser: Any = None
    parts: list[bytes] = field(default_factory=list)
    has_head: bool = False
    is_bare: bool = False  # after an upgrade: the bytes behind the head are no HTTP
    is_complete: bool = False
    may_follow: bool = False  # another answer, on the same connection

    def on_message_begin(self) -> None:
        if self.is_complete:
            raise ValueError("one more answer than was asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.has_head = True

    def on_body(self, data: bytes) -> None:
        self.parts.append(data)

    def on_message_complete(self) -> None:
        if self.parser.get_status_code() in _INTERIM:
            self.has_head = False
            self.headers.clear()
            return
        self.is_complete, self.may_follow = True, self.parser.should_keep_alive()

    def on_upgrade(self, rest: bytes) -> None:
        self.is_bare, self.is_complete = True, False
        self.parts.append(rest)

    @property
    def ends_with_the_connection(self) -> bool:
        """RFC 9112, 6.3: a body of no told length."""
        return self.is_bare or not self.headers.keys() & {"content-length", "transfer-encoding"}

    def take(self) -> bytes:
        taken = b"".join(self.parts)
        self.parts.clear()
        return taken


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.kept_since = 0.0
        self._reader = reader
        self._writer = writer

    def is_open(self) -> bool:
        """Of a resting one. The socket itself is asked: the event loop may not have seen yet that it was closed."""
        if self._reader.at_eof() or self._writer.is_closing():
            return False
        look = select.poll()
        look.register(self._writer.get_extra_info("socket"), select.POLLIN)
        return not look.poll(0)

    def send(self, request: Request) -> asyncio.Task[None] | None:
        """A body that has yet to be read is sent while the answer is awaited: an engine that refuses it answers before
        it has all of it."""
        if isinstance(request.body, bytes):
            self._writer.write(b"%bContent-Length: %d\r\n\r\n%b" % (request.head, len(request.body), request.body))
            return None
        self._writer.write(request.head + b"\r\n")
        return asyncio.create_task(self._send_body(request.body))

    async def _send_body(self, body: AsyncIterator[bytes]) -> None:
        try:
            async for block in body:
                self._writer.write(block)
                async with asyncio.timeout(_WRITE_SECONDS):
                    await self._writer.drain()
        except Exception:  # whatever it is, there is no answer to wait for
            self.close()
            raise

    async def read(self, seconds: float | None) -> bytes:
        """b"" at the end."""
        try:
            async with asyncio.timeout(seconds):
                return await self._reader.read(_BLOCK)
        except OSError as error:  # TimeoutError is one: ours has no number, the kernel's has
            is_ours = isinstance(error, TimeoutError) and error.errno is None
            raise BrokenExchange(f"nothing came for {seconds} s" if is_ours else _words_of(error)) from error

    def close(self) -> None:
        self._writer.transport.abort()


def _words_of(error: Exception) -> str:
    return str(error) or type(error).__name__
