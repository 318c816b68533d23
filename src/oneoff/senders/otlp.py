"""OTLP over HTTP, in JSON: what is answered with 2xx has arrived."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from datetime import datetime

from oneoff.core.clock import Clock, to_us
from oneoff.core.log_stream import Receiver, header_of
from oneoff.core.otlp import NOTHING, write_request
from oneoff.senders.client import HttpAnswer, HttpClient, NoAnswer
from oneoff.senders.sender import Lines, SendFailed
from oneoff.senders.tls import make_tls

_TIMEOUT_SECONDS = 30.0
_LONGEST_WAIT_SECONDS = 300.0
_REFUSED_FOR_CONTENT = (400, 413, 422)  # other refusals are about the request, and may be mended at the receiver


class OtlpSender:
    acknowledges = True
    failure = None

    def __init__(self, receiver: Receiver, token: str | None, ca_pem: str | None, clock: Clock) -> None:
        self._url = receiver.endpoint
        self._headers = {"Content-Type": "application/json", "Content-Encoding": "gzip", "User-Agent": "oneoff"}
        if token is not None:
            name, value = header_of(token)
            self._headers[name] = value
        self._clock = clock
        self._http: HttpClient | None = None
        self._tls = make_tls(ca_pem)
        self._refused = 0
        self.connected_since: datetime | None = None

    def on_failure(self, call: Callable[[], None]) -> None:
        """Every answer is waited for, so nothing is lost unnoticed."""

    async def check(self) -> None:
        """By an export of nothing."""
        answer = await self._post(NOTHING)
        if answer.status >= 300:
            raise _failure(answer)

    async def send(self, lines: Lines) -> int:
        body = await asyncio.to_thread(write_request, lines, to_us(self._clock.now()))
        answer = await self._post(body)
        if answer.status < 300:
            self._refused += _rejected(answer)
        elif answer.status not in _REFUSED_FOR_CONTENT:
            raise _failure(answer)
        elif len(lines) > 1:
            # It is too large, or one of them is wrong: that one alone must not hold up the others.
            middle = len(lines) // 2
            await self.send(lines[:middle])
            await self.send(lines[middle:])
        else:
            self._refused += 1
        return 0

    def arrived(self) -> int:
        return 0

    def refused(self) -> int:
        count, self._refused = self._refused, 0
        return count

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
        self._http = self.connected_since = None

    async def _post(self, body: bytes) -> HttpAnswer:
        if self._http is None:
            self._http = HttpClient(self._tls, _TIMEOUT_SECONDS)
        packed = await asyncio.to_thread(gzip.compress, body, 1)
        try:
            answer = await self._http.post(self._url, self._headers, packed)
        except NoAnswer as problem:
            raise SendFailed(str(problem)) from problem
        if self.connected_since is None and answer.status < 300:
            self.connected_since = self._clock.now()
        return answer


def _failure(answer: HttpAnswer) -> SendFailed:
    wait = answer.headers.get("retry-after", "")
    seconds = min(float(wait), _LONGEST_WAIT_SECONDS) if wait.isdigit() else None
    return SendFailed(f"it answered {answer.status}{_reason(answer)}", seconds)


def _reason(answer: HttpAnswer) -> str:
    """What the receiver says, as far as it is a short text."""
    try:
        told = json.loads(answer.body)
        words = str(told.get("message", "")) if isinstance(told, dict) else ""
    except (ValueError, RecursionError):
        words = ""
    words = "".join(char if char.isprintable() else " " for char in words)[:200]
    return f": {words}" if words else ""


def _rejected(answer: HttpAnswer) -> int:
    """Of a partial success. "The client MUST NOT retry the request"."""
    try:
        return max(0, int(json.loads(answer.body)["partialSuccess"]["rejectedLogRecords"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
