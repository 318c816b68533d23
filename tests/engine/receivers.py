"""Receivers of log streams that behave as a test wants: they take lines, hang, reset, refuse."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

_LINE = re.compile(
    rb"<(?P<pri>\d+)>1 \S+ (?P<host>\S+) (?P<app>\S+) (?P<proc>\S+) (?P<msgid>\S+) \[oneoff@32473 (?P<sd>[^\]]*)\] "
    rb"(?:\xef\xbb\xbf)?(?P<msg>.*)",
    re.DOTALL,
)


def parse(message: bytes) -> dict[str, Any]:
    """Parameters and text of a message."""
    match = _LINE.fullmatch(message)
    assert match is not None, message
    found: dict[str, Any] = dict(re.findall(r'(\w+)="([^"]*)"', match["sd"].decode()))
    return {**found, "position": int(found["position"]), "text": match["msg"].decode(errors="replace")}


class SyslogReceiver:
    """On loopback, with octet counting. `messages` are those that came whole."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.connections = 0
        self.hangs = False  # takes connections, reads nothing
        self.resets_after: int | None = None  # so many messages, of each connection
        self.port = 0
        self._tls: ssl.SSLContext | None = None
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> SyslogReceiver:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def use_tls(self, folder: Path) -> None:
        """With the certificate of tests/rig/rsyslog.py; before `start`."""
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def stop(self, *, abort: bool = True) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort() if abort else writer.close()
        self._server = None
        await asyncio.sleep(0)

    def lines_of(self, run_id: str) -> list[str]:
        """In the order of their positions, each once."""
        found = {each["position"]: each["text"] for each in self.messages if each["run"] == run_id}
        return [found[position] for position in sorted(found)]

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        left = self.resets_after
        try:
            while self.hangs:
                await asyncio.sleep(0.01)
            while True:
                length = int((await reader.readuntil(b" "))[:-1])
                message = await reader.readexactly(length)
                if left is not None:
                    left -= 1
                    if left < 0:
                        writer.transport.abort()
                        return
                self.messages.append(parse(message))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._writers.discard(writer)
            with suppress(OSError):
                writer.close()


class OtlpReceiver:
    """A small HTTP server. `answers` are statuses for the next requests; then 200."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.refuses_text: str | None = None  # a request that holds it is answered with 400
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> OtlpReceiver:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    def lines_of(self, run_id: str) -> list[str]:
        found = {}
        for request in self.requests:
            for resource in request["resourceLogs"]:
                for record in resource["scopeLogs"][0]["logRecords"]:
                    told = {each["key"]: each["value"] for each in record["attributes"]}
                    if told["oneoff.run.id"]["stringValue"] == run_id:
                        found[int(told["oneoff.log.position"]["intValue"])] = record["body"]["stringValue"]
        return [found[position] for position in sorted(found)]

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = {k.lower(): v for k, v in re.findall(r"^([\w-]+): (.*)\r$", head, re.MULTILINE)}
                body = gzip.decompress(await reader.readexactly(int(headers["content-length"])))
                self.headers.append(headers)
                status, more = self.answers.pop(0) if self.answers else (200, {})
                if self.refuses_text is not None and self.refuses_text.encode() in body:
                    status = 400
                if status == 200:
                    self.requests.append(json.loads(body))
                told = "".join(f"{name}: {value}\r\n" for name, value in more.items())
                writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: 2\r\n{told}\r\n{{}}".encode())
                await writer.drain()
        writer.close()
